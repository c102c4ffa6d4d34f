"""The local host: weights in this process, for any causal model of transformers that takes embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from softprior.errors import UserError
from softprior.liveness import alive
from softprior.models.blocks import Blocks, position_kind, position_table
from softprior.models.insertion import Insertion
from softprior.models.keys import KeyGeometry
from softprior.models.packing import Cache, Pass, Rows, flattened, running
from softprior.models.passes import divided, in_passes, one_batch
from softprior.models.protocol import Comparison, Losses, ModelInfo, Request, StatisticT, Where
from softprior.models.reductions import compared, differentiated, summed
from softprior.models.sites import Sites
from softprior.prompt import Batch, Place, Prompt


class LocalLM:
    """A frozen causal model in this process; see `FrozenLM` for the contract.

    The model's attention goes through `softprior.models.packing`: each prompt vector and each real
    token is computed once, prompts are shared by all rows of a batch, logits exist where a label is.
    Cut prompts join the packed sequence in front at the input of their block and leave it at its
    output, which is what the paper's literal form does row by row.
    """

    def __init__(self, model: nn.Module, fingerprint: str) -> None:
        """Takes over a model that was loaded with `attn_implementation=packing.ATTENTION`.

        Raises:
            UserError: the family does something past the attention interface, so that packed rows
                would see each other or the result would differ from the model's own.
        """
        self._model = model.eval().requires_grad_(False)
        self._fingerprint = fingerprint
        self._config: Any = model.config
        self._blocks = Blocks.of(model)
        self._table = position_table(model)
        self._positions: Literal["rotary", "learned", "other"] = position_kind(model)
        self._embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
        self._insertion = Insertion(self._blocks)
        self._geometry = KeyGeometry(self._model, self._blocks)
        self._sites = Sites(self._blocks, self._geometry)
        self.windows: set[int] = set()

    @property
    def device(self) -> torch.device:
        return next(self._model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self._model.parameters()).dtype

    def info(self) -> ModelInfo:
        return ModelInfo(
            family=self._config.model_type,
            stack="decoder",
            blocks=len(self._blocks.layers),
            hidden=self._config.hidden_size,
            vocabulary=self._model.get_input_embeddings().weight.shape[0],  # type: ignore[operator]
            parameters=sum(p.numel() for p in self._model.parameters()),
            positions=int(getattr(self._config, "max_position_embeddings", 0) or 2**31 - 1),
            embedding=self._positions,
            fingerprint=self._fingerprint,
            dtype=str(self.dtype).removeprefix("torch."),
        )

    @torch.no_grad()
    def embed(self, ids: Int[Tensor, "T"]) -> Float[Tensor, "T H"]:
        return self._embedding(ids.to(self.device)).float()

    @torch.no_grad()
    def normalise(self, place: Place, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        norm = self._blocks.norm(place.block)
        return norm(vectors.to(self.device, self.dtype)).float()

    def width(self, place: Place) -> int:
        self._check_place(place)
        return self._geometry.width(place)

    def project(self, place: Place, states: Float[Tensor, "N H"]) -> Float[Tensor, "N D"]:
        return self._geometry.project(place, states)

    def rotate(
        self, place: Place, keys: Float[Tensor, "P D"], *, inverse: bool = False
    ) -> Float[Tensor, "P D"]:
        return self._geometry.rotate(place, keys, inverse)

    @torch.no_grad()
    def keys_values(
        self, ids: Int[Tensor, "T"], blocks: Sequence[int]
    ) -> dict[int, tuple[Float[Tensor, "T D"], Float[Tensor, "T D"]]]:
        lengths = torch.tensor([len(ids)], device=self.device)
        current = Pass(Rows.of(lengths), cache=Cache())
        self._forward([{}], ids.to(self.device), current, keep=torch.zeros(1, dtype=torch.long))
        assert current.cache is not None
        cache = current.cache
        return {
            block: (flattened(cache.keys[block]).float(), flattened(cache.values[block]).float())
            for block in blocks
        }

    def loss(self, prompt: Prompt | None, batch: Batch, *, grad: bool = False) -> Losses:
        return self._together([Request(prompt, batch, grad)])[0]

    def loss_many(self, requests: Sequence[Request], tokens: int | None = None) -> list[Losses]:
        """See `PackingLM`."""
        return in_passes(self._together, requests, tokens)

    def _together(self, requests: list[Request]) -> list[Losses]:
        """Losses of requests of one shape, in one pass."""
        batch = one_batch([request.batch for request in requests])
        counts = [len(request.batch) for request in requests]

        def losses(prompts: list[Prompt]) -> list[Losses]:
            logits, labels, rows = self._label_logits(prompts, counts, batch)
            scored = batch.scored.to(self.device)[batch.labels.to(self.device)]
            return divided(summed(logits, labels, scored, rows, len(batch)), counts)

        return differentiated(losses, requests)

    def _label_logits(
        self, prompts: Sequence[Prompt], counts: Sequence[int], batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N V] of the model at every label of the batch, the labels [N] and their rows [N].

        Args:
            counts: how many rows, one after another, stand under each prompt.
        """
        if bool(batch.labels[:, 0].any()):
            raise ValueError("the first token of a row cannot be a label: nothing of the text predicts it")
        packed = _Packed.of(batch, self.device)
        current = Pass(packed.rows, prompts=len(prompts))
        if len(prompts) > 1:
            current.owner = torch.repeat_interleave(torch.tensor(counts)).to(self.device)
        labels = batch.labels[:, : packed.rows.longest].to(self.device)
        marked = labels.flatten().index_select(0, packed.rows.unpad)
        where = marked.nonzero().squeeze(1)
        logits = self._forward(prompts, packed.tokens, current, keep=where - 1)
        return logits, packed.tokens[where], packed.row_of[where]

    def _forward(self, prompts: Sequence[Prompt], tokens: Tensor, current: Pass, keep: Tensor) -> Tensor:
        """One packed pass; logits at the kept indices of the text. `keep` counts from the first row.

        Args:
            prompts: of one shape, as many as the pass says.
        """
        assert current.rows is not None
        for prompt in prompts:
            self._check(prompt)
        vectors = {
            place: torch.stack([prompt[place].to(self.device, self.dtype) for prompt in prompts])
            for place in prompts[0]
        }
        kept = vectors.get(Place(0))
        cut = {place.block: value for place, value in vectors.items() if place.after == "cut"}
        current.prefix = {
            place.block: (vectors[place], vectors[_partner(place)])
            for place in vectors
            if place.kind == "key"
        }
        current.kept = 0 if kept is None else kept.shape[1]
        current.cut = {block: value.shape[1] for block, value in cut.items()}

        if 0 in cut and self._table is not None:
            cut[0] = cut[0] + self._table(torch.arange(cut[0].shape[1], device=self.device))
        texts = self._embedding(tokens)
        embeddings = texts if kept is None else torch.cat([kept.flatten(0, 1), texts])
        keep = keep.to(self.device) + current.prompts * current.kept
        positions = self._position_ids(current, len(tokens))
        with running(current), self._insertion.inserting(cut):
            logits: Tensor = self._model(
                inputs_embeds=embeddings[None],
                position_ids=positions[None],
                use_cache=False,
                logits_to_keep=keep,
            ).logits
        self.windows |= current.windows
        return logits[0]

    def _position_ids(self, current: Pass, tokens: int) -> Int[Tensor, "N"]:
        """Positions of [cut prompt | kept of each prompt | rows]; a row starts over behind its prompt.

        Prefix keys stand at positions 0 to P - 1 and text behind them. What is prepended at block 0 takes
        part in the numbering (GPT-2 adds its learned positions there);
        cut prompts of later blocks stand in front of that, at negative positions if need be: with rotary
        positions only differences count. A learned table is read by the model for [kept prompt | rows]
        alone, and has no position for vectors that join later.
        """
        assert current.rows is not None
        start = current.start
        lead = 0 if self._positions == "learned" else max(current.cut.values(), default=0)
        before = torch.arange(start - lead, start, device=self.device)
        front = torch.arange(start, start + current.kept, device=self.device).repeat(current.prompts)
        within = torch.arange(current.rows.longest, device=self.device).repeat(current.rows.count)
        rows = within.index_select(0, current.rows.unpad) + start + current.kept
        assert len(rows) == tokens
        return torch.cat([before, front, rows])

    def _check(self, prompt: Prompt) -> None:
        for place in prompt:
            self._check_place(place)
        prefix = [place for place in prompt if place.kind != "residual"]
        if not prefix:
            return
        if len(prefix) < len(prompt):
            raise UserError(
                "this host takes residual vectors or prefix keys and values, not both in one prompt"
            )
        alone = next((place for place in prompt if _partner(place) not in prompt), None)
        if alone is not None:
            raise UserError(f"the place {alone.name} needs {_partner(alone).name} beside it")
        counts = sorted({len(vectors) for vectors in prompt.values()})
        if len(counts) > 1:
            raise UserError(f"a prefix has as many vectors at every place, and this one has {counts}")

    def _check_place(self, place: Place) -> None:
        blocks = len(self._blocks.layers)
        if place.stack != "decoder":
            raise UserError(f"this host has no place {place.name}; the model is a decoder alone")
        if not 0 <= place.block < blocks:
            raise UserError(f"block {place.block} does not exist: the model has blocks 0 to {blocks - 1}")
        if place.kind != "residual" and place.after == "cut":
            raise UserError(f"there is no place {place.name}: keys and values are never in the sequence")
        if place.kind == "residual" and place.after == "keep" and place.block != 0:
            raise UserError(
                f"the place {place.name} cannot keep: vectors stay in the sequence from block 0 only"
            )
        if self._positions == "other" and (place.after == "cut" or place.kind != "residual"):
            raise UserError(
                f"the model family '{self._config.model_type}' has neither rotary nor GPT-2's learned "
                "positions, so cut prompts and prefixes have no position in it; use the method soft"
            )

    @torch.no_grad()
    def generate(
        self, prompt: Prompt | None, batch: Batch, *, max_new: int, stop: frozenset[int]
    ) -> list[list[int]]:
        prompt = prompt or {}
        packed = _Packed.of(batch, self.device)
        cache = Cache()
        lengths = packed.rows.lengths
        prefill = Pass(packed.rows, cache=cache, room=max_new)
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
            current = Pass(None, cache=cache, room=max_new - step, now=now)
            with running(current):
                logits = self._model(
                    inputs_embeds=self._embedding(tokens)[None],
                    position_ids=(now + start)[None],
                    use_cache=False,
                    logits_to_keep=torch.arange(len(active), device=self.device),
                ).logits[0]
        return out

    def _goes_on(self, over: bool) -> bool:
        """Whether generation takes another step: here, unless every row is at its end."""
        return not over

    @torch.no_grad()
    def compare(self, a: Prompt | None, b: Prompt | None, batch: Batch) -> Comparison:
        first, _, rows = self._label_logits([a or {}], [len(batch)], batch)
        second, _, _ = self._label_logits([b or {}], [len(batch)], batch)
        return compared(first, second, rows, len(batch))

    def sites(self) -> tuple[str, ...]:
        return self._sites.names()

    @torch.no_grad()
    def observe(
        self, prompt: Prompt | None, batch: Batch, sites: Sequence[str], statistic: StatisticT
    ) -> StatisticT:
        packed = _Packed.of(batch, self.device)
        within = torch.arange(packed.rows.longest, device=self.device).repeat(len(batch))
        where = Where(packed.row_of, within.index_select(0, packed.rows.unpad), packed.tokens)
        with self._sites.feeding(statistic, sites, where):
            nothing = torch.zeros(1, dtype=torch.long)
            self._forward([prompt or {}], packed.tokens, Pass(packed.rows), keep=nothing)
        return statistic


@dataclass
class _Packed:
    """A batch without its pads: tokens one row after another, and the row of each."""

    rows: Rows
    tokens: Int[Tensor, "N"]
    row_of: Int[Tensor, "N"]

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> _Packed:
        lengths = batch.lengths.to(device)
        longest = int(lengths.max())
        rows = Rows.of(lengths)
        tokens = batch.tokens[:, :longest].to(device).flatten().index_select(0, rows.unpad)
        row_of = torch.arange(len(batch), device=device).repeat_interleave(lengths)
        return cls(rows, tokens, row_of)


def _partner(place: Place) -> Place:
    """The place of the values that belong to keys, or of the keys that belong to values."""
    return replace(place, kind="value" if place.kind == "key" else "key")
