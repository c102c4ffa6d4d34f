"""An earlier study's tuned prompts as the start of the next: exact copies, or a Gaussian around them."""

from __future__ import annotations

import hashlib
import math
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from softprior.assets.named import Named, here, here_with
from softprior.errors import UserError
from softprior.inputs.labels import by_number, counted
from softprior.inputs.specs import REPEATS
from softprior.priors.base import Distribution, Outline, Prior, PriorSource, Support
from softprior.prompt import Place
from softprior.results.files import version_of
from softprior.results.folder import POSTERIORS
from softprior.results.posteriors import SUFFIX, Posterior, load_posterior
from softprior.results.records import read_study
from softprior.results.storage import RemotePath

FILES = f"*{SUFFIX}"
"""Path of the posteriors in a study's folder."""

NAMED = 4
"""Files that an error names."""

STUDY = "study.json"
"""Names the trials that the study has now."""

FILED = (Path(), Path("jobs/studies"))
"""Where study files are looked for, from the working directory."""

KEPT = 4096
"""Files whose shapes are kept in memory, some hundred bytes each: more than a study's folder has."""


class PosteriorPrior(Prior):
    """The final vectors of an earlier trial at the same place, in their order, or noise around them.

    Copies are exact, except for keys, whose positions are removed and applied again: equal to 1e-6.

    Attributes:
        file: `results/STUDY/posteriors/TRIAL.safetensors`; or `results/STUDY`, whose one posterior with
            vectors for this trial's places is taken, repeated trials left out, and those that the study no
            longer has. Both may be in a bucket.
        spread: standard deviation of the noise on every coordinate, as a multiple of the vectors' root
            mean square; 0 copies them exactly.
    """

    file: Named
    spread: Annotated[float, Field(ge=0)] = 0.0

    def contents(self) -> tuple[str, ...]:
        """Identifies model and final vectors: who trained them, where and how long makes no difference."""
        return tuple(sorted(_fingerprint(load_posterior(path)) for path in self._candidates()))

    def corrections(self, density: bool) -> tuple[str, ...]:
        return ("posterior: a density around each vector",) if density and self.spread > 0 else ()

    def smooth(self) -> bool:
        return self.spread > 0

    def fixed(self) -> bool:
        return self.spread == 0

    def fit(self, source: PriorSource) -> Distribution:
        path = self._chosen(source)
        posterior = load_posterior(path)
        vectors = source.unplaced(posterior.final[source.place])
        trial = str(posterior.header.get("trial"))
        if self.spread == 0:
            return _Copies(vectors, trial)
        if not bool(vectors.any()):
            raise UserError(
                f"the vectors of {path} at {source.place.name} are all zero, so spread = {self.spread:g} "
                "times their size is zero too; set spread to 0"
            )
        return _Around(vectors, trial, self.spread)

    def check_outline(self, outline: Outline) -> None:
        self._chosen(outline)

    def _candidates(self) -> tuple[Path, ...]:
        if isinstance(self.file, RemotePath):
            single = self.file.name.endswith(SUFFIX)
            file = here(self.file) if single else here_with(self.file / POSTERIORS, STUDY).parent
        else:
            file = here(self.file)
        if not file.exists():
            raise UserError(
                f"posterior.file = {self.file}: there is no such posterior file or study folder; "
                f"{_first(file)}, or give another path"
            )
        if not file.is_dir():
            return (file,)
        found = sorted((file / POSTERIORS).glob(FILES))
        trials = _trials(file)
        current = [path for path in found if trials is None or path.stem in trials]
        if found and not current:
            they = f"{counted(len(found), 'posterior')} {by_number(len(found), 'is', 'are')}"
            raise UserError(
                f"posterior.file = {self.file}: its {they} of no trial that the study has now; run the study "
                "again, or give the file of one trial"
            )
        files = tuple(path for path in current if not _is_repeat(path))
        if not files:
            raise UserError(
                f"posterior.file = {self.file}: the study has left no posteriors; {_first(file, 'them')}, or "
                "give another path"
            )
        return files

    def _chosen(self, source: PriorSource | Outline) -> Path:
        """The file itself, or the one in a folder that has this trial's places and number of vectors.

        Raises:
            UserError: the file does not fit, or not exactly one file of the folder does.
        """
        candidates = self._candidates()
        if len(candidates) == 1:
            _require_fits(candidates[0], source)
            return candidates[0]
        fitting = []
        for path in candidates:
            with suppress(UserError):
                if set(_contents(path).shapes) == set(source.places):
                    _require_fits(path, source)
                    fitting.append(path)
        if len(fitting) == 1:
            return fitting[0]
        shown = fitting or candidates
        files = ", ".join(path.name for path in shown[:NAMED])
        files += f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
        places = by_number(len(source.places), "place", "places")
        others = ", ..." if len(source.places) > 1 else ""
        raise UserError(
            f"{len(fitting)} of the {len(candidates)} posteriors of {self.file} have "
            f"{counted(source.tokens, 'vector')} of this model at the {places} of this trial "
            f"({source.place.name}{others}), but exactly one is needed; give the file of one trial "
            f"({files} in {candidates[0].parent})"
        )


