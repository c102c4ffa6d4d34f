"""Which rows may share a pass, in families whose rotation depends on its length (longrope, dynamic).

transformers chooses the frequencies of such a family once per pass, by its largest position, so that a row's
result would change with the rows beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

from softprior.assets.architecture import DecoderConfig
from softprior.errors import UserError


class Regimes(NamedTuple):
    """Which lengths have the same frequencies.

    Attributes:
        longest: up to this length all have those of the shortest; None if all lengths have.
        each: whether every greater length has its own (dynamic), or all share the same (longrope).
    """

    longest: int | None = None
    each: bool = False

    def of(self, length: int) -> int:
        """A number that two lengths share if they have the same frequencies."""
        if self.longest is None or length <= self.longest:
            return 0
        return length if self.each else 1


ALWAYS = Regimes()


def find_regimes(turned: Callable[[int], Sequence[Tensor]], limit: int) -> Regimes:
    """Measures a model's regimes.

    Args:
        turned: the rotation of position 1 in a pass of a given length, at least two.
        limit: length that the model was built for; a family that depends on length shows it at twice that.
    """
    short, far = turned(2), 2 * max(limit, 2)

    def same(length: int) -> bool:
        return all(torch.equal(a, b) for a, b in zip(short, turned(length), strict=True))

    if same(far):
        return ALWAYS
    below, above = 2, far
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if same(middle) else (below, middle)
    beyond = zip(turned(far), turned(2 * far), strict=True)
    return Regimes(below, each=not all(torch.equal(a, b) for a, b in beyond))


def steady_length(config: DecoderConfig) -> int | None:
    """The `longest` that `find_regimes` measures, from a transformers config; None for a steady rotation.

    Args:
        config: of the text model. Some families have a rotation for each kind of layer.
    """
    whole = getattr(config, "rope_parameters", None) or {}
    found = []
    for part in (whole, *(value for value in whole.values() if isinstance(value, dict))):
        kind = part.get("rope_type", "default")
        if kind == "longrope":
            found.append(part.get("original_max_position_embeddings", config.max_position_embeddings))
        elif "dynamic" in kind:
            found.append(config.max_position_embeddings)
    return min(found, default=None)


def forget_lengths(model: nn.Module) -> None:
    """Makes the next pass choose its frequencies by its own length.

    The dynamic rotation of transformers keeps those of the longest pass that it has seen.
    """
    for module in model.modules():
        for name in list(vars(module)):
            if name.endswith("max_seq_len_cached"):
                setattr(module, name, 0)


def crossing(regimes: Regimes, family: str) -> UserError:
    """The error for a row with cut prompts; it says nothing about the row, as all ranks raise the same."""
    return UserError(
        f"the rotary positions of the model family '{family}' depend on the length from {regimes.longest:,} "
        "positions on, so a row that crosses this length would have different ones in blocks with and "
        "without cut prompt vectors; lower the length of the task, or use the method soft or prefix"
    )


class Part(NamedTuple):
    """Rows that may share a pass.

    Attributes:
        rows: their indices in the batch, ascending; none in a pass that only keeps step with others.
        steady: whether they keep their frequencies while they are continued.
    """

    rows: Int[Tensor, "R"]
    steady: bool = True


def apart(
    regimes: Regimes, lengths: Int[Tensor, "B"], front: int, cut: int, ahead: int, family: str
) -> list[Part]:
    """The rows of a batch, grouped by which may share a pass; one that changes on its way is alone.

    Args:
        lengths: tokens of each row.
        front: positions in front of the text in every block.
        cut: further positions in front of it, in some blocks only.
        ahead: tokens by which the rows will be continued.
        family: for the error.

    Raises:
        UserError: a row's frequencies would differ between blocks with and without a cut prompt.
    """
    if regimes.longest is None:
        return [Part(torch.arange(len(lengths)))]
    found: dict[tuple[int, int], list[int]] = {}
    for row, tokens in enumerate(lengths.tolist()):
        length = front + tokens
        first, last = regimes.of(length), regimes.of(length + max(ahead - 1, 0))  # the last token is not read
        if cut and first != regimes.of(length + max(ahead - 1, 0) + cut):
            raise crossing(regimes, family)
        found.setdefault((first, -1) if first == last else (first, row), []).append(row)
    return [Part(torch.tensor(rows), steady=last == -1) for (_, last), rows in found.items()]
