"""Runs benchmarks, keeps their results and renews docs/performance.md: python -m benchmarks

Each benchmark runs in a process of its own, which interleaves its rounds. The results go to a file of
JSON lines in benchmarks/results; before those of each part a line says where, when and beside what they
were measured. All parts take hours: what has ended is kept, and --resume runs the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import processor, python_version

from benchmarks.page import RESULTS, Found, Header, found_in, kept, table, write_page
from benchmarks.result import Result


@dataclass(frozen=True)
class Part:
    """A benchmark that can be asked for.

    Attributes:
        words: its module and arguments; `{rounds}` is the number of rounds where that can be chosen.
        minutes: what a round took on two virtual cores of an AMD EPYC.
        rounds: number of rounds if none is asked for: fewer where a round takes long.
    """

    words: tuple[str, ...]
    minutes: float
    rounds: int = 3

    def asked(self, rounds: int | None) -> int:
        """The number of rounds that are run when this many are asked for."""
        return self.rounds if rounds is None or "{rounds}" not in self.words else rounds


def _part(words: str, minutes: float, rounds: int = 3) -> Part:
    return Part(tuple(words.split()), minutes, rounds)


PARTS = {
    "step": _part("peft_step --pairs {rounds}", 6),
    "step-deep": _part("peft_step --method deep --pairs {rounds}", 6),
    "step-prefix": _part("peft_step --method prefix --pairs {rounds}", 6),
    "trainer": _part("trainer_step --rounds {rounds}", 7, 1),
    "trainer-prefix": _part("trainer_step --method prefix --rounds {rounds}", 7, 1),
    "methods": _part("method_step --rounds {rounds}", 1),
    "frozen": _part("frozen --threads 1 --rounds {rounds}", 1),
    "generation": _part("generation --rounds {rounds}", 2),
    "statistics": _part("activations --rounds {rounds} --tokens 8000", 3),
    "study": _part("peer_tune --shuffle --rounds {rounds}", 18, 1),
    "rates": _part("peer_tune --shuffle --rates 4 --rounds {rounds}", 18, 1),
    "hosted-2": _part("hosted --trials 2 --context 160 --steps 6 --tokens 1080 --rounds {rounds}", 6, 1),
    "hosted-8": _part("hosted --trials 8 --context 160 --steps 6 --tokens 1080 --rounds {rounds}", 20, 1),
    "hosted": _part("hosted --trials 4 --context 160 --steps 6 --tokens 1080 --rounds {rounds}", 10, 1),
    "start": _part("first_step --floor --runs {rounds}", 2),
    "growth": _part("overhead --rounds {rounds} --trials 100 --dry-run-trials 0", 5, 1),
    "growth-1000": _part("overhead --rounds 1 --trials 1000 --dry-run-trials 0", 11, 1),
    "contention": _part("contention --rounds {rounds}", 1),
    "plan": _part("overhead --rounds {rounds} --trials 0", 0.5),
    # Batches of 32 rows, and the longest study, come last.
    "trainer-32": _part("trainer_step --batch 32 --pieces 2 --steps 8 --rounds {rounds}", 12, 1),
    "trainer-prefix-32": _part(
        "trainer_step --method prefix --batch 32 --pieces 2 --steps 8 --rounds {rounds}", 12, 1
    ),
    # A pass of PEFT takes 8.8 GB with 16 rows, and with 32 no longer fits 24 GB beside softprior's steps.
    "step-32": _part("peft_step --batch 32 --pieces 2 --pairs {rounds}", 25, 1),
    "step-deep-32": _part("peft_step --method deep --batch 32 --pieces 2 --pairs {rounds}", 24, 1),
    "step-prefix-32": _part("peft_step --method prefix --batch 32 --pieces 2 --pairs {rounds}", 21, 1),
    "growth-5000": _part("overhead --rounds 1 --trials 5000 --dry-run-trials 0", 60, 1),
}
"""What can be run, by its word for `--only`."""

MOMENT = "%Y-%m-%dT%H%M%S"
"""How a time is written in names of files and in headers, so that later ones come later."""

QUIET = 0.5
"""Load average of the last minute below which the machine counts as quiet."""

SETTLING = 180
"""Most seconds to wait for that before a part: what the part before it has left is gone by then."""


def measured(part: Part, rounds: int) -> list[Result]:
    """The results that a benchmark tells; what it prints besides goes to the terminal."""
    found = []
    module, *words = (word.format(rounds=rounds) for word in part.words)
    started = [sys.executable, "-m", f"benchmarks.{module}", *words, "--json"]
    with subprocess.Popen(started, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  our own words
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('{"result": '):
                found.append(Result(**json.loads(line)["result"]))
            else:
                print(line, end="", flush=True)
    if process.returncode:
        sys.exit(f"{' '.join(started[2:])} failed; none of its results is kept")
    return found


def header(name: str, rounds: int) -> Header:
    """This machine, now."""
    load, now = os.getloadavg()[0], datetime.now(UTC)
    machine, versions = here()
    return Header(
        date=f"{now:%Y-%m-%d}",
        began=f"{now:{MOMENT}}",
        machine=machine,
        load=round(load, 2),
        quiet=load < QUIET,
        commit=commit(),
        versions=versions,
        command=command(name, rounds),
    )


def here() -> tuple[str, dict[str, str]]:
    """This machine, and the versions that are installed."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(": ")[2].strip() for line in lines if line.startswith("model name")), processor()
    )
    # Builds of one version of Python differ by a fifth in what Python itself takes.
    versions = {"python": f"{python_version()}, {sys.base_prefix}"}
    versions |= {name: version(name) for name in ("torch", "transformers", "ray")}
    return f"{model}, {os.cpu_count()} cores", versions


