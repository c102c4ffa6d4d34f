"""Loss along the straight lines between posteriors: whether two prompts lie in one basin. Exploratory.

These are the values and their file; `connecting` measures them.
"""

from __future__ import annotations

import hashlib

from pydantic import ValidationError

from analysis.findings.study import Study
from softprior.assets.fingerprints import combined
from softprior.errors import UserError
from softprior.inputs.base import Spec, parsed_json
from softprior.prompt import Prompt
from softprior.results.digested import digested_text, write_digested
from softprior.results.folder import StudyFolder
from softprior.results.records import read_study
from softprior.results.storage import Location


class Line(Spec):
    """The prompts (1 - t) a + t b between the posteriors of a pair, vector by vector, for some seeds.

    Attributes:
        name: of the pair, such as `isotropic to fitted`.
        seeds, trials: of both ends, by pair.
        posteriors: what the ends were, see `digest`: a trial that is trained again keeps its id.
        at: t, rising from 0 to 1.
        losses: by pair, in nats per label token.
        nothing: loss without a prompt on the same examples.
        examples: number of test examples behind each loss, the first of the split.
    """

    name: str
    seeds: tuple[tuple[int, int], ...]
    trials: tuple[tuple[str, str], ...]
    posteriors: tuple[tuple[str, str], ...]
    at: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]
    nothing: float
    examples: int


class Connectivity(Spec):
    """All lines of a study.

    Attributes:
        left_out: what was not measured, and why, a sentence each.
        sources: the code that measured them.
    """

    lines: tuple[Line, ...]
    left_out: tuple[str, ...] = ()
    sources: str


def digest(prompt: Prompt) -> str:
    """A fingerprint of vectors, equal exactly where they are."""
    own = {place.name: hashlib.sha256(v.numpy().tobytes()).hexdigest() for place, v in prompt.items()}
    return combined(*(f"{name} {own[name]}" for name in sorted(own)))[:16]


def stands(line: Line, study: Study) -> bool:
    """Whether the posteriors of a line are still those that were measured; not so where one is gone."""
    ends = [end for pair in zip(line.trials, line.posteriors, strict=True) for end in zip(*pair, strict=True)]
    known = {trial: study.posteriors.get(trial) for trial, _ in ends}
    return all(
        (own := known[trial]) is not None and digest(own.final) == measured for trial, measured in ends
    )


def save_connectivity(folder: StudyFolder, found: Connectivity) -> Location:
    """Writes the lines beside the study's table; returns the file."""
    write_digested(folder.connectivity, found.model_dump(mode="json"))
    return folder.connectivity


def load_connectivity(folder: StudyFolder) -> Connectivity | None:
    """The lines of a study; None where they were not measured.

    Raises:
        UserError: the file is damaged, or has no line between trials of the study.
    """
    path = folder.connectivity
    if not path.exists():
        return None
    try:
        found = Connectivity.model_validate(parsed_json(digested_text(path)))
    except (ValidationError, ValueError):
        raise UserError(
            f"{path} is damaged or of another version; run python -m jobs.connectivity again"
        ) from None
    named = {trial for line in found.lines for pair in line.trials for trial in pair}
    if folder.study.exists() and named and named.isdisjoint(read_study(folder.study)["trials"]):
        raise UserError(
            f"{path} has no line between trials of this study; run python -m jobs.connectivity again"
        )
    return found