def _trials(folder: Path) -> frozenset[str] | None:
    """The trials that a study has now; None if its folder does not say.

    Trials of earlier plans and of code that has been corrected since leave their files in the folder too.
    """
    path = folder / STUDY
    return _planned(path, version_of(path)) if path.exists() else None


@lru_cache(maxsize=16)
def _planned(path: Path, version: tuple[int, ...]) -> frozenset[str]:  # noqa: ARG001  read once, as `_read`
    return frozenset(read_study(path)["trials"])


def _first(file: Path, what: str = "it") -> str:
    """What to run before: the study whose folder, or file in it, this is, if its study file is found."""
    study = file
    if file.suffix == SUFFIX and file.parent.name == POSTERIORS:
        study = file.parents[1]
    known = next(
        (path for path in (folder / f"{study.name}.yaml" for folder in FILED) if path.exists()), None
    )
    if known is None:
        return f"run the study that makes {what} first"
    return f"run the study '{study.name}' first (python -m jobs.study {known})"


def _fingerprint(posterior: Posterior) -> str:
    digest = hashlib.sha256(str(posterior.header.get("model", {}).get("fingerprint")).encode())
    for place in sorted(posterior.final):
        digest.update(f"{place.name} {tuple(posterior.final[place].shape)}".encode())
        digest.update(posterior.final[place].numpy().tobytes())
    return digest.hexdigest()


class _Contents(NamedTuple):
    """What a posterior file's vectors belong to: the model, and the shape of the final vectors by place.

    Attributes:
        repeat: whether they are of a repeated trial, of which the same study has the original.
    """

    model: str
    shapes: dict[Place, tuple[int, int]]
    repeat: bool


def _contents(path: Path) -> _Contents:
    """The shapes in a file as it is now, read once: sixty places of a plan need those of every file."""
    return _read(path, version_of(path) if path.exists() else ())


@lru_cache(maxsize=KEPT)
def _read(path: Path, version: tuple[int, ...]) -> _Contents:  # noqa: ARG001  a file written anew is read anew
    posterior = load_posterior(path)
    shapes = {place: (len(vectors), vectors.shape[1]) for place, vectors in posterior.final.items()}
    spec = posterior.header.get("spec")
    repeat = isinstance(spec, dict) and any(spec.get(kind) is not None for kind in REPEATS)
    return _Contents(str(posterior.header.get("model", {}).get("fingerprint")), shapes, repeat)


def _is_repeat(path: Path) -> bool:
    """Whether a file is a repeated trial's; of a damaged one nobody knows, and whoever reads it says so."""
    try:
        return _contents(path).repeat
    except UserError:
        return False


def _require_fits(path: Path, source: PriorSource | Outline) -> None:
    """A posterior file must have vectors of this model at the place, as many and as wide as the trial's."""
    found = _contents(path)
    if found.model != source.model:
        raise UserError(
            f"{path} was trained on another model ({found.model[:12]} instead of {source.model[:12]}); "
            "give a posterior of this one, as vectors mean nothing in another"
        )
    if source.place not in found.shapes:
        places = ", ".join(place.name for place in sorted(found.shapes))
        raise UserError(
            f"{path} has no vectors at {source.place.name}; it has {places}, so use the same method and "
            "placement"
        )
    count, width = found.shapes[source.place]
    hidden = width if source.hidden is None else source.hidden
    if (count, width) != (source.tokens, hidden):
        raise UserError(
            f"{path} contains {counted(count, 'vector')} of {width} dimensions at {source.place.name}, "
            f"but this trial has {source.tokens} of {hidden}; use as many tokens"
        )


class _Copies(Distribution):
    support: Support = "points"
    has_density = False

    def __init__(self, vectors: Float[Tensor, "P H"], trial: str) -> None:
        self.vectors = vectors
        self.trial = trial

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:  # noqa: ARG002
        return self._centres(count)

    def _centres(self, count: int) -> Float[Tensor, "P H"]:
        return self.vectors[torch.arange(count) % len(self.vectors)]

    def record(self) -> dict[str, object]:
        return {"earlier_trial": self.trial}


class _Around(_Copies):
    """Each vector has its own centre, in their order."""

    support = "everywhere"
    has_density = True

    def __init__(self, vectors: Float[Tensor, "P H"], trial: str, spread: float) -> None:
        super().__init__(vectors, trial)
        self.scale = spread * float(vectors.double().square().mean().sqrt())

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        noise = torch.randn(count, self.vectors.shape[1], generator=generator)
        return super().sample(generator, count) + self.scale * noise

    def log_prob(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:
        centred = vectors.double() - self._centres(len(vectors)).double()
        squares = (centred / self.scale).square().sum(1)
        return -squares / 2 - self.vectors.shape[1] * math.log(self.scale * math.sqrt(2 * math.pi))

    def record(self) -> dict[str, object]:
        return {**super().record(), "scale": self.scale}