def command(name: str, rounds: int) -> str:
    """What runs a part again."""
    return f"python -m benchmarks --only {name} --rounds {rounds}"


def commit() -> str:
    """The commit; "-dirty" if a file differs from it or is not in it, but for those that benchmarks write."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603,S607

    ours = [f":(exclude,top){path}" for path in ("benchmarks/results", "docs/performance.md")]
    changed = git("status", "--porcelain", "--", ":/", *ours)
    return git("describe", "--always") + ("-dirty" if changed else "")


def settle() -> None:
    """Waits until the machine is quiet, if it becomes so."""
    deadline = time.monotonic() + SETTLING
    while os.getloadavg()[0] >= QUIET and time.monotonic() < deadline:
        time.sleep(5)


def main() -> None:
    """Says what it will run and how long that takes, runs it, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument(
        "--rounds",
        type=int,
        help="number of interleaved rounds of all parts but growth-1000 and growth-5000 "
        "(default: a part's own)",
    )
    parser.add_argument("--resume", type=Path, help="a file of results: run what it lacks, and add to it")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--plan", action="store_true", help="only say what would run, and for how long")
    only.add_argument("--page", action="store_true", help="only renew docs/performance.md")
    options = parser.parse_args()
    try:
        kept()  # says at once, not hours later, which file of results is damaged
    except ValueError as error:
        parser.error(str(error))
    if options.page:
        write_page()
        return
    names = list(PARTS) if options.only is None else options.only.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"--only takes {', '.join(PARTS)}, not {unknown[0]!r}")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {options.rounds}")
    path = options.resume or RESULTS / f"{datetime.now(UTC):{MOMENT}}.jsonl"
    if path.resolve().parent != RESULTS or path.suffix != ".jsonl":
        parser.error(f"--resume takes a .jsonl file in {RESULTS}, not {path}")
    known = found_in(path) if path.is_file() else []
    if options.resume and not known:
        print(f"{path} has no results yet")
    asked = {name: PARTS[name].asked(options.rounds) for name in names}
    asked = unfinished(asked, known, here())
    print(plan(asked))
    if options.plan or not asked:
        return
    again = [*([f"--only {options.only}"] if options.only else []), f"--resume {path}"]
    again += [f"--rounds {options.rounds}"] if options.rounds else []
    print(f"after a stop: python -m benchmarks {' '.join(again)}", flush=True)
    for name, rounds in asked.items():
        settle()
        first, results = header(name, rounds), measured(PARTS[name], rounds)
        # After each part: what hours have measured does not depend on the parts behind it.
        lines = "".join(json.dumps(line) + "\n" for line in [asdict(first), *map(asdict, results)])
        whole = path.with_suffix(".new")
        whole.write_text((path.read_text() if path.exists() else "") + lines)
        whole.replace(path)
        write_page()
    print(table(found_in(path)))
    print(f"kept in {path}; docs/performance.md is renewed")


def unfinished(
    asked: dict[str, int], known: Sequence[Found], place: tuple[str, dict[str, str]]
) -> dict[str, int]:
    """The parts, with their rounds, that have no results of this place among those that are known.

    Args:
        place: a machine and the versions that are installed.
    """
    ended = {
        first.command for first, results in known if results and (first.machine, first.versions) == place
    }
    return {name: rounds for name, rounds in asked.items() if command(name, rounds) not in ended}


def plan(asked: dict[str, int]) -> str:
    """What will run, and for how long."""
    if not asked:
        return "all that was asked for is measured"
    lines = [f"{name}: {rounds} x {PARTS[name].minutes:g} min" for name, rounds in asked.items()]
    minutes = sum(rounds * PARTS[name].minutes for name, rounds in asked.items())
    waits = len(asked) * SETTLING / 60
    whole = f"{minutes / 60:.1f} to {(minutes + waits) / 60:.1f} hours"
    return "\n".join((*lines, f"{whole} on two virtual cores of an AMD EPYC, with waits until it is quiet"))


if __name__ == "__main__":
    main()
