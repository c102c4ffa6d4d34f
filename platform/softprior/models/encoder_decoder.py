"""The host for encoder-decoder models of the T5 kind: weights in this process, prompts for the encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from softprior.assets.architecture import require_family
from softprior.errors import UserError
from softprior.liveness import alive
from softprior.models.hooks import at_sites, showing
from softprior.models.identity import computing
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
from softprior.prompt import Batch, Place, Prompt

PLACE = Place(0, stack="encoder")
"""The only place that exists: vectors in front of the encoder's input embeddings."""


def decoder_start(model: Any) -> int:
    """The token that a model's decoder starts from.

    Raises:
        UserError: the model names none.
    """
    for config in (model.config, getattr(model, "generation_config", None)):
        token = getattr(config, "decoder_start_token_id", None)
        if token is not None:
            return int(token)
    raise UserError(
        "this model has no decoder_start_token_id, from which the decoder starts; set it in its "
        "config.json (T5 uses its pad token, 0)"
    )


class EncoderDecoderLM:
    """A frozen encoder-decoder model in this process; see `FrozenLM` for the contract.

    A row is split at its first label. The encoder reads what comes before it, unchanged (all of a row
    without labels). The decoder starts from `decoder_start_token_id` and is fed the tokens from the
    first label on, so that each label is predicted from the input and from all of the answer before
    it; tokens between labels are read but not predicted. `generate` continues the row, so the decoder
    first reads any part of an answer that the row has.

    Rows are right-padded and the padding is masked. Logits are computed at labels only.

    Sites are `encoder.resid.l`, `encoder.final`, `decoder.resid.l` and `decoder.final`. Sites of the
    encoder have the states of the tokens before the first label; sites of the decoder those of the
    tokens from it on, as the decoder reads them, without its start token: the state of a token is the
    one from which the next is predicted. In both, positions are those in the row. A site of the
    decoder receives nothing if no row has a label.
    """

    def __init__(self, model: nn.Module, fingerprint: str) -> None:
        """Takes over a model of `AutoModelForSeq2SeqLM`.

        Raises:
            UserError: the family is not of the T5 kind, or the decoder has no start token.
        """
        require_family(model.config)  # type: ignore[arg-type]
        self._model: Any = model.eval().requires_grad_(False)
        self._fingerprint = fingerprint
        self._config: Any = model.config
        self._embedding: nn.Embedding = model.get_input_embeddings()  # type: ignore[operator]
        self._stacks: dict[str, Any] = {
            "encoder": model.get_encoder(),  # type: ignore[operator]
            "decoder": model.get_decoder(),  # type: ignore[operator]
        }
        self.start = decoder_start(self._model)

    @property
    def device(self) -> torch.device:
        return self._embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self._embedding.weight.dtype

    def info(self) -> ModelInfo:
        return ModelInfo(
            family=self._config.model_type,
            stack="encoder",
            blocks=len(self._stacks["encoder"].block),
            hidden=self._config.d_model,
            vocabulary=self._embedding.num_embeddings,
            parameters=sum(p.numel() for p in self._model.parameters()),
            # Relative positions share a bucket from relative_attention_max_distance on, so no text is
            # too long. The n_positions of old configs is the length T5 was pre-trained at, of either
            # stack; held against input and answer together it would refuse texts that fit.
            positions=2**31 - 1,
            embedding="other",
            fingerprint=self._fingerprint,
            dtype=str(self.dtype).removeprefix("torch."),
            device=self.device.type,
            computing=computing(self.device),
        )

    @torch.no_grad()
    def embed(self, ids: Int[Tensor, "T"]) -> Float[Tensor, "T H"]:
        found: Tensor = self._embedding(ids.to(self.device))
        return found.float()

    def width(self, place: Place) -> int:
        self._check_place(place)
        return int(self._config.d_model)

    @torch.no_grad()
    def normalise(self, place: Place, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        norm = self._stacks[place.stack].block[place.block].layer[0].layer_norm
        found: Tensor = norm(vectors.to(self.device, self.dtype))
        return found.float()

    def project(self, place: Place, states: Float[Tensor, "N H"]) -> Float[Tensor, "N D"]:  # noqa: ARG002
        raise self._no_keys(f"the place {place.name}")

    def rotate(
        self,
        place: Place,
        keys: Float[Tensor, "P D"],  # noqa: ARG002
        *,
        inverse: bool = False,  # noqa: ARG002
    ) -> Float[Tensor, "P D"]:
        raise self._no_keys(f"the place {place.name}")

    def _no_keys(self, asked: str) -> UserError:
        return UserError(
            f"the host for encoder-decoder models has no keys and values, and {asked} needs them; use the "
            "method soft"
        )

    def loss(self, prompt: Prompt | None, batch: Batch, *, grad: bool = False) -> Losses:
        parts = _Parts.of(batch, self.device)
        labels, rows = parts.answers[parts.labels], parts.labels.nonzero()[:, 0]
        scored = parts.scored[parts.labels]

        def losses(given: list[Prompt]) -> Losses:
            return summed(self._label_logits(given[0], parts), labels, scored, rows, len(batch))

        return differentiated(losses, [Request(prompt, batch, grad)], self.device)[0]

    @torch.no_grad()
    def logits(self, prompt: Prompt | None, batch: Batch) -> Float[Tensor, "N V"]:
        """The logits from which the model predicts each label of the batch, row by row."""
        return self._label_logits(prompt or {}, _Parts.of(batch, self.device))

    def _label_logits(self, prompt: Prompt, parts: _Parts) -> Tensor:
        """Logits [N V] of the model at every label of the batch."""
        encoded, seen = self._encode(prompt, parts)
        # The decoder's position j, behind the start token and j tokens, predicts token j.
        read = self._read(parts)
        keep = functional.pad(parts.labels, (0, 1)).flatten().nonzero().squeeze(1)
        with self._keeping(keep):
            logits: Tensor = self._decode(encoded, seen, read).logits[0]
            return logits

    def _read(self, parts: _Parts) -> Int[Tensor, "B A1"]:
        """What the decoder reads: its start token, then the answers."""
        return functional.pad(parts.answers, (1, 0), value=self.start)

    def _encode(
        self, prompt: Prompt | None, parts: _Parts
    ) -> tuple[Float[Tensor, "B PS H"], Bool[Tensor, "B PS"]]:
        """The encoder's output for [prompt | input] of every row, and where it is not padding."""
        prompt = prompt or {}
        for place in prompt:
            self._check_place(place)
        embeddings, seen = self._embedding(parts.inputs), parts.given
        if prompt:
            vectors = prompt[PLACE].to(self.device, self.dtype).expand(len(embeddings), -1, -1)
            embeddings = torch.cat([vectors, embeddings], 1)
            seen = functional.pad(seen, (vectors.shape[1], 0), value=True)
        encoded = self._stacks["encoder"](inputs_embeds=embeddings, attention_mask=seen.long())
        return encoded.last_hidden_state, seen

    def _decode(
        self, encoded: Tensor, seen: Tensor, read: Tensor, *, cache: Any = None, use_cache: bool = False
    ) -> Any:
        """The model's own forward pass from the encoder's output on.

        The decoder needs no padding mask: padding comes after all that is read, and it only looks back.
        """
        return self._model(
            encoder_outputs=(encoded,),
            attention_mask=seen.long(),
            decoder_input_ids=read,
            past_key_values=cache,
            use_cache=use_cache,
        )

    @contextmanager
    def _keeping(self, keep: Int[Tensor, "N"]) -> Iterator[None]:
        """Computes logits only at the kept ones of all [B A] decoder positions.

        The others are dropped at the input of the output layer, so that what a family does before it (the
        scaling of models with tied embeddings) and after it is unchanged.
        """
        head: nn.Module = self._model.get_output_embeddings()
        handle = head.register_forward_pre_hook(lambda _, args: args[0].flatten(0, 1)[keep][None])
        try:
            yield
        finally:
            handle.remove()

    def _check_place(self, place: Place) -> None:
        if place != PLACE:
            raise UserError(
                f"there is no place {place.name}: an encoder-decoder model takes vectors only in front of "
                f"its encoder's input ({PLACE.name}); use the method soft"
            )

    @torch.no_grad()
    def generate(
        self, prompt: Prompt | None, batch: Batch, *, max_new: int, stop: frozenset[int]
    ) -> list[list[int]]:
        parts = _Parts.of(batch, self.device)
        encoded, seen = self._encode(prompt, parts)
        read, lengths = self._read(parts), parts.answered.sum(1)

        # One token a step for all rows, be it the row's or the model's: every row is as far as the
        # others, so the cache holds no pads. Rows of a task's questions have no token of their own.
        out: list[list[int]] = [[] for _ in range(len(batch))]
        active = torch.arange(len(batch), device=self.device)
        tokens, cache = read[:, 0], None
        for step in range(int(lengths.max()) + max_new):
            alive()
            output = self._decode(encoded, seen, tokens[:, None], cache=cache, use_cache=True)
            cache = output.past_key_values
            free = lengths[active] <= step
            own = read[active, min(step + 1, read.shape[1] - 1)]
            tokens = torch.where(free, output.logits[:, -1].argmax(-1), own)
            going = []
            for row, token, new in zip(active.tolist(), tokens.tolist(), free.tolist(), strict=True):
                if new and token not in stop:
                    out[row].append(token)
                going.append(not new or (token not in stop and len(out[row]) < max_new))
            if not all(going):
                chosen = torch.tensor(going, device=self.device).nonzero().squeeze(1)
                if len(chosen) == 0:
                    break
                active, tokens, encoded, seen = (part[chosen] for part in (active, tokens, encoded, seen))
                cache.batch_select_indices(chosen)
        return out

    @torch.no_grad()
    def compare(self, a: Prompt | None, b: Prompt | None, batch: Batch) -> Comparison:
        parts = _Parts.of(batch, self.device)
        rows = parts.labels.nonzero()[:, 0]
        first, second = self._label_logits(a or {}, parts), self._label_logits(b or {}, parts)
        return compared(first, second, rows, len(batch))

    def attention(self, prompt: Prompt | None, batch: Batch) -> Attention:  # noqa: ARG002
        raise UserError(
            "an encoder reads the prompt, and predictions look at what it makes of prompt and text together; "
            "choose a decoder-only model"
        )

    def sites(self) -> tuple[str, ...]:
        return tuple(
            f"{name}.{site}"
            for name, stack in self._stacks.items()
            for site in (*(f"resid.{block}" for block in range(len(stack.block) + 1)), "final")
        )

    @torch.no_grad()
    def observe(
        self, prompt: Prompt | None, batch: Batch, sites: Sequence[str], statistic: StatisticT
    ) -> StatisticT:
        parts = _Parts.of(batch, self.device)
        with self._feeding(statistic, sites, parts):
            encoded, seen = self._encode(prompt, parts)
            if any(site.startswith("decoder.") for site in sites):
                with self._keeping(torch.zeros(0, dtype=torch.long, device=self.device)):
                    self._decode(encoded, seen, self._read(parts))
        return statistic

    def prompt_states(
        self,
        prompt: Prompt,  # noqa: ARG002
        sites: Sequence[str],  # noqa: ARG002
        first: int | None = None,  # noqa: ARG002
    ) -> dict[str, Float[Tensor, "_ H"]]:
        raise UserError(
            "an encoder reads its prompt together with the text, so the prompt's states depend on the text; "
            "observe the texts, or choose a decoder-only model"
        )

    def _feeding(
        self, statistic: SiteStatistic, sites: Sequence[str], parts: _Parts
    ) -> AbstractContextManager[None]:
        """Hands the text's states at the sites to the statistic, for passes within the context."""
        outputs: dict[str, nn.Module] = {}
        inputs: dict[str, nn.Module] = {}
        for name, stack in self._stacks.items():
            inputs |= {f"{name}.resid.{block}": layer for block, layer in enumerate(stack.block)}
            outputs |= {
                f"{name}.resid.{len(stack.block)}": stack.block[-1],
                f"{name}.final": stack.final_layer_norm,
            }
        unknown = [site for site in sites if site not in self.sites()]
        if unknown:
            ranges = [f"{name}.resid.0 to {len(stack.block)}" for name, stack in self._stacks.items()]
            raise UserError(
                f"there is no site '{unknown[0]}'; this model has {' and '.join(ranges)}, encoder.final and "
                "decoder.final"
            )
        real = {"encoder": parts.given, "decoder": parts.answered}
        where = {"encoder": parts.where_given, "decoder": parts.where_answered}

        def give(site: str, states: Tensor) -> None:
            stack = site.partition(".")[0]
            # What is in front of the text is the prompt in the encoder, the start token in the decoder.
            text = states[:, states.shape[1] - real[stack].shape[1] :]
            if len(where[stack].tokens):
                statistic.update(site, text[real[stack]].float(), where[stack])

        return showing(at_sites(inputs, sites, give), at_sites(outputs, sites, give))


@dataclass
class _Parts:
    """A batch split at the first label of each row, both parts right-padded with token 0.

    Attributes:
        inputs: the tokens before the first label, all tokens of a row without labels.
        given: True at tokens of the inputs, False at padding.
        answers: the tokens from the first label on.
        answered: True at tokens of the answers, False at padding.
        labels: True at labels of the answers.
        scored: True at labels that count in accuracy.
        first: position in its row of each answer's first token.
    """

    inputs: Int[Tensor, "B S"]
    given: Bool[Tensor, "B S"]
    answers: Int[Tensor, "B A"]
    answered: Bool[Tensor, "B A"]
    labels: Bool[Tensor, "B A"]
    scored: Bool[Tensor, "B A"]
    first: Int[Tensor, "B"]

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> _Parts:
        if bool(batch.labels[:, 0].any()):
            raise ValueError("the first token of a row cannot be a label: the encoder would read nothing")
        lengths = batch.lengths.to(device)
        longest = int(lengths.max())
        tokens, labels, scored = (
            part[:, :longest].to(device) for part in (batch.tokens, batch.labels, batch.scored)
        )
        positions = torch.arange(longest, device=device)
        labels = labels & (positions < lengths[:, None])
        first = torch.where(labels.any(1), labels.int().argmax(1), lengths)
        given = positions < first[:, None]

        at = first[:, None] + torch.arange(int((lengths - first).max()), device=device)
        answered = at < lengths[:, None]
        at = at.clamp(max=longest - 1)
        return cls(
            inputs=tokens.masked_fill(~given, 0)[:, : int(first.max())],
            given=given[:, : int(first.max())],
            answers=tokens.gather(1, at).masked_fill(~answered, 0),
            answered=answered,
            labels=labels.gather(1, at) & answered,
            scored=scored.gather(1, at),
            first=first,
        )

    @property
    def where_given(self) -> Where:
        rows, positions = self.given.nonzero(as_tuple=True)
        return Where(rows, positions, self.inputs[self.given])

    @property
    def where_answered(self) -> Where:
        rows, behind = self.answered.nonzero(as_tuple=True)
        return Where(rows, self.first[rows] + behind, self.answers[self.answered])
