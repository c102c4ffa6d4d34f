"""What priors are fitted on: the embedding layer behind the seam."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.models.protocol import FrozenLM


class EmbeddingSource:
    """A `PriorSource` that asks a host for its embeddings, once."""

    def __init__(self, host: FrozenLM, tokenizer: Any, tokens: int) -> None:
        self._host = host
        self._tokenizer = tokenizer
        self.tokens = tokens
        self.hidden = host.info().hidden

    @cached_property
    def _table(self) -> Float[Tensor, "V H"]:
        # Embedding tables are often longer than the vocabulary; rows of no token were never trained.
        tokens = min(len(self._tokenizer), self._host.info().vocabulary)
        return self._host.embed(torch.arange(tokens)).cpu()

    def vocabulary(self) -> Float[Tensor, "V H"]:
        return self._table

    def encode(self, text: str) -> Int[Tensor, "T"]:
        return torch.tensor(self._tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.long)
