"""What trials save that start where another one did: python -m benchmarks.shared_start [key=value ...]

Runs the trained trials of a study one after another in this process, each twice: in a folder of its own, and
in the study's, where the first trial of each start leaves the losses of its sample. Prints CPU seconds of
both, with the share of training, and stops if a loss of the two differs in any bit. A sweep over rates:

    python -m benchmarks.shared_start 'rates=[{relative: 0.01},{relative: 0.03}]'
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from softprior.inputs.labels import labels
from softprior.inputs.specs import TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.models.load import Loaded, load_local
from softprior.results.folder import StudyFolder
from softprior.results.records import Record
from softprior.studies.plan import plan_study
from softprior.training.cost import TRAINING
from softprior.training.setup import Setup
from softprior.training.threads import limit_threads
from softprior.training.trial import Trial

QUICKSTART = Path(__file__).parents[1] / "jobs" / "studies" / "quickstart.yaml"


def finished(spec: TrialSpec, loaded: Loaded, root: Path) -> tuple[Record, float]:
    """The trial's record, and the CPU seconds that it took."""
    setup = Setup(spec, loaded.host, loaded.tokenizer, loaded.fingerprint)
    began = time.process_time()
    record = Trial(setup, StudyFolder(root), lambda _: None).run()
    return record, time.process_time() - began


def main() -> None:
    """Prints one line per trial, and the sums."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shared_start",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--study", type=Path, default=QUICKSTART)
    parser.add_argument("override", nargs="*", help="values to change, as training.steps=20")
    options = parser.parse_args()
    limit_threads(1)
    plan = plan_study(load_grid(options.study, tuple(options.override)), str(options.study))
    loaded, known = load_local(plan.study.model), labels(plan.trials)
    sums = [0.0, 0.0]
    with tempfile.TemporaryDirectory(prefix="softprior-shared-") as folder:
        study = Path(folder) / "study"
        for spec in (trial for trial in plan.trials if trial.training is not None):
            own, alone = finished(spec, loaded, Path(folder) / spec.id)
            shared, together = finished(spec, loaded, study)
            for one in ("steps", "validation", "untrained", "test"):
                assert getattr(own, one) == getattr(shared, one), one
            assert shared.cost is not None
            share = shared.cost.seconds[TRAINING] / sum(shared.cost.seconds.values())
            found = f"{alone:.2f} s alone, {together:.2f} s in the study ({share:.0%} training)"
            print(f"{known[spec.id]}: {found}", flush=True)
            sums = [sums[0] + alone, sums[1] + together]
    print(f"all: {sums[0]:.1f} s alone, {sums[1]:.1f} s in the study, {sums[0] / sums[1]:.2f} times")


if __name__ == "__main__":
    main()
