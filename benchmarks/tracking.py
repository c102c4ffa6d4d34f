"""What a large study costs in MLflow: python -m benchmarks.tracking --trials 1000

Records of generated trials are sent to an SQLite database as a study sends them at its end. Then the first
page that the pages load (100 trials, the lowest test loss first) is asked for, with the view that compares
trials and with the tag of that view deleted, in turn.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.report import large_study
from softprior.results.folder import StudyFolder
from softprior.tracking.client import default_uri, open_experiment
from softprior.tracking.mlflow_private import VIEW
from softprior.tracking.mlflow_tracker import MlflowTracker
from softprior.tracking.studies import PREFIX
from softprior.tracking.view import KEY, TRIAL, write_view

STEPS = 50
"""Points of each trial's three curves."""

ROUNDS = 5
"""Number of repetitions of each way."""


def main() -> None:
    """Writes the study, sends it, and prints a line for each."""
    parser = argparse.ArgumentParser(description="What a large study costs in MLflow.")
    parser.add_argument("--trials", type=int, default=1000, help="default: 1000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="softprior-tracking-") as root:
        plan, records = large_study(Path(root), options.trials, STEPS)
        folder = StudyFolder(Path(root) / "large")
        uri = default_uri(Path(root))

        def send() -> None:
            tracker = MlflowTracker(uri, plan.study, plan.trials, folder)
            tracker.close(records)
            assert tracker.problem is None, tracker.problem

        wall, cpu = _timed(send)
        count = len(plan.trials)
        print(f"{count} trials sent: {wall:.0f} s, {cpu / count:.3f} s of CPU time per trial", flush=True)
        wall, cpu = _timed(send)
        print(f"sent again, with nothing new: {wall:.1f} s, {cpu:.1f} s of CPU time", flush=True)

        client, experiment, _ = open_experiment(uri, PREFIX + "large", Path(root))
        trials = [run.data.params for run in client.search_runs([experiment], f"tags.`{TRIAL}` != ''")]

        def page() -> None:
            client.get_experiment(experiment)
            client.search_runs(
                [experiment], f"tags.`{TRIAL}` != ''", max_results=100, order_by=["metrics.test_loss ASC"]
            )

        page()
        seen: dict[str, list[float]] = {"with": [], "without": []}
        for _ in range(ROUNDS):
            write_view(client, experiment, trials)
            seen["with"].append(_timed(page)[0])
            client.delete_experiment_tag(experiment, VIEW + KEY)
            seen["without"].append(_timed(page)[0])
        print(
            f"a page of 100 trials: {median(seen['with']):.2f} s with the view, "
            f"{median(seen['without']):.2f} s without"
        )


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock, and of processor time of this process."""
    start, began = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - start, time.process_time() - began


if __name__ == "__main__":
    main()
