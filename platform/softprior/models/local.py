"""The local host: weights in this process, for any causal transformers model that accepts embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from softprior.liveness import alive
from softprior.models.anchor import (
    Anchor,
    FirstLabels,
    Last,
    WithFirst,
    anchored,
    beginning,
    first_token,
    known,
    rest,
    stands_behind,
)
from softprior.models.forward import PackedModel
from softprior.models.frozen_part import FrozenPart, first_block
from softprior.models.identity import computing, identity
from softprior.models.kept_rows import KeptRows
from softprior.models.keys import KeyGeometry
from softprior.models.lanes import dealt, lanes, side_by_side
from softprior.models.lengths import Part, apart, steady_length
from softprior.models.packing import Cache, Looks, Packed, RowPass, Rows, running
from softprior.models.passes import chosen_rows, in_passes, joined, one_batch, some_rows
from softprior.models.protocol import (
    Attention,
    Comparison,
    Losses,
    ModelInfo,
    Request,
    SiteStatistic,
    StatisticT,
    Where,
)
from softprior.models.reductions import compared, differentiated, summed
from softprior.models.sites import Sites
from softprior.prompt import Batch, Place, Prompt


class LocalLM(PackedModel):
    """A frozen causal model in this process; see `FrozenLM` for the contract."""

    def __init__(self, model: nn.Module, fingerprint: str) -> None:
        """Takes over a model that was loaded with `attn_implementation=packing.ATTENTION`.

        Raises:
            UserError: the family has no blocks under names that softprior knows.
        """
        super().__init__(model)
        self._fingerprint = fingerprint
        self._geometry = KeyGeometry(self._model, self._blocks)
        self._sites = Sites(self._blocks, self._geometry, self._embedding)
        self.frozen: FrozenPart | None = None
        """What starts losses at the first block with vectors, see `keep_rows`; None runs whole passes."""

    def keep_rows(self, rows: KeptRows) -> None:
        """Keeps what the blocks below a prompt's first one make of each row, see `frozen_part`.

        A loss then starts at that block where the prompt is in front of the text and the rotation is the same
        for all lengths; everything else, generation too, needs all blocks.
        """
        self.frozen = FrozenPart(self._forward, self._blocks, rows, identity(self.info(), self.device))

    def info(self) -> ModelInfo:
        return ModelInfo(
            family=self._family,
            stack="decoder",
            blocks=len(self._blocks.layers),
            hidden=self._config.hidden_size,
            vocabulary=self._model.get_input_embeddings().weight.shape[0],  # type: ignore[operator]
            parameters=sum(p.numel() for p in self._model.parameters()),
            positions=self._longest,
            embedding=self._positions,
            fingerprint=self._fingerprint,
            dtype=str(self.dtype).removeprefix("torch."),
            embedding_factor=self._factor,
            steady=steady_length(self._config),
            device=self.device.type,
            kernels=self.kernels,
            frozen_cache=self.frozen is not None,
            lanes=self.lanes,
            computing=computing(self.device),
        )

    @property
    def lanes(self) -> int:
        """See `ModelInfo.lanes`: 1 where a pass changes the model, or keeps what it computes."""
        shared = self.ragged and self.device.type == "cpu" and self.frozen is None
        return torch.get_num_threads() if shared and steady_length(self._config) is None else 1

    @torch.no_grad()
    def embed(self, ids: Int[Tensor, "T"]) -> Float[Tensor, "T H"]:
        found: Tensor = self._embedding(ids.to(self.device))
        return found.float()

    @torch.no_grad()
    def normalise(self, place: Place, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        norm = self._blocks.norm(place.block)
        found: Tensor = norm(self._scaled(place.block, vectors.to(self.device, self.dtype)))
        return found.float()

    @property
    def scales_embeddings(self) -> bool:
        """Whether `embed` returns other vectors than the rows of the model's table, as Gemma's."""
        ids = torch.arange(1, min(9, self.info().vocabulary), device=self.device)
        rows: Tensor = self._embedding.weight[ids]  # type: ignore[index]
        return not torch.equal(self.embed(ids), rows.float())

    def width(self, place: Place) -> int:
        self._places.check_place(place)
        return self._geometry.width(place)

    def project(self, place: Place, states: Float[Tensor, "N H"]) -> Float[Tensor, "N D"]:
        return self._geometry.project(place, self._scaled(place.block, states))

    def rotate(
        self, place: Place, keys: Float[Tensor, "P D"], *, inverse: bool = False
    ) -> Float[Tensor, "P D"]:
        return self._geometry.rotate(place, keys, inverse)

    def loss(self, prompt: Prompt | None, batch: Batch, *, grad: bool = False) -> Losses:
        return self._divided([Request(prompt, batch, grad)])[0]

    def loss_many(self, requests: Sequence[Request], tokens: int | None = None) -> list[Losses]:
        """See `PackingLM`."""
        return in_passes(self._divided, requests, tokens)

    @torch.no_grad()
    def logits(self, prompt: Prompt | None, batch: Batch) -> Float[Tensor, "N V"]:
        """The logits from which the model predicts each label of the batch, row by row."""
        return self._label_logits([prompt or {}], [len(batch)], batch)[0]

    def _divided(self, requests: list[Request]) -> list[Losses]:
        """Losses of requests of one shape, in one pass or in several side by side."""
        if len(requests) > 1:
            sizes = torch.tensor([request.batch.positions for request in requests])
            groups = [requests[first:last] for first, last in self._runs(sizes, requests)]
            return [losses for found in side_by_side(self._together, groups) for losses in found]
        (request,) = requests
        runs = self._runs(request.batch.lengths, requests)
        parts = [[request._replace(batch=some_rows(request.batch, run))] for run in runs]
        return [joined([losses for found in side_by_side(self._together, parts) for losses in found])]

    def _runs(self, sizes: Int[Tensor, "_"], requests: Sequence[Request]) -> list[tuple[int, int]]:
        """The rows or requests of each pass, by their tokens."""
        if self.lanes == 1:
            return [(0, len(sizes))]
        self._measure(requests)
        return lanes(sizes, self.lanes)

    def _measure(self, requests: Sequence[Request] = ()) -> None:
        """Measures what first passes measure in passes of their own, which see what those beside them do."""
        _ = self._factor, self._regimes
        for request in requests:
            self._in_front([request.prompt or {}], request.batch)

    def _together(self, requests: list[Request]) -> list[Losses]:
        """Losses of requests of one shape, in one pass."""
        batch = one_batch([request.batch for request in requests])
        counts = [len(request.batch) for request in requests]
        scored = batch.scored[batch.labels].to(self.device)

        def losses(prompts: list[Prompt]) -> Losses:
            logits, labels, rows = self._label_logits(prompts, counts, batch)
            return summed(logits, labels, scored, rows, len(batch))

        return differentiated(losses, requests, self.device)

    def _label_logits(
        self, prompts: Sequence[Prompt], counts: Sequence[int], batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N V] of the model at every label of the batch, the labels [N] and their rows [N].

        Args:
            counts: number of consecutive rows that see each prompt.
        """
        _require_predicted(batch)
        prompts, batch, anchor = self._in_front(prompts, batch)
        owner = torch.repeat_interleave(torch.tensor(counts))
        parts = self._apart(prompts[0], batch.lengths)
        if len(parts) == 1:
            return self._logits_of(prompts, owner, batch, anchor)
        found = []
        for rows, _ in parts:
            logits, labels, at = self._logits_of(prompts, owner[rows], chosen_rows(batch, rows), anchor)
            found.append((logits, labels, rows.to(self.device)[at]))
        logits, labels, at = (torch.cat(column) for column in zip(*found, strict=True))
        order = at.argsort(stable=True)
        return logits[order], labels[order], at[order]

    def _apart(self, prompt: Prompt, lengths: Int[Tensor, "B"], ahead: int = 0) -> list[Part]:
        """The rows of a batch, grouped by which may share a pass: all of them, in most families.

        Args:
            ahead: tokens by which the rows will be continued.
        """
        self._places.check(prompt)
        cut = max((len(vectors) for place, vectors in prompt.items() if place.after == "cut"), default=0)
        front = max((len(vectors) for place, vectors in prompt.items() if place.after != "cut"), default=0)
        return apart(self._regimes, lengths.cpu(), front, cut, ahead, self._family)

    def _in_front(
        self, prompts: Sequence[Prompt], batch: Batch
    ) -> tuple[Sequence[Prompt], Batch, Anchor | None]:
        """Prompts behind the first token as prompts in front of the rest, see `anchor`; others as is."""
        for prompt in prompts:
            self._places.check(prompt)
        if not stands_behind(prompts[0]):
            return prompts, batch, None
        anchor = self._anchor(first_token(batch))
        return [anchored(prompt, anchor.states) for prompt in prompts], rest(batch), anchor

    def _logits_of(
        self, prompts: Sequence[Prompt], owner: Int[Tensor, "B"], batch: Batch, anchor: Anchor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same in one pass; `owner` is the index of each row's prompt."""
        packed = Packed.of(batch)
        labels = batch.labels[:, : packed.rows.longest]
        marked = labels.flatten().index_select(0, packed.rows.unpad)
        where = marked.nonzero().squeeze(1)
        row = packed.row_of[where]
        before, first = where - 1, None
        if anchor is not None:
            begins = where == (packed.rows.lengths.cumsum(0) - packed.rows.lengths)[row]
            first = FirstLabels(anchor, begins, kept=len(prompts[0].get(Place(0), ())))
            before = first.before(before, owner[row] + 1 - len(prompts))
        # All that a GPU needs goes there before the pass: a copy behind it would wait for its end.
        labelled, row = packed.tokens[where].to(self.device), row.to(self.device)
        packed = packed.to(self.device)
        current = RowPass(packed.rows, prompts=len(prompts), kept_only=True)
        if len(prompts) > 1:
            current.owner = owner.to(self.device) if len(owner) else torch.zeros_like(packed.rows.lengths)
        forward = self._forward
        if self.frozen is not None and first_block(prompts[0]) and self._regimes.longest is None:
            forward = self.frozen.forward
        logits = forward(prompts, packed.tokens, current, keep=before)
        return logits if first is None else first.logits(logits), labelled, row

    @torch.no_grad()
    def generate(
        self, prompt: Prompt | None, batch: Batch, *, max_new: int, stop: frozenset[int]
    ) -> list[list[int]]:
        (prompt,), batch, _ = self._in_front([prompt or {}], batch)
        out: list[list[int]] = [[] for _ in range(len(batch))]
        for rows, steady in self._apart(prompt, batch.lengths, ahead=max_new):
            whole = len(rows) == len(batch)
            some = batch if whole else chosen_rows(batch, rows)
            # A dummy pass is at its end with the first token, whatever that is.
            ends = stop if len(rows) else frozenset(range(self.info().vocabulary))
            continued = self._continued if steady else self._continued_anew
            for row, tokens in zip(rows.tolist(), continued(prompt, some, max_new, ends), strict=False):
                out[row] = tokens
        return out

    def _continued_anew(
        self, prompt: Prompt, batch: Batch, max_new: int, stop: frozenset[int]
    ) -> list[list[int]]:
        """Continues one row, with a pass over all of it per token, as its keys change on the way."""
        tokens = Packed.of(batch).tokens.to(self.device)
        out: list[int] = []
        over = False
        for step in range(max_new):
            alive()
            current = RowPass(Rows.of(tokens.new_tensor([len(tokens)])), kept_only=True)
            found = self._forward([prompt], tokens, current, keep=tokens.new_tensor([len(tokens) - 1]))
            token = found.argmax(-1)
            over = over or int(token) in stop
            if not over:
                out.append(int(token))
            if step == max_new - 1 or not self._goes_on(over):
                break
            tokens = torch.cat([tokens, token])
        return [out]

    def _continued(self, prompt: Prompt, batch: Batch, max_new: int, stop: frozenset[int]) -> list[list[int]]:
        """Continues rows, together or in lanes."""
        hands = dealt(batch.lengths.tolist(), self.lanes)
        if len(hands) == 1:
            return self._written(prompt, batch, max_new, stop)
        self._measure()

        def written(rows: list[int]) -> list[list[int]]:
            return self._written(prompt, chosen_rows(batch, torch.tensor(rows)), max_new, stop)

        found = side_by_side(written, hands)
        answers = {
            row: tokens
            for hand, told in zip(hands, found, strict=True)
            for row, tokens in zip(hand, told, strict=True)
        }
        return [answers[row] for row in range(len(batch))]

    @torch.no_grad()
    def _written(self, prompt: Prompt, batch: Batch, max_new: int, stop: frozenset[int]) -> list[list[int]]:
        """Continues rows together, with a cache of their keys and values."""
        packed = Packed.of(batch).to(self.device)
        cache = Cache()
        lengths = packed.rows.lengths
        prefill = RowPass(packed.rows, cache=cache, room=max_new, kept_only=True)
        logits = self._forward([prompt], packed.tokens, prefill, keep=lengths.cumsum(0) - 1)
        start = prefill.start + prefill.kept

        out: list[list[int]] = [[] for _ in range(len(batch))]
        active = torch.arange(len(batch), device=self.device)
        over = False
        for step in range(max_new):
            alive()
            tokens = logits.argmax(-1)
            going = torch.tensor([token not in stop for token in tokens.tolist()], device=self.device)
            over = over or not bool(going.any())
            if not bool(going.all()):
                # One row stays when all are at their ends, for a host that has to go on for others.
                chosen = active.new_zeros(1) if over else going.nonzero().squeeze(1)
                active, tokens = active[chosen], tokens[chosen]
                cache.select(chosen)
            if not over:
                for row, token in zip(active.tolist(), tokens.tolist(), strict=True):
                    out[row].append(token)
            if step == max_new - 1 or not self._goes_on(over):
                break
            now = lengths[active] + step
            current = RowPass(None, cache=cache, room=max_new - step, now=now)
            with running(current):
                logits = self._model(
                    inputs_embeds=self._embedding(tokens)[None],
                    position_ids=(now + start)[None],
                    use_cache=False,
                    logits_to_keep=torch.arange(len(active), device=self.device),
                ).logits[0]
        return out

    def _goes_on(self, over: bool) -> bool:
        """Whether generation takes another step: in this host, unless every row has ended."""
        return not over

    @torch.no_grad()
    def compare(self, a: Prompt | None, b: Prompt | None, batch: Batch) -> Comparison:
        first, _, rows = self._label_logits([a or {}], [len(batch)], batch)
        second, _, _ = self._label_logits([b or {}], [len(batch)], batch)
        return compared(first, second, rows, len(batch))

    @torch.no_grad()
    def attention(self, prompt: Prompt | None, batch: Batch) -> Attention:
        _require_predicted(batch)
        (prompt,), batch, anchor = self._in_front([prompt or {}], batch)
        lead, kept = int(anchor is not None), Place(0) in prompt
        shares = torch.zeros(len(batch), len(self._blocks.layers), 3)
        for rows, _ in self._apart(prompt, batch.lengths):
            some = batch if len(rows) == len(batch) else chosen_rows(batch, rows)
            packed = Packed.of(some).to(self.device)
            queries = [row.nonzero().squeeze(1) - 1 for row in some.labels.to(self.device)]
            looks = Looks(queries, lead, kept)
            nothing = torch.zeros(1, dtype=torch.long)
            self._forward([prompt], packed.tokens, RowPass(packed.rows, looks=looks), keep=nothing)
            for block, found in looks.shares.items():
                shares[rows, block] = found[: len(rows)].cpu()
        prompts, first, text = shares.unbind(2)
        return Attention(prompts, first, text, batch.labels.sum(1).cpu())

    def sites(self) -> tuple[str, ...]:
        return self._sites.names()

    @torch.no_grad()
    def observe(
        self, prompt: Prompt | None, batch: Batch, sites: Sequence[str], statistic: StatisticT
    ) -> StatisticT:
        (inner,), texts, anchor = self._in_front([prompt or {}], batch)
        if anchor is None:
            self._observe(inner, texts, sites, statistic)
        else:
            alone = Last()
            self._observe({}, beginning(batch), sites, alone)
            self._observe(inner, texts, sites, WithFirst(statistic, first_token(batch), alone.states))
        return statistic

    def _observe(self, prompt: Prompt, batch: Batch, sites: Sequence[str], statistic: SiteStatistic) -> None:
        """`observe` for a prompt in front of the texts."""
        for rows, _ in self._apart(prompt, batch.lengths):
            some = batch if len(rows) == len(batch) else chosen_rows(batch, rows)
            packed = Packed.of(some).to(self.device)
            within = torch.arange(packed.rows.longest, device=self.device).repeat(packed.rows.count)
            at = Where(packed.row_of, within.index_select(0, packed.rows.unpad), packed.tokens)
            # Of a dummy pass there is nothing to see.
            where = (
                Where(rows.to(self.device)[at.rows], *at[1:]) if len(rows) else Where(*(p[:0] for p in at))
            )
            with self._sites.feeding(statistic, sites, where):
                nothing = torch.zeros(1, dtype=torch.long)
                self._forward([prompt], packed.tokens, RowPass(packed.rows), keep=nothing)

    @torch.no_grad()
    def prompt_states(
        self, prompt: Prompt, sites: Sequence[str], first: int | None = None
    ) -> dict[str, Float[Tensor, "_ H"]]:
        self._sites.require_residual(sites)
        self._places.check(prompt)
        inner = prompt
        if stands_behind(prompt):
            inner = anchored(prompt, self._anchor(known(first)).states)
        kept = next(
            (v for place, v in prompt.items() if place.kind == "residual" and place.after == "keep"), None
        )
        found: dict[str, Tensor] = {}
        self._apart(inner, torch.ones(1, dtype=torch.long))  # refuses lengths that blocks see differently
        if kept is not None:
            token = torch.zeros(1, dtype=torch.long, device=self.device)
            with self._sites.fronts(found, sites, len(inner[Place(0)])):
                self._forward([inner], token, RowPass(Rows.of(torch.ones_like(token))), keep=token)
            found = {site: states[-len(kept) :] for site, states in found.items()}
            if "resid.0" in sites:  # not what enters block 0, as for texts
                found["resid.0"] = kept.detach().to(self.device).float()
        for place, vectors in prompt.items():
            site = f"resid.{place.block}"
            if place.after == "cut" and site in sites:
                parts = [vectors.to(self.device).float(), *([found[site]] if site in found else [])]
                found[site] = torch.cat(parts)
        return {site: found[site] for site in sites if site in found}


def _require_predicted(batch: Batch) -> None:
    if bool(batch.labels[:, 0].any()):
        raise ValueError("the first token of a row cannot be a label: nothing of the text predicts it")
