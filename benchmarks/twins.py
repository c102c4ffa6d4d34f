"""How far rounding grows in training: python -m benchmarks.twins [key=value ...]

Runs the trained trials of a study one by one in this process, each from its prior's sample and from the same
sample moved by a little in a random direction, every vector by the same share of its norm. Machines differ in
rounding by less than such a move, so what its twins differ by at the end is what a number of the study may
differ by from one machine to another. Without answers and validation, which decide nothing about training.

Prints a line per trial: the test losses, and the largest difference from the first.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from softprior.inputs.labels import labels
from softprior.inputs.specs import TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.models.load import load_local
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Vectors
from softprior.studies.plan import plan_study
from softprior.training.setup import Setup
from softprior.training.trial import Trial
from softprior.training.untrained import Untrained

QUICKSTART = Path(__file__).parents[1] / "jobs" / "studies" / "quickstart.yaml"
MOVES = (0.0, 1e-6, 1e-5, 1e-4)
"""Distance of the first vectors from the sample, in units of each vector's norm; 0 is the sample itself."""


class Unvalidated(Trial):
    """A trial without a validation curve."""

    def _validate(self, vectors: Vectors, start: Untrained | None = None) -> None:
        """Leaves validation out."""


def test_losses(specs: Sequence[TrialSpec], study: Path, overrides: tuple[str, ...]) -> None:
    """Prints the losses of every trial's twins."""
    loaded = load_local(load_grid(study, overrides).model)
    known = labels(specs)
    for spec in specs:
        losses = []
        for move in MOVES:
            with tempfile.TemporaryDirectory(prefix="softprior-twins-") as folder:
                place, twin = StudyFolder(Path(folder)), spec.model_copy(update={"twin": move or None})
                setup = Setup(twin, loaded.host, loaded.tokenizer, loaded.fingerprint)
                record = Unvalidated(setup, place, lambda _: None).run()
            assert record.test is not None
            losses.append(record.test.loss)
            print(f"  {known[spec.id]} moved by {move:g}: {losses[-1]:.4f}", flush=True)
        apart = max(abs(loss - losses[0]) for loss in losses)
        print(
            f"{known[spec.id]}: {' '.join(f'{loss:.3f}' for loss in losses)}, apart {apart:.4f}", flush=True
        )


def main() -> None:
    """Prints what the moves are, and a line per trial."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.twins",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--study", type=Path, default=QUICKSTART)
    parser.add_argument("override", nargs="*", help="values to change, as training.steps=20")
    options = parser.parse_args()
    overrides = (*options.override, "evaluation.generate=0", "evaluation.context_shuffle=false")
    plan = plan_study(load_grid(options.study, overrides), str(options.study))
    print(f"moved by {', '.join(f'{move:g}' for move in MOVES)} of each vector's norm", flush=True)
    originals = [trial for trial in plan.trials if trial.training is not None and trial.repeat is None]
    test_losses(originals, options.study, overrides)


if __name__ == "__main__":
    main()
