"""Checkpoints: a trial stopped anywhere continues bit for bit as if it had not been stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Annotated

from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor

from softprior.errors import UserError
from softprior.inputs.base import Spec
from softprior.prompt import Place
from softprior.results.files import write_atomically
from softprior.results.posteriors import Vectors
from softprior.results.provenance import SOURCES
from softprior.results.records import Continued, Score, StepPoint
from softprior.results.storage import Location, RemotePath, local_copy, tensor_metadata
from softprior.results.tensor_files import open_tensors, save_tensors, without_digests
from softprior.training.cost import Meter


@dataclass
class TrialState:
    """The state of a trial so far.

    Attributes:
        step: optimizer steps taken.
        steps, validation: the curves so far.
        snapshots: vectors by the number of steps taken.
        seconds: working time, over all attempts, without waiting for other trials.
        meter: what it cost, over all attempts.
        sources: of all code that has trained it (`provenance.SOURCES`).
        continued: which trial it went on from.
    """

    step: int = 0
    steps: list[StepPoint] = field(default_factory=list)
    validation: list[Score] = field(default_factory=list)
    snapshots: dict[int, Vectors] = field(default_factory=dict)
    seconds: float = 0.0
    meter: Meter = field(default_factory=Meter)
    sources: list[str] = field(default_factory=lambda: [SOURCES])
    continued: Continued | None = None


def save_checkpoint(path: Location, trial: str, state: TrialState, optimizer: dict[str, Tensor]) -> None:
    """Writes a checkpoint atomically: optimizer tensors, snapshots, and the curves as JSON."""
    tensors = {f"optimizer/{name}": value.detach().contiguous() for name, value in optimizer.items()}
    for step, vectors in state.snapshots.items():
        tensors |= {f"snapshot/{step}/{place.name}": value.contiguous() for place, value in vectors.items()}
    header = {
        "trial": trial,
        "step": state.step,
        "seconds": state.seconds,
        "phases": state.meter.seconds,
        "positions": state.meter.positions,
        "sources": state.sources,
        "steps": [asdict(point) for point in state.steps],
        "continued": None if state.continued is None else state.continued.model_dump(),
        "validation": [score.model_dump() for score in state.validation],
    }
    # Safetensors refuses two names for one storage; clones are kilobytes.
    copies = {name: value.clone() for name, value in tensors.items()}
    metadata = {"progress": json.dumps(header)}
    write_atomically(path, lambda temporary: save_tensors(copies, temporary, metadata))


class Header(Spec):
    """The curves and the rest of a checkpoint, beside its tensors."""

    trial: str
    step: Annotated[int, Field(ge=0)]
    seconds: float
    phases: dict[str, float] = {}
    positions: int = 0
    sources: tuple[str, ...] = ("unknown",)
    steps: tuple[StepPoint, ...]
    validation: tuple[Score, ...]
    continued: Continued | None = None


def load_header(path: Location, trial: str) -> Header | None:
    """All but the tensors of what `save_checkpoint` wrote, or None where `load_checkpoint` gives None.

    Raises:
        UserError: the file cannot be read at all.
    """
    found = _load(path, trial, with_tensors=False)
    return None if found is None else found[0]


def load_checkpoint(path: Location, trial: str) -> tuple[TrialState, dict[str, Tensor]] | None:
    """What `save_checkpoint` wrote, or None where there is no usable checkpoint of this trial.

    Raises:
        UserError: the file cannot be read at all.
    """
    found = _load(path, trial, with_tensors=True)
    return None if found is None else _parsed(*found)


def _load(path: Location, trial: str, *, with_tensors: bool) -> tuple[Header, dict[str, Tensor]] | None:
    try:
        if isinstance(path, RemotePath) and not with_tensors:
            metadata, tensors = without_digests(tensor_metadata(path)), {}
        else:
            with local_copy(path) as here, open_tensors(here) as file:
                metadata = file.metadata()
                names = file.keys() if with_tensors else ()
                tensors = {name: file.get_tensor(name) for name in names}
        header = Header.model_validate_json(metadata["progress"])
        return (header, tensors) if header.trial == trial else None
    except (FileNotFoundError, SafetensorError, ValueError, KeyError):
        return None  # also one that an older version wrote: the trial then starts again
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); remove it, and its trial starts again") from None


def _parsed(header: Header, tensors: dict[str, Tensor]) -> tuple[TrialState, dict[str, Tensor]]:
    snapshots: dict[int, Vectors] = {}
    for name, value in tensors.items():
        if name.startswith("snapshot/"):
            _, step, place = name.split("/")
            snapshots.setdefault(int(step), {})[Place.parse(place)] = value
    state = TrialState(
        step=header.step,
        steps=list(header.steps),
        validation=list(header.validation),
        snapshots=snapshots,
        seconds=header.seconds,
        meter=Meter(header.phases, header.positions),
        continued=header.continued,
        sources=list(dict.fromkeys([*header.sources, SOURCES])),
    )
    own = {name.removeprefix("optimizer/"): t for name, t in tensors.items() if name.startswith("optimizer/")}
    return state, own
