"""P-tuning v2 and prefix tuning: keys and values that every block, or some, attends to."""

from __future__ import annotations

from typing import ClassVar

from softprior.methods.base import ChosenBlocks, TrainedMethod, chosen_blocks
from softprior.prompt import Kind, Place, Stack


class Prefix(TrainedMethod):
    """P keys and P values in front of the text in every block (Li and Liang 2021, Liu et al. 2022).

    Keys are trained as they are attended to, after rotary and any norm of keys, at positions 0 to
    P - 1; the text follows them. Priors of keys are those of keys before rotary, turned to
    these positions when the prompt is made. The prior decides the start: `zeros`, `instruction` for
    the keys and values of a text, or any other.

    There is no placement to choose. Keys and values are what a cache holds of tokens before the text, its
    beginning-of-sequence token included, and all of the text sees them: so PEFT and servers take them.

    Attributes:
        blocks: these blocks in place of all.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"key", "value"})

    blocks: ChosenBlocks | None = None

    def places(self, blocks: int, stack: Stack = "decoder") -> tuple[Place, ...]:
        every = tuple(range(blocks)) if self.blocks is None else self.blocks
        chosen = chosen_blocks("prefix", every, blocks, stack)
        return tuple(Place(block, kind) for block in chosen for kind in ("key", "value"))
