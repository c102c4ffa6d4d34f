"""How far rounding grows in training: python -m benchmarks.twins [key=value ...]

Runs the trained trials of a study one by one in this process, each from its prior's sample and from the same
sample moved by a little in a random direction, every vector by the same share of its norm. Machines differ in
rounding by less than such a move, so what its twins differ by at the end is what a number of the study may
differ by from one machine to another. Without answers and validation, which decide nothing about training.

Prints a line a trial: the test losses, and the largest difference from the first.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.inputs.labels import labels
from softprior.inputs.specs import TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.models.load import load_local
from softprior.prompt import Place
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Vectors
from softprior.seeding import torch_generator
from softprior.studies.plan import plan_study
from softprior.training.checkpoint import Progress
from softprior.training.starts import Start
from softprior.training.trial import Trial

QUICKSTART = Path(__file__).parents[1] / "jobs" / "studies" / "quickstart.yaml"
MOVES = (0.0, 1e-6, 1e-5, 1e-4)
"""Distance of the twins' first vectors from the sample, in units of each vector's norm."""


@dataclass
class Twin(Trial):
    """A trial that starts a little beside its sample."""

    move: float = 0.0

    def _sample(self) -> dict[Place, Start]:
        found = super()._sample()
        return {
            place: start._replace(sample=moved(start.sample, self.move, place))
            for place, start in found.items()
        }

    def _validate(self, vectors: Vectors, progress: Progress) -> None:
        """Leaves validation out."""


def moved(sample: Float[Tensor, "P D"], move: float, place: Place) -> Float[Tensor, "P D"]:
    """Every vector moved by `move` times its norm, at a place always in the same directions."""
    way = torch.randn(sample.shape, generator=torch_generator(0, "twins", place.name))
    moved: Tensor = sample + move * way * sample.norm(dim=1, keepdim=True) / way.norm(dim=1, keepdim=True)
    return moved


def test_losses(specs: Sequence[TrialSpec], study: Path, overrides: tuple[str, ...]) -> None:
    """Prints the losses of every trial's twins."""
    loaded = load_local(load_grid(study, overrides).model)
    known = labels(specs)
    for spec in specs:
        losses = []
        for move in MOVES:
            with tempfile.TemporaryDirectory(prefix="softprior-twins-") as folder:
                place = StudyFolder(Path(folder))
                twin = Twin(
                    spec, loaded.host, loaded.tokenizer, loaded.fingerprint, place, lambda _: None, move=move
                )
                record = twin.run()
            assert record.test is not None
            losses.append(record.test.loss)
            print(f"  {known[spec.id]} moved by {move:g}: {losses[-1]:.4f}", flush=True)
        apart = max(abs(loss - losses[0]) for loss in losses)
        print(
            f"{known[spec.id]}: {' '.join(f'{loss:.3f}' for loss in losses)}, apart {apart:.4f}", flush=True
        )


def main() -> None:
    """Prints what the moves are, and a line a trial."""
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
    test_losses([trial for trial in plan.trials if trial.training is not None], options.study, overrides)


if __name__ == "__main__":
    main()
