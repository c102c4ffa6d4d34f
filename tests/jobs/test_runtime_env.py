"""What `ray job submit` sends along has all of the package."""

from __future__ import annotations

from pathlib import Path

import yaml
from ray._private.runtime_env.packaging import _get_excludes

ROOT = Path(__file__).parents[2]


def test_nothing_of_the_package_is_left_out() -> None:
    sent = yaml.safe_load((ROOT / "jobs" / "runtime_env.yaml").read_text())
    for module in sent["py_modules"]:
        left_out = _get_excludes(ROOT / module, sent["excludes"])
        files = [path for path in (ROOT / module).rglob("*") if "__pycache__" not in path.parts]
        assert len(files) > 200
        assert not [path for path in files if left_out(path)]
