"""What priors are fitted on: the frozen model behind the seam, seen from one place of the prompt."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.assets.tokens import Tokenizer, require_rows, reserved, vocabulary_ids
from softprior.models.protocol import FrozenLM, Where
from softprior.priors import Distribution, Prior
from softprior.priors.domain import SAMPLE, Domain, Shrinkage, fit_domain, sampled
from softprior.prompt import Place, Row, collate
from softprior.statistics.reference import Reference


class PlaceSource:
    """A `PriorSource` that asks a host.

    Attributes:
        known: whether the vocabulary's vectors are data for this place; for residual vectors of deeper
            blocks they are not.
    """

    def __init__(
        self, host: FrozenLM, tokenizer: Tokenizer, place: Place, tokens: int, places: tuple[Place, ...] = ()
    ) -> None:
        self._host = host
        self._tokenizer = tokenizer
        self.place = place
        self.places = places or (place,)
        self.known = place.block == 0 or place.kind != "residual"
        self.tokens = tokens
        self.hidden = host.width(place)
        self.model = host.info().fingerprint

    @property
    def view(self) -> str:
        return ""

    @property
    def fingerprint(self) -> str:
        at = "embeddings"
        if self.place.kind != "residual":
            at = f"{self.place.kind}.{self.place.block}{self._factor}"
        left = len(reserved(self._tokenizer))
        tokens = f"{len(self._tokenizer)}-less-{left}" if left else f"{len(self._tokenizer)}"
        computed = "" if self.place.kind == "residual" else self._computed
        return f"{self.model}-{self._host.info().dtype}-{tokens}-{at}{computed}"

    @property
    def _computed(self) -> str:
        """What rounding of the model's own norms and projections depends on, besides its dtype."""
        return f"-{self._host.info().device}-{self._host.info().kernels}"

    @property
    def _factor(self) -> str:
        """What fits know of a factor before block 0, which was once left out."""
        factor = self._host.info().embedding_factor
        return "" if self.place.block or factor == 1.0 else f"-times-{factor:g}"

    def vocabulary(self) -> Float[Tensor, "V H"]:
        """All tokens' embeddings; for keys and values those of at most `SAMPLE` tokens, always the same."""
        if self.place.kind == "residual":
            return vocabulary(self._host, self._tokenizer)
        tokens = sampled(vocabulary(self._host, self._tokenizer), SAMPLE)
        return self._host.project(self.place, tokens).cpu()

    def text(self, text: str) -> Float[Tensor, "T H"]:
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        require_rows(ids, self._host.info().vocabulary, f"the words of '{text[:40]}'")
        if self.place.kind == "residual" or not ids:
            return self._host.embed(torch.tensor(ids, dtype=torch.long)).cpu()
        row = Row("text", ids, [False] * len(ids), [False] * len(ids))
        site = f"{self.place.kind}.{self.place.block}"
        return self._host.observe(None, collate([row]), [site], _States()).states.cpu()

    def unplaced(self, vectors: Float[Tensor, "P H"]) -> Float[Tensor, "P H"]:
        return self._host.rotate(self.place, vectors, inverse=True) if self.place.kind == "key" else vectors

    def placed(self, vectors: Float[Tensor, "P H"]) -> Float[Tensor, "P H"]:
        """The inverse of `unplaced`: vectors as a prior draws them, as the prompt has them."""
        return self._host.rotate(self.place, vectors) if self.place.kind == "key" else vectors

    def seen(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        return vectors

    def reference(self) -> Reference:
        return fit_domain(Domain(), Shrinkage(), self).reference


class SeenSource(PlaceSource):
    """The place's vectors as the model sees them: of cut prompts, behind the block's norm.

    A cut prompt enters through that norm alone, so lengths before it mean nothing. Radii of every prior and
    of every trained prompt are therefore measured here.
    """

    @property
    def view(self) -> str:
        return f"behind the norm of block {self.place.block}" if self.place.after == "cut" else ""

    @property
    def fingerprint(self) -> str:
        return super().fingerprint + (
            f"-norm.{self.place.block}{self._factor}{self._computed}" if self.view else ""
        )

    def vocabulary(self) -> Float[Tensor, "V H"]:
        return self.seen(super().vocabulary())

    def seen(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        """Vectors as priors see them, as the model sees them."""
        return self._host.normalise(self.place, vectors).cpu() if self.view else vectors

    def reference_of(self, prior: Prior, distribution: Distribution) -> Reference | None:
        """The radii of the data that a prior was fitted on, as the model sees them.

        For a prior that was fitted on nothing, or on several domains, those of the vocabulary, or None where
        the vocabulary's vectors are not data for the place.

        Args:
            prior: at this place, see `Prior.at`.
            distribution: the result of fitting it.
        """
        reference = distribution.reference()
        if reference is not None and not self.view:
            return reference
        if isinstance(prior, Domain):
            return fit_domain(prior, Shrinkage(), self).reference
        return self.reference() if self.known else None

    def quantiles(self, vectors: Float[Tensor, "P H"]) -> Float[Tensor, "P"]:
        """Share of the vocabulary that lies at most as far out as each vector."""
        return self.reference().quantiles(self.seen(vectors))


class _States:
    """A statistic that keeps the states of one text."""

    states: Float[Tensor, "T H"]

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:  # noqa: ARG002
        self.states = states


def vocabulary(host: FrozenLM, tokenizer: Tokenizer) -> Float[Tensor, "V H"]:
    """What the embedding layer returns for every token that may occur in a text, asked of a host once."""
    ids = tuple(vocabulary_ids(tokenizer, host.info().vocabulary))
    known = _tables.get(host)
    if known is None or known.ids != ids:
        _tables[host] = known = _Table(ids, host.embed(torch.tensor(ids)).cpu())
    return known.vectors


class _Table(NamedTuple):
    ids: tuple[int, ...]
    vectors: Float[Tensor, "V H"]


_tables: WeakKeyDictionary[FrozenLM, _Table] = WeakKeyDictionary()
