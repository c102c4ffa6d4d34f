"""Packed passes of a causal transformers model, and what they tell about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from softprior.assets.architecture import DecoderConfig
from softprior.errors import UserError
from softprior.models.anchor import Anchor
from softprior.models.blocks import Blocks, position_kind, position_table
from softprior.models.entry import embedding_factor
from softprior.models.hooks import showing, turning
from softprior.models.insertion import Insertion
from softprior.models.lengths import ALWAYS, Regimes, find_regimes, forget_lengths
from softprior.models.mlps import leave_out, recompute
from softprior.models.norms import fuse
from softprior.models.packing import RowPass, Rows, positions_read, running
from softprior.models.places import Places, partner
from softprior.models.ragged import takes
from softprior.models.torch_private import allow_kinds_of_passes
from softprior.prompt import Place, Prompt


class PackedModel:
    """A causal model that runs packed passes.

    Its attention goes through `softprior.models.packing`: each prompt vector and each real token is computed
    once, prompts are shared by all rows of a batch, logits are computed at labels. Cut prompts join the
    packed sequence in front at the input of their block and leave it at its output, which is what the paper's
    literal form does row by row.
    """

    def __init__(self, model: nn.Module) -> None:
        """Takes over a model that was loaded with `attn_implementation=packing.ATTENTION`.

        Raises:
            UserError: the family has no blocks under names that softprior knows.
        """
        self._model = model.eval().requires_grad_(False)
        self._family: str = model.config.model_type  # type: ignore[union-attr, assignment]
        # Models that also see or hear keep the sizes of their decoder in a config of its own.
        self._config: DecoderConfig = model.config.get_text_config()  # type: ignore[union-attr, operator]
        self._blocks = Blocks.of(model)
        self._table = position_table(model)
        self._positions: Literal["rotary", "learned", "other"] = position_kind(model)
        self._embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
        self._places = Places(len(self._blocks.layers), self._positions, self._family)
        self._insertion = Insertion(self._blocks)
        self._anchors: dict[int, Anchor] = {}
        self.windows: set[int] = set()
        self.ragged = True
        """Whether attention may take the kernel for rows of different lengths or chunks of queries, norms
        theirs, MLPs may compute again what they need backward and leave out what nobody reads, and passes may
        run side by side."""
        gated = recompute(model, self._recomputes)
        if (last := getattr(self._blocks.layers[-1], "mlp", None)) in gated:
            leave_out(last, positions_read)
        self._ours = [*fuse(model, self._fuses), *gated]
        self._compiled = False

    def compile(self) -> None:
        """Has torch.compile fuse the blocks' MLPs and norms, for passes of any length, when they first run.

        Raises:
            UserError: the family has none under a name that softprior knows.
        """
        if not self._blocks.positionwise():
            raise UserError(
                f"model.kernels = 'compiled', but the family '{self._family}' has no MLPs or norms under "
                "names that softprior knows; write kernels: auto"
            )
        allow_kinds_of_passes()
        for module in self._ours:
            del module.forward  # torch.compile fuses the family's own
        for module in self._blocks.positionwise():
            module.forward = torch.compile(module.forward, dynamic=True)
        self._compiled = True

    @property
    def kernels(self) -> Literal["padded", "chunked", "ragged", "compiled"]:
        """See `ModelInfo.kernels`."""
        if self._compiled:
            return "compiled"
        if self.ragged and self.device.type == "cpu":
            return "chunked"
        return "ragged" if self.ragged and takes(self.device, self.dtype) else "padded"

    def _fuses(self, states: Tensor) -> bool:
        """Whether norms of such states run as one kernel."""
        return self.ragged and takes(states.device, states.dtype)

    def _recomputes(self, states: Tensor) -> bool:
        """Whether MLPs compute activated gates again in a pass backward: on CPUs, where it costs no time."""
        return self.ragged and states.device.type == "cpu"

    @property
    def device(self) -> torch.device:
        return next(self._model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self._model.parameters()).dtype

    @property
    def _longest(self) -> int:
        return int(getattr(self._config, "max_position_embeddings", 0) or 2**31 - 1)

    @cached_property
    def _factor(self) -> float:
        """See `ModelInfo.embedding_factor`; measured, since families call it by many names."""
        return embedding_factor(self._enter, self._config.hidden_size, self.dtype, self._family)

    @torch.no_grad()
    def _enter(self, vectors: Float[Tensor, "G P H"]) -> Float[Tensor, "G P H"] | None:
        """What block 0 receives for vectors in front of the input embeddings; None if those are narrower."""
        token = torch.zeros(1, dtype=torch.long, device=self.device)
        if self._embedding(token).shape[-1] != vectors.shape[2]:
            return None
        count = vectors.shape[0] * vectors.shape[1]
        shown: list[Tensor] = []
        current = RowPass(Rows.of(torch.ones_like(token)), prompts=len(vectors))
        current.owner = token
        with showing([(self._blocks.layers[0], lambda states: shown.append(states[0, :count].clone()))], []):
            self._forward([{Place(0): part} for part in vectors], token, current, keep=token)
        # The first pass of all measures `_regimes`, in passes of its own.
        found: Tensor = shown[-1].unflatten(0, vectors.shape[:2])
        return found

    @cached_property
    def _regimes(self) -> Regimes:
        """Which lengths of a pass have the same rotation."""
        return ALWAYS if self._positions != "rotary" else find_regimes(self._turned, self._longest)

    @torch.no_grad()
    def _turned(self, length: int) -> list[Tensor]:
        """The frequencies of a pass of a given length, and the rotation of its position 1."""
        tokens = torch.zeros(2, dtype=torch.long, device=self.device)
        positions = torch.tensor([1, length - 1], device=self.device)
        forget_lengths(self._model)
        with running(RowPass(Rows.of(positions.new_tensor([2])))), turning(self._blocks.layers) as shown:
            self._model(
                inputs_embeds=self._embedding(tokens)[None],
                position_ids=positions[None],
                use_cache=False,
                logits_to_keep=1,
            )
        buffers = [value.clone() for name, value in self._model.named_buffers() if name.endswith("inv_freq")]
        return buffers + [part[0, 0].clone() for part in shown]

    def _scaled(self, block: int, vectors: Tensor) -> Tensor:
        """Vectors that join at a block, as it receives them: see `ModelInfo.embedding_factor`."""
        return vectors if block or self._factor == 1.0 else vectors * self._factor

    def _forward(self, prompts: Sequence[Prompt], tokens: Tensor, current: RowPass, keep: Tensor) -> Tensor:
        """One packed pass; logits at the kept indices of the text. `keep` counts from the first row.

        Args:
            prompts: of one shape, as many as the pass says.
        """
        assert current.rows is not None
        for prompt in prompts:
            self._places.check(prompt)
        vectors = self._stacked(prompts)
        kept = vectors.get(Place(0))
        cut = {place.block: value for place, value in vectors.items() if place.after == "cut"}
        current.prefix = {
            place.block: (vectors[place], vectors[partner(place)]) for place in vectors if place.kind == "key"
        }
        current.ragged = self.ragged
        current.kept = 0 if kept is None else kept.shape[1]
        current.cut = {block: value.shape[1] for block, value in cut.items()}

        if 0 in cut:
            cut[0] = self._scaled(0, cut[0])
            if self._table is not None:
                cut[0] = cut[0] + self._table(torch.arange(cut[0].shape[1], device=self.device))
        texts = self._embedding(tokens)
        embeddings = texts if kept is None else torch.cat([kept.flatten(0, 1), texts])
        keep = keep.to(self.device) + current.prompts * current.kept
        if current.kept_only and self.ragged and self.device.type == "cpu":
            current.read = keep.unique() + current.prompts * current.cut.get(len(self._blocks.layers) - 1, 0)
        positions = self._position_ids(current, len(tokens))
        if self._regimes.each:
            forget_lengths(self._model)
        with running(current), self._insertion.inserting(cut):
            logits: Tensor = self._model(
                inputs_embeds=embeddings[None],
                position_ids=positions[None],
                use_cache=False,
                logits_to_keep=keep,
            ).logits
        self.windows |= current.windows
        return logits[0]

    def _stacked(self, prompts: Sequence[Prompt]) -> dict[Place, Float[Tensor, "G P _"]]:
        """The vectors of prompts of one shape, in the model's type: all of them in one conversion."""
        shapes = {place: (len(prompts), *vectors.shape) for place, vectors in prompts[0].items()}
        if not shapes:
            return {}
        parts = [prompt[place].to(self.device).flatten() for place in shapes for prompt in prompts]
        flat = torch.cat(parts).to(self.dtype)
        split = flat.split([math.prod(shape) for shape in shapes.values()])
        return {place: part.view(shape) for part, (place, shape) in zip(split, shapes.items(), strict=True)}

    def _position_ids(self, current: RowPass, tokens: int) -> Int[Tensor, "N"]:
        """Positions of [cut prompt | kept of each prompt | rows]; each row starts over after its prompt.

        Prefix keys are at positions 0 to P - 1, with text after them. What is prepended at block 0 takes
        part in the numbering (GPT-2 adds its learned positions there); cut prompts of later blocks come
        before that, at negative positions if necessary: with rotary positions only differences matter.
        The model reads a learned table only for [kept prompt | rows], and it has no position for vectors
        that join later.
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

    @torch.no_grad()
    def _anchor(self, token: int) -> Anchor:
        """A token that texts begin with as a constant, computed once."""
        if token not in self._anchors:
            ids, shown = torch.tensor([token], device=self.device), {}

            def keep(block: int, states: Tensor) -> None:
                shown[block] = states[0].clone()  # of the last pass: the first of all measures `_regimes`

            inputs = [(layer, partial(keep, block)) for block, layer in enumerate(self._blocks.layers)]
            with showing(inputs, []):
                alone = RowPass(Rows.of(torch.ones_like(ids)))
                logits = self._forward([{}], ids, alone, keep=torch.zeros_like(ids))
            shown[0] = self._embedding(ids)  # not what enters block 0, as for a prompt
            self._anchors[token] = Anchor(tuple(shown[block] for block in sorted(shown)), logits)
        return self._anchors[token]
