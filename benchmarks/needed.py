"""What passes over texts compute without pads: operations of products, and the time of these one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.watched import timed
from softprior.prompt import Batch, Place
from softprior.results.posteriors import Vectors


@dataclass(frozen=True)
class Needed:
    """What passes over batches compute, but for pads and for logits without a label.

    Attributes:
        tokens: positions of their texts, without pads and without the prompt's vectors.
        products: the number of products [rows, inputs] x [inputs, outputs] by these three sizes.
        attention: operations of causal attention.
    """

    tokens: int
    products: Counter[tuple[int, int, int]]
    attention: float

    @property
    def operations(self) -> float:
        """Operations of all products; a multiplication and an addition are two."""
        return self.attention + sum(2.0 * a * b * c * count for (a, b, c), count in self.products.items())

    def __add__(self, other: Needed) -> Needed:
        return Needed(
            self.tokens + other.tokens, self.products + other.products, self.attention + other.attention
        )

    def seconds(self) -> float:
        """CPU seconds of the products at the rate of one thread.

        With several threads a product takes more processor time, and a step runs passes of one thread side by
        side. Attention is taken at the rate of a large square product.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            square = 1024
            rate = 2 * square**3 / _product_seconds(square, square, square)
            products = sum(count * _product_seconds(*sizes) for sizes, count in self.products.items())
            return products + self.attention / rate
        finally:
            torch.set_num_threads(threads)


NOTHING = Needed(0, Counter(), 0.0)


def needed(
    model: Any,
    prompt: Vectors,
    batches: Iterable[Batch],
    *,
    backward: bool = True,
    kept: bool = False,
    logits: bool = True,
) -> Needed:
    """Every block at every position that is no pad, and logits at labels.

    Vectors in front of the texts are computed once per batch, as in one pass, from the first block that
    has some. Gradients go back to the input of each block from that one on. A few products of that block
    and of the last one, at positions whose outcome nothing uses, are counted too: 4% of a step of `soft`
    on SmolLM2.

    Args:
        model: of transformers, with `model.layers` and `lm_head`.
        backward: whether gradients are needed.
        kept: whether what the blocks before the first vectors give is known already.
        logits: whether there are any.
    """
    found = NOTHING
    for batch in batches:
        found += _of_batch(model, prompt, batch, backward, kept)
        if logits:
            _count(found.products, int(batch.labels.sum()), model.lm_head, backward)
    return found


def _of_batch(model: Any, prompt: Vectors, batch: Batch, backward: bool, kept: bool) -> Needed:
    heads = model.config.num_attention_heads * model.config.head_dim
    lengths, first = batch.lengths.tolist(), min((place.block for place in prompt), default=0)
    products: Counter[tuple[int, int, int]] = Counter()
    attention = 0.0
    for number, block in list(enumerate(model.model.layers))[first if kept else 0 :]:
        back = backward and number >= first
        there = {place: len(vectors) for place, vectors in prompt.items() if _seen(place, number)}
        front = sum(count for place, count in there.items() if place.kind == "residual")
        seen = front + max((count for place, count in there.items() if place.kind == "key"), default=0)
        pairs = front * (front + 1) / 2 + sum(n * seen + n * (n + 1) / 2 for n in lengths)
        # Two products forward and four back, of 2 operations each for every value of every head.
        attention += (12 if back else 4) * pairs * heads
        for module in block.modules():
            if isinstance(module, torch.nn.Linear):
                _count(products, batch.positions + front, module, back)
    return Needed(batch.positions, products, attention)


def _seen(place: Place, block: int) -> bool:
    """Whether a block's attention finds the place's vectors, or what became of them, before the texts."""
    stays = place.kind == "residual" and place.after == "keep"
    return place.block <= block if stays else place.block == block


def _count(products: Counter[tuple[int, int, int]], rows: int, module: Any, back: bool) -> None:
    products[rows, module.in_features, module.out_features] += 1
    products[rows, module.out_features, module.in_features] += back


def _product_seconds(rows: int, inputs: int, outputs: int) -> float:
    """CPU seconds of one product [rows, inputs] x [inputs, outputs], the least of five."""
    left, right = torch.ones(rows, inputs), torch.ones(outputs, inputs)
    return min(timed(lambda: left @ right.T).cpu for _ in range(5))
