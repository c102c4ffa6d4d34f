"""A training step of softprior and of its peers: the loss and its gradient at the prompt's vectors.

Peers are Hugging Face PEFT for `soft` and `prefix`, each written the usual way, and for `deep`, which PEFT
does not have, a loop over plain transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from benchmarks.needed import Needed, needed
from softprior.assets.models import resolve_model
from softprior.exchange.layout import config_sizes, peft_form, places_of, sizes_of
from softprior.inputs.specs import ModelSpec
from softprior.methods import METHODS
from softprior.models.load import load_local
from softprior.prompt import Batch, Place, Row
from softprior.results.posteriors import Vectors
from softprior.seeding import torch_generator
from softprior.tasks import TASKS
from softprior.tasks.prepare import prepare
from softprior.tasks.prepared import PreparedSplit

TOKENS = 20
"""Vectors of a prompt."""

BATCH = 8
"""Rows of a step."""

PEERS = {"soft": "PEFT's", "deep": "plain transformers'", "prefix": "PEFT's"}
"""Whose step a method's is compared with."""


class Softprior:
    """A step of softprior."""

    def __init__(self, model: ModelSpec, prompt: Vectors) -> None:
        self._host = load_local(model).host
        self._prompt = prompt

    def needed(self, batches: Iterable[Batch]) -> Needed:
        """What steps on batches need at least."""
        return needed(self._host._model, self._prompt, batches)

    def weights(self) -> Iterable[Tensor]:
        model: torch.nn.Module = self._host._model
        return model.parameters()

    def step(self, batch: Batch) -> tuple[float, Vectors]:
        weighted = batch.weighted(batch.weights / int(batch.labels.sum()))
        losses = self._host.loss(self._prompt, weighted, grad=True)
        assert losses.gradient is not None
        return float(losses.nll.sum()) / int(losses.tokens.sum()), losses.gradient


class Peft:
    """A step with PEFT's prompt tuning or prefix tuning, by the places of the prompt.

    Attributes:
        model: PEFT's.
    """

    def __init__(self, model: ModelSpec, prompt: Vectors) -> None:
        import peft

        folder = resolve_model(model).folder
        self._sizes = sizes_of(folder)
        self._type, _, embeddings = peft_form(prompt, self._sizes, folder)
        configs: dict[str, Any] = {
            "PROMPT_TUNING": peft.PromptTuningConfig,
            "PREFIX_TUNING": peft.PrefixTuningConfig,
        }
        config = configs[self._type](
            task_type=peft.TaskType.CAUSAL_LM,
            num_virtual_tokens=len(embeddings),
            **config_sizes(self._type, self._sizes),
        )
        self._base = plain(model)
        self.model: Any = peft.get_peft_model(self._base, config)
        self._weight: Tensor = self.model.prompt_encoder["default"].embedding.weight
        with torch.no_grad():
            self._weight.copy_(embeddings)

    def vectors(self) -> Vectors:
        """The vectors of each place as they are now."""
        return places_of(self._type, self._weight.detach().clone(), self._sizes)

    def weights(self) -> Iterable[Tensor]:
        parameters: Iterable[Tensor] = self._base.parameters()
        return parameters

    def step(self, batch: Batch) -> tuple[float, Vectors]:
        mask = torch.arange(batch.tokens.shape[1])[None] < batch.lengths[:, None]
        labels = batch.tokens.masked_fill(~batch.labels, -100)
        self._weight.grad = None
        out = self.model(input_ids=batch.tokens, attention_mask=mask.long(), labels=labels, use_cache=False)
        out.loss.backward()
        assert self._weight.grad is not None
        return float(out.loss.detach()), places_of(self._type, self._weight.grad.clone(), self._sizes)


class PlainDeep:
    """A step of `deep` at every block, written over transformers with a hook before each block.

    Vectors in front of the text at every block, cut behind each, are places in the sequence that each block
    finds with vectors of its own.
    """

    def __init__(self, model: ModelSpec, prompt: Vectors) -> None:
        self._base = plain(model).requires_grad_(False)
        self._prompt = {place: vectors.clone().requires_grad_() for place, vectors in prompt.items()}
        self._count = len(next(iter(prompt.values())))
        for place, vectors in self._prompt.items():
            self._base.model.layers[place.block].register_forward_pre_hook(self._hook(vectors))

    def _hook(self, vectors: Tensor) -> Callable[[Any, tuple[Any, ...]], tuple[Any, ...]]:
        def replaced(_: object, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            states, *others = arguments
            front = vectors.expand(len(states), -1, -1)
            return torch.cat([front, states[:, self._count :]], 1), *others

        return replaced

    def weights(self) -> Iterable[Tensor]:
        parameters: Iterable[Tensor] = self._base.parameters()
        return parameters

    def step(self, batch: Batch) -> tuple[float, Vectors]:
        rows, longest = batch.tokens.shape
        real = torch.arange(longest)[None] < batch.lengths[:, None]
        mask = torch.cat([torch.ones(rows, self._count, dtype=torch.bool), real], 1)
        tokens = torch.nn.functional.pad(batch.tokens, (self._count, 0))
        labels = torch.nn.functional.pad(batch.labels, (self._count, 0))
        for vectors in self._prompt.values():
            vectors.grad = None
        out = self._base(
            input_ids=tokens,
            attention_mask=mask.long(),
            labels=tokens.masked_fill(~labels, -100),
            use_cache=False,
        )
        out.loss.backward()
        gradient = {place: vectors.grad for place, vectors in self._prompt.items()}
        return float(out.loss.detach()), {place: g.clone() for place, g in gradient.items() if g is not None}


def plain(model: ModelSpec) -> Any:
    """The model as transformers loads it."""
    from transformers import AutoModelForCausalLM

    folder = resolve_model(model).folder
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, model.dtype)).eval()


def prompt_of(method: str, model: ModelSpec) -> Vectors:
    """Vectors to measure with: for `soft` those of tokens, else normal ones; for `deep` at every block."""
    host = load_local(model).host
    info = host.info()
    if method == "soft":
        order = torch.randperm(1000, generator=torch_generator(0, "benchmark"))[:TOKENS]
        return {Place(0): host.embed(torch.arange(1000))[order].clone()}
    everywhere = {"blocks": range(info.blocks), "token_level": "none"} if method == "deep" else {}
    places = METHODS[method].model_validate({"tokens": TOKENS} | everywhere).places(info.blocks, info.stack)
    return {
        place: 0.1 * torch.randn(TOKENS, host.width(place), generator=torch_generator(0, place.name))
        for place in places
    }


def side(name: str, method: str, model: ModelSpec) -> Any:
    """Softprior, or the peer of a method."""
    prompt = prompt_of(method, model)
    if name == "softprior":
        return Softprior(model, prompt)
    return PlainDeep(model, prompt) if method == "deep" else Peft(model, prompt)


def training_split(model: ModelSpec, context: int) -> PreparedSplit:
    """SQuAD questions of up to `context` tokens, of mixed lengths."""
    loaded = load_local(model)
    task = TASKS["squad"].model_validate({"context_tokens": context})
    return prepare(task, loaded.tokenizer, loaded.fingerprint).train


def examples(model: ModelSpec, context: int, count: int) -> list[Row]:
    """The first rows of `training_split`."""
    split = training_split(model, context)
    return [split.row(i) for i in range(count)]
