"""Runs benchmarks, keeps their results and renews docs/performance.md: python -m benchmarks

Each benchmark runs in a process of its own, which interleaves its rounds. The results go to a file of
JSON lines in benchmarks/results, whose first line says where, when and beside what they were measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import processor, python_version

from benchmarks.page import RESULTS, Header, table, write_page
from benchmarks.result import Result

ROWS = {
    "step": ["benchmarks.peft_step", "--pairs", "{rounds}"],
    "step-deep": ["benchmarks.peft_step", "--method", "deep", "--pairs", "{rounds}"],
    "step-prefix": ["benchmarks.peft_step", "--method", "prefix", "--pairs", "{rounds}"],
    # A pass of PEFT takes 8.8 GB with 16 rows, and with 32 no longer fits 24 GB beside softprior's steps.
    "step-32": ["benchmarks.peft_step", "--batch", "32", "--pieces", "2", "--pairs", "{rounds}"],
    "trainer": ["benchmarks.trainer_step", "--rounds", "{rounds}"],
    "trainer-prefix": ["benchmarks.trainer_step", "--method", "prefix", "--rounds", "{rounds}"],
    "trainer-32": [
        *("benchmarks.trainer_step", "--batch", "32", "--pieces", "2", "--steps", "8"),
        *("--rounds", "{rounds}"),
    ],
    "methods": ["benchmarks.method_step", "--rounds", "{rounds}"],
    "generation": ["benchmarks.generation", "--rounds", "{rounds}"],
    "statistics": ["benchmarks.activations", "--rounds", "{rounds}", "--tokens", "8000"],
    "study": ["benchmarks.peer_tune", "--shuffle", "--rounds", "{rounds}"],
    "rates": ["benchmarks.peer_tune", "--shuffle", "--rates", "4", "--rounds", "{rounds}"],
    "hosted": [
        *("benchmarks.hosted", "--trials", "4", "--context", "160", "--steps", "6", "--tokens", "1080"),
        *("--rounds", "{rounds}"),
    ],
    "start": ["benchmarks.first_step", "--floor", "--runs", "{rounds}"],
    "growth": ["benchmarks.overhead", "--rounds", "{rounds}", "--trials", "100", "--dry-run-trials", "0"],
    "growth-1000": ["benchmarks.overhead", "--rounds", "1", "--trials", "1000", "--dry-run-trials", "0"],
    "growth-5000": ["benchmarks.overhead", "--rounds", "1", "--trials", "5000", "--dry-run-trials", "0"],
    "contention": ["benchmarks.contention", "--rounds", "{rounds}"],
    "plan": ["benchmarks.overhead", "--rounds", "{rounds}", "--trials", "0"],
}
"""What can be run, by its word for `--only`."""

QUIET = 0.5
"""Load average of the last minute below which the machine counts as quiet."""


def measured(words: list[str]) -> list[Result]:
    """The results that a benchmark tells; what it prints besides goes to the terminal."""
    found = []
    command = [sys.executable, "-m", *words, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  our own words
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('{"result": '):
                found.append(Result(**json.loads(line)["result"]))
            else:
                print(line, end="", flush=True)
    if process.returncode:
        sys.exit(f"{' '.join(words)} failed; none of its results is kept")
    return found


def header(asked: list[str], rounds: int) -> Header:
    """This machine, now."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(": ")[2].strip() for line in lines if line.startswith("model name")), processor()
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607  the git of the path
        capture_output=True,
        text=True,
        check=True,
    )
    load = os.getloadavg()[0]
    return Header(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=f"{model}, {os.cpu_count()} cores",
        load=round(load, 2),
        quiet=load < QUIET,
        commit=commit.stdout.strip(),
        versions={"python": python_version()}
        | {name: version(name) for name in ("torch", "transformers", "ray")},
        command=f"python -m benchmarks --only {','.join(asked)} --rounds {rounds}",
    )


def main() -> None:
    """Runs what is asked for, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default=",".join(ROWS), help=f"of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="number of interleaved rounds (default: 3)")
    parser.add_argument("--page", action="store_true", help="only renew docs/performance.md")
    options = parser.parse_args()
    if options.page:
        write_page()
        return
    names = options.only.split(",")
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"--only takes {', '.join(ROWS)}, not {unknown[0]!r}")
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {options.rounds}")
    first = header(names, options.rounds)
    path = RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.jsonl"
    found: list[Result] = []
    for name in names:
        found += measured([word.format(rounds=options.rounds) for word in ROWS[name]])
        # After each part: what hours have measured does not depend on the parts behind it.
        lines = [asdict(first), *map(asdict, found)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        write_page()
    print(table([(first, found)]))
    print(f"kept in {path}; docs/performance.md is renewed")


if __name__ == "__main__":
    main()
