"""`import platform` gives the standard library's, though the source root has the same name."""

import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STANDARD = Path(sysconfig.get_path("stdlib"))


def from_root(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A process in the checkout, set up by nothing but the environment's interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_under_pytest():
    assert Path(platform.__file__).parent == STANDARD
    assert platform.python_version() == sys.version.split()[0]


@pytest.mark.parametrize("first", ["", "import softprior; ", "import softprior.training.environment; "])
def test_from_the_root(first):
    found = from_root("-c", f"{first}import platform; print(platform.__file__); platform.node()")
    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()).parent == STANDARD


def test_the_study_command_starts_from_the_root():
    found = from_root("-m", "jobs.study", "--help")
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("usage: python -m jobs.study")


def test_the_source_root_is_no_package():
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert (ROOT / "platform" / "softprior" / "__init__.py").exists()
