"""Sites of a decoder: their names, and a statistic fed with the states there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial

from torch import Tensor, nn

from softprior.errors import UserError
from softprior.models.blocks import Blocks
from softprior.models.hooks import Shown, at_sites, showing
from softprior.models.keys import KeyGeometry
from softprior.models.protocol import SiteStatistic, Where


class Sites:
    """`resid.l`, `final`, `key.l` and `value.l`; `docs/notation.md` says where they are."""

    def __init__(self, blocks: Blocks, geometry: KeyGeometry, embedding: nn.Module) -> None:
        self._embedding = embedding
        self._layers = blocks.layers
        self._final = blocks.final_norm
        self._geometry = geometry

    def names(self) -> tuple[str, ...]:
        """All sites, as `FrozenLM.sites` gives them."""
        blocks = range(len(self._layers))
        residual = [f"resid.{block}" for block in (*blocks, len(blocks))]
        return (*residual, "final", *(f"{kind}.{block}" for kind in ("key", "value") for block in blocks))

    def feeding(
        self, statistic: SiteStatistic, sites: Sequence[str], where: Where
    ) -> AbstractContextManager[None]:
        """Hands the text's states at the sites to the statistic, for a packed pass within the context.

        Keys and values are computed from the states at their block's input, which repeats its projections:
        the block's own keys are rotated to their positions, and where they are not yet rotated differs by
        family.

        Args:
            where: the text's tokens, which end the packed sequence.

        Raises:
            UserError: there is no such site.
        """
        blocks = len(self._layers)
        unknown = [site for site in sites if site not in self.names()]
        if unknown:
            raise UserError(
                f"there is no site '{unknown[0]}'; this model has resid.0 to resid.{blocks}, final, key.0 to "
                f"key.{blocks - 1} and value.0 to value.{blocks - 1}"
            )
        count = len(where.tokens)
        readers = {
            block: self._geometry.reader(block)
            for block in range(blocks)
            if f"key.{block}" in sites or f"value.{block}" in sites
        }

        def give(site: str, states: Tensor) -> None:
            statistic.update(site, states[0, states.shape[1] - count :].float(), where)

        def enter(block: int, states: Tensor) -> None:
            if block and f"resid.{block}" in sites:
                give(f"resid.{block}", states)
            if block in readers:
                keys, values = readers[block](states[0, states.shape[1] - count :])
                for site, vectors in ((f"key.{block}", keys), (f"value.{block}", values)):
                    if site in sites:
                        give(site, vectors[None])

        inputs: list[Shown] = [(layer, partial(enter, block)) for block, layer in enumerate(self._layers)]
        ends = {f"resid.{blocks}": self._layers[-1], "final": self._final}
        outputs = at_sites(ends, sites, give)
        if "resid.0" in sites:
            # Not what enters block 0: some families multiply that, or have added positions to it.
            outputs.append((self._embedding, lambda states: give("resid.0", states.flatten(0, -2)[None])))
        return showing(inputs, outputs)

    def require_residual(self, sites: Sequence[str]) -> None:
        """Rejects sites outside of the residual stream.

        Raises:
            UserError: there is one.
        """
        blocks = len(self._layers)
        known = {"final", *(f"resid.{block}" for block in range(blocks + 1))}
        unknown = [site for site in sites if site not in known]
        if unknown:
            raise UserError(
                f"a prompt's vectors have states only at resid.0 to resid.{blocks} and at final, not at "
                f"'{unknown[0]}'; choose one of these"
            )

    def fronts(
        self, found: dict[str, Tensor], sites: Sequence[str], front: int
    ) -> AbstractContextManager[None]:
        """Puts the states of a packed sequence's first `front` vectors at residual sites into `found`."""
        blocks = len(self._layers)

        def keep(site: str, states: Tensor) -> None:
            found[site] = states[0, :front].float()

        inputs = {f"resid.{block}": layer for block, layer in enumerate(self._layers)}
        outputs = {f"resid.{blocks}": self._layers[-1], "final": self._final}

        return showing(at_sites(inputs, sites, keep), at_sites(outputs, sites, keep))
