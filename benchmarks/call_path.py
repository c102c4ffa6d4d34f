"""The way of a study through the driver, call by call: python -m benchmarks.call_path

A study of one prior on `tiny` runs as `python -m jobs.study` runs it, with Ray and MLflow, and then again,
when all its trials are finished and Ray is not needed. A *place* is a function of jobs, analysis or softprior
that is given the study, the values of its file or its plan, as an argument or from the function around it;
methods of a plan are places too. A *step back up* is a call of a place in a module that imports the caller's,
itself or through others. Each place and each step counts once.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

import torch
import yaml

ROOT = Path(__file__).parents[1]
"""The root of the checkout. Calls in its folders `jobs`, `analysis` and `platform/softprior` are followed."""

PACKAGES = (ROOT / "jobs", ROOT / "analysis", ROOT / "platform" / "softprior")

STUDY = {
    "name": "path",
    "model": {"id": "tiny", "device": "cpu"},
    "priors": ["isotropic"],
    "methods": [{"soft": {"tokens": 2}}],
    "tasks": [{"arithmetic": {"modules": ["two_digit_addition"]}}],
    "rates": [1e-3],
    "seeds": [0],
    "training": {"steps": 1, "batch": 1, "snapshots": 0},
    "evaluation": {"examples": 1, "generate": 0, "batch": 1, "context_shuffle": False},
    "resources": {"cpus": 1},
}


class Call(NamedTuple):
    """The study goes from one function to another, each as `module:name`; from nowhere if a library calls."""

    source: str
    target: str

    @property
    def up(self) -> bool:
        """Whether the module that is called imports the one that calls."""
        above, below = (name.partition(":")[0] for name in (self.target, self.source))
        return above != below and below in reached(above)


def followed(run: Callable[[], object], carriers: tuple[type, ...]) -> list[Call]:
    """The calls that hand on a study while something runs, in order, each once.

    They are those of the calling thread and of threads that are started meanwhile. Torch has one thread, so
    that a model hands no pass to threads of `softprior.models.lanes` that were there before.
    """
    found: dict[Call, None] = {}
    threads = torch.get_num_threads()

    def look(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and (target := place(frame.f_code)) and given(frame, carriers):
            found[Call(caller(frame), target)] = None

    torch.set_num_threads(1)
    sys.setprofile(look)
    threading.setprofile(look)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        torch.set_num_threads(threads)
    return list(found)


@cache
def place(code: CodeType) -> str:
    """A function of the project; empty for those of libraries, comprehensions and the interpreter's own."""
    path = Path(code.co_filename)
    if code.co_name in ("<module>", "<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"):
        return ""
    if not any(path.is_relative_to(folder) for folder in PACKAGES):
        return ""
    return f"{module(path)}:{code.co_qualname}"


def given(frame: FrameType, carriers: tuple[type, ...]) -> bool:
    """Whether a function has a study when it is called, as an argument or from the function around it."""
    code, values = frame.f_code, frame.f_locals
    names = (*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount], *code.co_freevars)
    return any(isinstance(values.get(name), carriers) for name in names)


def caller(frame: FrameType) -> str:
    """The function of the project that a call comes from, through libraries and comprehensions."""
    before = frame.f_back
    while before is not None and not (found := place(before.f_code)):
        before = before.f_back
    return found if before is not None else ""


def module(path: Path) -> str:
    """The dotted name of a file."""
    base = ROOT / "platform" if path.is_relative_to(ROOT / "platform") else ROOT
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Every module of the project."""
    return {module(path): path for folder in PACKAGES for path in folder.rglob("*.py")}


@cache
def reached(name: str) -> frozenset[str]:
    """The modules that one imports, itself or through others, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    own = found & modules().keys() - {name, "softprior"}
    return frozenset(own.union(*map(reached, own)))


def main() -> None:
    """Runs the study twice and prints both ways, and how many places, modules and steps back up they have."""
    from jobs.study import main as command
    from softprior.inputs.specs import StudySpec
    from softprior.studies.plan import Plan

    about = (__doc__ or "").splitlines()[0]
    argparse.ArgumentParser(prog="python -m benchmarks.call_path", description=about).parse_args()
    with tempfile.TemporaryDirectory(prefix="softprior-path-") as folder:
        file = Path(folder) / "path.yaml"
        file.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
        statuses: list[int] = []

        def run() -> None:
            statuses.append(command([str(file), "--results", folder]))

        runs = [followed(run, (StudySpec, Plan)) for _ in range(2)]
    if any(statuses):
        sys.exit("the study did not run to its end, so its way was not measured; run this again")
    for what, calls in zip(("first run, with Ray", "second run, without"), runs, strict=True):
        print(f"{what}:")
        for call in calls:
            print(f"{'up  ' if call.up else '    '}{call.source} -> {call.target}")
        places = {call.target for call in calls}
        rooms = {name.partition(":")[0] for name in places}
        steps = sum(call.up for call in calls)
        print(f"{len(places)} places in {len(rooms)} modules, {steps} steps back up")


if __name__ == "__main__":
    main()
