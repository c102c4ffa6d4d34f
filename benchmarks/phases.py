"""Where the processor time of a trial goes: python -m benchmarks.phases [--study FILE] [key=value ...]

Runs the trained trials of a study one after another in this process, each in a folder of its own, and prints
processor seconds and shares by phase. Each runs `--rounds` times, and the median of each phase counts; what a
process does once (preparing data, reading the vocabulary, fits) is in the first round alone. The aim is that
geometry and sanity together take at most 2%.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from unittest.mock import patch

from benchmarks.shared_start import QUICKSTART, finished
from softprior.inputs.labels import labels
from softprior.inputs.specs import TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.models.load import Loaded, load_local
from softprior.studies.plan import plan_study
from softprior.training import cost
from softprior.training.threads import limit_threads

CHECKS = ("geometry", "sanity")


def main() -> None:
    """Prints one line per trial."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.phases",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--study", type=Path, default=QUICKSTART)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("override", nargs="*", help="values to change, as training.steps=20")
    options = parser.parse_args()
    limit_threads(1)
    plan = plan_study(load_grid(options.study, tuple(options.override)), str(options.study))
    loaded, known = load_local(plan.study.model), labels(plan.trials)
    for spec in (trial for trial in plan.trials if trial.training is not None):
        rounds = [phases(spec, loaded) for _ in range(options.rounds)]
        seconds = {name: median(one[name] for one in rounds) for name in rounds[0]}
        whole = sum(seconds.values())
        told = ", ".join(f"{name} {own:.3f} ({own / whole:.1%})" for name, own in seconds.items() if own)
        checked = sum(seconds[name] for name in CHECKS) / whole
        print(f"{known[spec.id]}: {whole:.2f} s CPU; checks {checked:.2%}: {told}", flush=True)


def phases(spec: TrialSpec, loaded: Loaded) -> dict[str, float]:
    """Processor seconds of each phase of a trial."""
    # Records have seconds of the clock, which on a shared machine are other people's too.
    clock = SimpleNamespace(monotonic=time.process_time)
    with tempfile.TemporaryDirectory(prefix="softprior-phases-") as root, patch.object(cost, "time", clock):
        found, _ = finished(spec, loaded, Path(root))
    assert found.cost is not None
    return found.cost.seconds


if __name__ == "__main__":
    main()
