"""Whether a store's vectors at block 0 are in the units of embeddings, as prompts are."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.errors import UserError
from softprior.results.files import version_of
from softprior.results.tensor_files import open_tensors
from softprior.statistics.header import DAMAGED, header_of

CLOSE = 2e-2
"""Tolerance between two vectors of one token, relative to their size: one may be rounded to bfloat16."""


VOCABULARY = "vocabulary"
"""The task of a run's store that contains what the embedding layer returns."""

PROMPTS = "_prompts"
"""The folder of a run's store with the states at prompts' own positions; no task's name begins like that."""


def require_embeddings(path: Path, known: bool) -> None:
    """Checks that vectors at `resid.0` are what the embedding layer returns.

    Stores were once written with what enters block 0, which some families multiply, or add positions to. The
    run's vocabulary is beside it and shows which they are. A store of a user's own arrays names no tokens and
    has no vocabulary; it is trusted.

    Args:
        known: whether units count, as they do for a prior: a run's store without its vocabulary is refused.

    Raises:
        UserError: they are not, the vocabulary is damaged or missing from a run's store, or one of the files
            is of another task or site.
    """
    beside = path.parent.parent / VOCABULARY / path.name
    if path.stem.removeprefix("encoder.") != "resid.0" or path == beside:
        return
    if beside.is_file():
        _compare_tokens(path, beside, version_of(path), version_of(beside))
    elif known and _names_tokens(path):
        raise UserError(
            f"{path} belongs to an activation run but {beside} is missing, so nothing shows whether its "
            "vectors are in the units of embeddings, as a prompt is; put the vocabulary of the same run "
            "there, or run the activation job again"
        )


def _names_tokens(path: Path) -> bool:
    try:
        return bool(len(_sampled_tokens(path)[0]))
    except DAMAGED:
        return False  # whoever reads it says so


@lru_cache
def _compare_tokens(path: Path, beside: Path, *versions: tuple[int, ...]) -> None:  # noqa: ARG001  written anew, compared anew
    try:
        tokens, vectors = _sampled_tokens(path)
    except DAMAGED:
        return  # whoever reads it says so
    try:
        known, embeddings = _sampled_tokens(beside)
    except DAMAGED as error:
        raise UserError(
            f"{beside} is damaged ({error}), but only it shows whether {path} is in the units of embeddings; "
            "put the run's own there, or run the activation job again"
        ) from None
    order = known.argsort()
    at = order[torch.searchsorted(known[order], tokens).clamp(max=len(order) - 1)] if len(order) else order
    both = (known[at] == tokens) if len(order) else torch.zeros(0, dtype=torch.bool)
    if not bool(both.any()):
        return
    found, expected = vectors[both], embeddings[at[both]]
    if float((found - expected).norm()) > CLOSE * float(expected.norm()):
        raise UserError(
            f"{path} has at resid.0 what enters block 0, as older versions of softprior wrote it, but this "
            "model's family changes embeddings before block 0, so a prior fitted on it would be in other "
            "units than a prompt; run the activation job again"
        )


def _sampled_tokens(path: Path) -> tuple[Int[Tensor, "N"], Float[Tensor, "N D"]]:
    """The tokens and vectors of all classes of a file."""
    with open_tensors(path) as file:
        header_of(file.metadata(), path, None)  # another site's would be compared with the wrong vectors
        names = [n.removesuffix("/facts/token") for n in file.keys() if n.endswith("/facts/token")]  # noqa: SIM118
        if not names:
            return torch.zeros(0, dtype=torch.long), torch.zeros(0, 0)
        tokens = torch.cat([file.get_tensor(f"{name}/facts/token") for name in names])
        return tokens, torch.cat([file.get_tensor(f"{name}/sample").float() for name in names])
