"""Studies at once on one machine and one cache that is empty at first: python -m benchmarks.together

Four commands start at the same moment: a study on `tiny` twice, with results in two folders, another study
of the same task, and the first study once more in the folder of the first. Checked is that the last one is
refused, that the others end well, that the two runs of one study are equal to the last bit, that nothing in
the cache was built twice, and that no lock is held and nothing half-built is left.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from benchmarks.layouts import STUDY, compared
from benchmarks.overhead import own_cluster
from softprior.results.folder import StudyFolder

SMALL = STUDY | {"training": {"steps": 5, "batch": 8}, "resources": {"cpus": 1, "concurrent": 1}}

STUDIES = {"one": SMALL, "other": SMALL | {"name": "other", "priors": ["vocabulary", "fitted"]}}

RUNS = [("one", "first"), ("one", "second"), ("other", "first"), ("one", "first")]
"""Study and results folder of each command."""

REFUSED = "another process is running in"

WATCH = """
import os, sys

def watch(event, arguments):
    if event == "os.rename" and str(arguments[0]).endswith(".building"):
        with open(os.environ["BUILT"], "a") as log:
            log.write(f"{arguments[1]}\\n")

sys.addaudithook(watch)
"""
"""Run by Python as it starts, in workers too: notes what is put into the cache."""


def main() -> None:
    """Prints what was built and the verdict; the status is 1 if anything is wrong."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.together",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    with tempfile.TemporaryDirectory(prefix="softprior-together-") as name:
        wrong = list(faults(Path(name)))
    print("\n".join(wrong) or "nothing is wrong")
    sys.exit(1 if wrong else 0)


def faults(folder: Path) -> Iterator[str]:
    """Runs everything in a folder; yields what is wrong."""
    (folder / "sitecustomize.py").write_text(WATCH)
    for name, study in STUDIES.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(study))
    paths = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    cache, built = folder / "cache", folder / "built.txt"
    environment = own_cluster() | {"SOFTPRIOR_CACHE": str(cache), "PYTHONPATH": paths, "BUILT": str(built)}
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [
        subprocess.Popen(  # noqa: S603  our own
            [
                sys.executable,
                "-m",
                "jobs.study",
                f"{folder}/{study}.yaml",
                "--results",
                f"{folder}/{results}",
            ],
            **options,  # type: ignore[call-overload]
        )
        for study, results in RUNS
    ]
    ends = [(process.communicate()[0], process.returncode) for process in processes]
    refused = [output for output, status in ends if status == 2 and REFUSED in output]
    if len(refused) != 1:
        yield f"{len(refused)} of two commands for one folder are refused"
    yield from (output for output, status in ends if status and output not in refused)

    one, two = (StudyFolder(folder / name / "layouts") for name in ("first", "second"))
    said = compared(one, two)
    print(f"two runs of one study: {said}")
    if "apart" in said:
        yield "two runs of one study differ"
    times = Counter(built.read_text().splitlines())
    print(f"{len(times)} entries of the cache, each built once: {set(times.values()) == {1}}")
    yield from (f"{entry} was built {count} times" for entry, count in times.items() if count > 1)
    yield from (f"{path} is left" for path in cache.rglob(".*.building"))
    for path in [*cache.rglob("*.lock"), *folder.glob("*/*/.lock")]:
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield f"{path} is held"
        else:
            lock.release()


if __name__ == "__main__":
    main()
