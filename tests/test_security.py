"""What docs/security.md says of softprior's own source and files, and that the tests it names exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from jobs.ui import _parser

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "security.md"

RUNS = {
    "pickle.load",
    "pickle.loads",
    "torch.load",
    "exec",
    "eval",
    "os.system",
    "yaml.unsafe_load",
    "os.popen",
}
"""Calls that may run code which they are given as data."""

CLOCK = {"time.time", "datetime.now", "datetime.utcnow", "datetime.today"}
"""Calls that ask the clock on the wall, which may jump."""


@cache
def calls() -> dict[str, list[ast.Call]]:
    """Every call of the platform, the commands and the analysis, by file."""
    found = {}
    for folder in ("platform/softprior", "jobs", "analysis"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            name = path.relative_to(ROOT).as_posix()
            found[name] = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return found


def places(names: set[str]) -> set[tuple[str, str]]:
    return {
        (file, name)
        for file, nodes in calls().items()
        for node in nodes
        if (name := ast.unparse(node.func)) in names
    }


def keywords(name: str) -> Iterator[tuple[str, str]]:
    """The values of an argument by this name, with the call's function."""
    for nodes in calls().values():
        for node in nodes:
            for keyword in node.keywords:
                if keyword.arg == name:
                    yield ast.unparse(node.func), ast.unparse(keyword.value)


def test_code_is_run_in_two_places_alone() -> None:
    """A file that the user names with --code, and values between a process and those that it has started."""
    assert places(RUNS) == {
        ("platform/softprior/training/own_code.py", "exec"),
        ("platform/softprior/models/rank_group.py", "pickle.loads"),
    }


def test_code_of_models_is_never_trusted_and_no_shell_is_used() -> None:
    assert {value for _, value in keywords("trust_remote_code")} == {"False"}
    assert list(keywords("shell")) == []


def test_the_clock_on_the_wall_is_asked_for_what_is_written_down_alone() -> None:
    """Durations and deadlines are those of a clock that does not jump. The exception is the age of a folder
    that a batch job may have left, beside a lock that says whether somebody has it."""
    assert {file for file, _ in places(CLOCK)} == {
        "platform/softprior/tracking/clock.py",
        "analysis/report/page.py",
        "jobs/slurm/scratch.py",
    }


def test_pages_are_served_to_this_machine_alone() -> None:
    assert _parser().parse_args([]).host == "127.0.0.1"
    assert "--dashboard-host=127.0.0.1" in (ROOT / "cluster-local.yaml").read_text(encoding="utf-8")
    for file in ("cluster.yaml", "cluster-local.yaml"):
        assert "RAY_AUTH_MODE=token" in (ROOT / file).read_text(encoding="utf-8")


def test_the_tests_that_the_page_names_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 15
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), (file, name)
