"""Whether numbers depend on how a study is laid out: python -m benchmarks.layouts

The same trials on `tiny` (`soft`, `deep` and `prefix` from `isotropic` and `fitted`, 30 steps) run in one
process with one thread, without Ray. Then again, each time in processes of their own, in a layout that has
to give the same bits, and in others whose sums are in another order. Prints how many trials are equal to the
last bit (curves, test result, final vectors), and how far the others are apart: losses in nats, vectors in
lengths of the vectors.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from benchmarks.overhead import own_cluster
from softprior.inputs.study_files import load_grid
from softprior.models.load import load_local
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import Record, load_records
from softprior.studies.plan import plan_study
from softprior.training.setup import Setup
from softprior.training.threads import limit_threads
from softprior.training.trial import Trial


class Layout(NamedTuple):
    """A way to run the study.

    Attributes:
        values: of the study file that it changes.
        threads: of a process without Ray; None runs the command.
        variables: of the environment.
        without_onednn: whether torch does without that library.
        like: the layout with which it is compared.
    """

    values: dict[str, Any] = {}
    threads: int | None = None
    variables: dict[str, str] = {}
    without_onednn: bool = False
    like: str = "one process"


def resources(cpus: int, concurrent: int) -> dict[str, Any]:
    return {"resources": {"cpus": cpus, "concurrent": concurrent}}


SHARED = {"placement": {"hosts": "shared", "cpus": 1}}
BFLOAT16 = {"model": {"id": "tiny", "device": "cpu", "dtype": "bfloat16"}}

OLDER = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
"""Has torch and MKL compute as on a processor without vector extensions."""

LAYOUTS = {
    "one process": Layout(threads=1),
    "another process": Layout(threads=1),
    "one worker with one CPU": Layout(resources(1, 1)),
    "two workers at once": Layout(resources(1, 2)),
    "two threads": Layout(threads=2),
    "without oneDNN": Layout(threads=1, without_onednn=True),
    "as on an older processor": Layout(threads=1, variables=OLDER),
    "packed: four trials on one copy": Layout(SHARED | resources(1, 4)),
    "bfloat16": Layout(BFLOAT16, threads=1),
    "bfloat16 without oneDNN": Layout(BFLOAT16, threads=1, without_onednn=True, like="bfloat16"),
}

STUDY: dict[str, Any] = {
    "name": "layouts",
    "model": {"id": "tiny", "device": "cpu"},
    "priors": [{"isotropic": {"scale": 0.1}}, "fitted"],
    "methods": [{name: {"tokens": 8}} for name in ("soft", "deep", "prefix")],
    "tasks": [{"arithmetic": {"modules": ["two_digit_addition"]}}],
    "rates": [{"relative": 0.03}],
    "seeds": [0],
    "training": {"steps": 30, "batch": 8, "warmup": 3, "schedule": "cosine"},
    "evaluation": {"examples": 64, "generate": 0},
    "tracking": {"enabled": False},
}


def main() -> None:
    """Prints a line for each layout."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.layouts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", help="words of a layout's name (default: all)")
    parser.add_argument("--work-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--without-onednn", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work_of:
        limit_threads(options.threads)
        with torch.backends.mkldnn.flags(enabled=not options.without_onednn):
            work(options.work_of)
        return
    with tempfile.TemporaryDirectory(prefix="softprior-layouts-") as temporary:
        runs = {said: Path(temporary) / said.partition(":")[0] for said in LAYOUTS}
        for said, layout in LAYOUTS.items():
            if options.only in said and said != layout.like:
                right, found = (run(runs[one], LAYOUTS[one]) for one in (layout.like, said))
                print(f"{said}, with {layout.like}: {compared(right, found)}", flush=True)


def run(folder: Path, layout: Layout) -> StudyFolder:
    """Runs the study in a layout, unless it has run; returns its results."""
    results = StudyFolder(folder / "layouts")
    if folder.exists():
        return results
    folder.mkdir()
    study = folder / "study.yaml"
    study.write_text(yaml.safe_dump(STUDY | layout.values))
    if layout.threads is None:
        command = ["-m", "jobs.study", str(study), "--results", str(folder)]
    else:
        command = ["-m", "benchmarks.layouts", "--work-of", str(folder), "--threads", str(layout.threads)]
        command += ["--without-onednn"] * layout.without_onednn
    options: dict[str, Any] = {"env": own_cluster() | layout.variables, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, *command], check=False, **options)  # noqa: S603  our own
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return results


def work(folder: Path) -> None:
    """Runs the trials of the study in a folder one after another."""
    spec = load_grid(folder / "study.yaml")
    given, results = load_local(spec.model), StudyFolder(folder / "layouts")
    for trial in plan_study(spec).trials:
        Trial(Setup(trial, *given), results, lambda _: None).run()


def compared(right: StudyFolder, found: StudyFolder) -> str:
    """How the trials of two runs differ, in words."""
    pairs = [trained(folder) for folder in (right, found)]
    equal, first, last, vectors = 0, 0.0, 0.0, []
    for key, one in pairs[0].items():
        other = pairs[1][key]
        a, b = (load_posterior(f.posterior(r.id)).final for f, r in ((right, one), (found, other)))
        moved = sum(float((a[place] - b[place]).norm() ** 2) for place in a)
        vectors.append((moved / sum(float(a[place].norm() ** 2) for place in a)) ** 0.5)
        same = (one.steps, one.validation, one.test) == (other.steps, other.validation, other.test)
        equal += same and not moved
        assert one.test is not None
        assert other.test is not None
        first = max(first, abs(one.steps[0].loss - other.steps[0].loss))
        last = max(last, abs(one.test.loss - other.test.loss))
    said = f"{equal} of {len(vectors)} trials equal to the last bit"
    apart = (
        f"{first:.1e} nats in the first step, {last:.1e} in the test loss, {max(vectors):.1e} in the vectors"
    )
    return said if equal == len(vectors) else f"{said}; apart by at most {apart}"


def trained(folder: StudyFolder) -> dict[str, Record]:
    """Trained trials by what a layout does not change."""
    records = load_records(folder.records).values()
    return {
        json.dumps([one.spec.method.canonical(), one.spec.prior.canonical()]): one
        for one in records
        if one.spec.prior is not None
    }


if __name__ == "__main__":
    main()
