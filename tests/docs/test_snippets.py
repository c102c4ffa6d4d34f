"""What README and docs show runs as it stands there: Python, study files, and commands.

Blocks of Python run page by page, in order, in a scratch folder that has a finished study.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobs import activations, compare, connectivity, exchange, maps, pictures, report, study, ui
from jobs.tiny import __main__ as tiny
from softprior.activations.spec import ActivationsSpec
from softprior.inputs.specs import StudySpec
from softprior.inputs.study_files import parse_value
from softprior.inputs.validation import validate
from softprior.methods import METHODS
from softprior.priors import PRIORS
from softprior.regularisers import REGULARISERS
from softprior.studies.search.space import Space
from softprior.studies.search.spec import SearchStudy, load
from softprior.tasks import TASKS
from softprior.training.own_code import TABLES
from tests.builders import Finished, study_file

ROOT = Path(__file__).parents[2]

JOBS = {
    "activations": activations,
    "compare": compare,
    "connectivity": connectivity,
    "exchange": exchange,
    "maps": maps,
    "pictures": pictures,
    "report": report,
    "study": study,
    "tiny": tiny,
    "ui": ui,
}


class Block(NamedTuple):
    """A block of a page: where it stands, and what it says."""

    page: str
    line: int
    language: str
    text: str


def blocks() -> list[Block]:
    found = []
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        page = path.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
            line = page.count("\n", 0, match.start()) + 1
            found.append(Block(str(path.relative_to(ROOT)), line, match[1], match[2]))
    return found


BLOCKS = blocks()
PYTHON = sorted(
    {block.page for block in BLOCKS if block.language == "python"} - {"docs/api.md", "docs/own-data.md"}
)
"""Pages with Python, but for two that run a study, and have tests of their own: one among those that start
Ray, and `test_own_data.py`."""

FILES = [block for block in BLOCKS if block.language == "yaml"]


def commands() -> list[tuple[str, str]]:
    """Every command line of a job, by where it stands; lines that end with a backslash go on."""
    found = []
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        page = path.read_text(encoding="utf-8").replace("\\\n", " ")
        inline = re.findall(r"`(?:\S*/)?python -m (jobs\.[^`]*)`", page)
        shown = [
            line
            for block in re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
            for line in re.findall(r"python -m (jobs\.[^|\n]*)", block)
        ]
        found += [(path.name, command) for command in (*inline, *shown)]
    return found


def test_all_blocks_are_of_a_kind_that_is_tried() -> None:
    assert {block.language for block in BLOCKS} <= {"python", "yaml", "sh", "toml"}
    assert PYTHON
    assert FILES


def test_entry_points_are_of_the_groups_that_are_read() -> None:
    named = [tomllib.loads(block.text) for block in BLOCKS if block.language == "toml"]
    groups = {group for block in named for group in block["project"]["entry-points"]}
    assert groups
    assert groups <= {f"softprior.{table.axis}" for table in TABLES}


@pytest.mark.parametrize("page", PYTHON)
def test_python_runs(page: str, finished_study: Finished, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_study.folder.root, tmp_path / "results" / "quickstart")

    def bound(*arguments: Any, **named: Any) -> None:
        """Ranks are processes, which tests of their own start; here the call must be one."""
        inspect.signature(sharded.load_sharded).bind(*arguments, **named)

    names: dict[str, Any] = {}
    for block in (block for block in BLOCKS if block.page == page and block.language == "python"):
        code = block.text
        if "load_sharded" in code:
            from softprior.models import sharded

            code = code.replace("load_sharded(", "bound(")
            names["bound"] = bound
        exec(compile("\n" * block.line + code, block.page, "exec"), names)


@pytest.mark.parametrize("block", FILES, ids=lambda block: f"{block.page}:{block.line}")
def test_a_study_file_is_one(block: Block, tmp_path: Path) -> None:
    """A whole file as it is, a part of one in place of that part of a small one."""
    given = parse_value(block.text)
    given = {"priors": given} if isinstance(given, list) else given
    if "name" in given and "priors" not in given:
        validate(ActivationsSpec, given, block.page)
        return
    ranges = "{search:" in block.text
    file = study_file(tmp_path / "small.yaml", **({"search": {"trials": 3}} if ranges else {}))
    if "name" not in given:
        given = parse_value(file.read_text(encoding="utf-8")) | given
    file.write_text(json.dumps(given), encoding="utf-8")
    found = load(file)
    if isinstance(found, SearchStudy):
        corners = Space(found, str(file)).corners()
        studies = [validate(StudySpec, corner, str(file)) for corner in corners]
    else:
        studies = [found]
    for one in studies:
        for table, axis in ((PRIORS, "priors"), (METHODS, "methods"), (TASKS, "tasks")):
            for entry in getattr(one, axis):
                table.component(entry, block.page, axis)
        for several in one.regularisers:
            for entry in several:
                REGULARISERS.component(entry, block.page, "regularisers")


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_line_is_understood(page: str, command: str) -> None:
    job, *arguments = shlex.split(command, comments=True)
    options = JOBS[job.removeprefix("jobs.")]._parser()
    if arguments:
        options.parse_intermixed_args(arguments) if job != "jobs.exchange" else options.parse_args(arguments)
    for name in (argument for argument in arguments if argument.startswith("jobs/")):
        assert (ROOT / name).exists()
