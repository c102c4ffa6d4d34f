"""What a model does to its input embeddings before block 0: nothing, a factor, positions; or more."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.assets.architecture import DecoderConfig
from softprior.errors import UserError

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Relative tolerance of the input of block 0 against the factor times the vectors: a rounding or two."""

FACTORS = ("embedding_multiplier", "embedding_scale")
"""Names of the factor in front of block 0 in configs of transformers."""

POSITIONS_ADDED = (
    "biogpt",
    "ctrl",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "imagegpt",
    "openai-gpt",
    "opt",
    "xglm",
)
"""transformers' `model_type` of decoders that add positions to their embeddings."""

VECTORS = 3
"""Probes of each kind: what is added may depend on the position."""


def embedding_factor(
    enter: Callable[[Float[Tensor, "3 P H"]], Float[Tensor, "3 P H"] | None],
    hidden: int,
    dtype: torch.dtype,
    family: str,
) -> float:
    """The factor between the input embeddings and the input of block 0: 1 for most families, 12 for Granite.

    Vectors of zeros show what is added at each position, which needs no handling: a prompt at block 0 gets it
    just as a text does. Vectors of ones then show the factor, and random ones that nothing else happens.

    Args:
        enter: what block 0 receives for three prompts' vectors in front of the input embeddings; None if it
            is wider than they are.
        hidden: H.
        dtype: of the model.
        family: for the error.

    Raises:
        UserError: block 0 receives neither the vectors nor a multiple of them, apart from positions.
    """
    drawn = torch.randn(VECTORS, hidden, generator=torch.Generator().manual_seed(0))
    probes = torch.stack([torch.zeros_like(drawn), torch.ones_like(drawn), drawn])
    found = enter(probes)
    if found is None:
        raise _refused(family)
    added, ones, others = found.double().cpu()
    factor = float((ones - added).mean())
    tolerance = TOLERANCE[dtype]
    if math.isclose(factor, 1.0, rel_tol=tolerance):
        factor = 1.0
    error = torch.stack([ones - added - factor, others - added - factor * drawn.double()]).abs().max()
    if not math.isfinite(factor) or factor == 0.0 or not float(error) <= tolerance * float(found.abs().max()):
        raise _refused(family)
    return factor


def embeddings_change(config: DecoderConfig) -> bool:
    """Whether block 0 receives vectors other than the embedding layer's, judging by a text model's config.

    Without weights there is nothing to measure; families call their factors by several names, and those that
    add positions do not say so.
    """
    factors = [getattr(config, name, None) for name in FACTORS]
    return any(factor not in (None, 1) for factor in factors) or config.model_type in POSITIONS_ADDED


def _refused(family: str) -> UserError:
    return UserError(
        f"the model family '{family}' does more to its embeddings before block 0 than multiply them "
        "and add positions, so the units of a prompt there are unknown; choose "
        "another model"
    )
