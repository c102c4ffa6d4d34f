"""A frozen model for custom training loops: a differentiable loss, draws of priors, states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.assets.tokens import asked, opened, vocabulary_ids
from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.inputs.labels import counted
from softprior.inputs.specs import ModelSpec
from softprior.inputs.validation import validate
from softprior.library import arguments
from softprior.library.arguments import PromptLike
from softprior.library.differentiable import Loss
from softprior.library.states import KeptStates, States
from softprior.methods import METHODS
from softprior.models.anchor import misplaced, require_begins, stands_behind
from softprior.models.load import Loaded, load_local
from softprior.models.protocol import ModelInfo
from softprior.priors import PRIORS, Prior, assignment
from softprior.prompt import Batch, Place, Prompt, Row, collate
from softprior.statistics import geometry
from softprior.tasks import TASKS, Task
from softprior.tasks.base import answer_row
from softprior.tasks.prepare import prepare
from softprior.tasks.prepared import Prepared
from softprior.training.source import vocabulary
from softprior.training.starts import start_at

Component = str | Mapping[str, object]
"""A component as a study file has it: `fitted`, or `{"isotropic": {"scale": 0.02}}`."""


class Neighbour(NamedTuple):
    """A token near a vector.

    Attributes:
        text: of the token.
        id: of the token.
        distance: Euclidean, between the vector and the token's embedding.
    """

    text: str
    id: int
    distance: float


class Model:
    """A frozen model in this process, with its tokenizer.

    Attributes:
        host: the model behind softprior's seam; everything here goes through it.
        tokenizer: transformers' own.
        fingerprint: of weights and tokenizer together.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.host, self.tokenizer, self.fingerprint = loaded

    def __repr__(self) -> str:
        info = self.info
        return f"Model({info.family}, {info.blocks} blocks, {info.hidden} wide, {info.dtype})"

    @property
    def info(self) -> ModelInfo:
        """Sizes and identity."""
        return self.host.info()

    @property
    def front(self) -> Place:
        """The place of a plain soft prompt: in front of the input, at block 0."""
        return Place(0, stack=self.info.stack)

    def batch(self, texts: Sequence[str], answers: Sequence[str] | None = None) -> Batch:
        """Texts as a batch.

        Args:
            answers: what is to be predicted after each text, joined with a space and ended by the
                end-of-sequence token, as in tasks. Without them every token but the first is predicted.

        Raises:
            UserError: the tokenizer makes other tokens of a text when its answer follows, or the model has an
                encoder, which needs answers.
        """
        if answers is None:
            if self.info.stack == "encoder":
                raise UserError("a model with an encoder predicts answers; give them beside the texts")
            return collate([self._text(str(i), text) for i, text in enumerate(_texts(texts))])
        if len(_texts(texts)) != len(arguments.words(answers, "answers")):
            given = f"{counted(len(texts), 'text')} cannot have {counted(len(answers), 'answer')}"
            raise UserError(f"{given}; give one answer per text")
        pairs = zip(texts, answers, strict=True)
        return collate([self._answered(str(i), text, answer) for i, (text, answer) in enumerate(pairs)])

    def examples(self, task: Component | Task) -> Prepared:
        """A task's three splits as tokens; `examples.train.row(0)` is one, `sp.collate` makes batches.

        Raises:
            UserError: the task is not available.
        """
        component = task if isinstance(task, Task) else TASKS.component(_entry(task, "task"))
        return prepare(component, self.tokenizer, self.fingerprint)

    def loss(self, prompt: PromptLike | None, batch: Batch) -> Float[Tensor, ""]:
        """Mean negative log-likelihood of the batch's labels, in nats; autograd reaches the prompt's vectors.

        The gradient is computed with the loss, in one pass, if a vector requires one, and cannot be
        differentiated again. Rows count by their number of labels times their weight.

        Raises:
            UserError: no label counts, or a row and the prompt take more positions than the model has.
        """
        vectors = self._prompt(prompt)
        self._require_fits(vectors, batch)
        labels = float((batch.weights * batch.labels.sum(1)).sum())
        if labels <= 0:
            raise UserError(
                "the mean is over labels, and this batch has none with a weight above 0; give it one"
            )
        weighted = batch.weighted(batch.weights / labels)
        grad = torch.is_grad_enabled() and any(v.requires_grad for v in vectors.values())
        whole = (self.host, weighted, grad, tuple(vectors))
        found: Tensor = Loss.apply(*whole, *vectors.values())  # type: ignore[no-untyped-call]
        return found

    def logits(self, prompt: PromptLike | None, batch: Batch) -> Float[Tensor, "N V"]:
        """The logits from which the model predicts each of the batch's labels, row by row."""
        vectors = self._prompt(prompt)
        self._require_fits(vectors, batch)
        return self.host.logits(vectors, batch)

    def generate(self, prompt: PromptLike | None, texts: Sequence[str], max_new: int = 20) -> list[str]:
        """Greedy continuations of texts, up to the end-of-sequence token.

        Raises:
            UserError: a text, the prompt and the new tokens take more positions than the model has.
        """
        vectors = self._prompt(prompt)
        max_new = arguments.count(max_new, "max_new", least=0)
        batch = collate(
            [self._unlabelled(str(i), asked(self.tokenizer, text)) for i, text in enumerate(_texts(texts))]
        )
        self._require_fits(vectors, batch, max_new)
        end = self.tokenizer.eos_token_id
        stop = frozenset(() if end is None else (end,))
        found = self.host.generate(vectors, batch, max_new=max_new, stop=stop)
        return [self.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in found]

    def sample(
        self, prior: Component | Prior, tokens: int, *, seed: int = 0, place: Place | None = None
    ) -> Float[Tensor, "P H"]:
        """Fits a prior at one place and draws vectors: what a trial with that seed starts from there.

        For a method with several places use `prompt`: a prior may read all of them.

        Args:
            place: by default in front of the input. Keys are returned with rotary positions applied.

        Raises:
            UserError: the place cannot have this prior, or `tokens` or `seed` is not a number that a study
                could have.
        """
        there = self.front if place is None else arguments.place(place)
        return self._start(prior, tokens, seed, there, ())

    def prompt(self, method: Component, prior: Component | Prior, *, seed: int = 0) -> dict[Place, Tensor]:
        """The vectors that a trial of a method, a prior and a seed starts from, at every place.

        Raises:
            UserError: the prior cannot start the method.
        """
        component = METHODS.component(_entry(method, "method"))
        places = component.places(self.info.blocks, self.info.stack)
        return {place: self._start(prior, component.count(), seed, place, places) for place in places}

    def nearest(self, vectors: Float[Tensor, "P H"], count: int = 1) -> list[list[Neighbour]]:
        """The tokens whose embeddings are nearest to each vector, the nearest first.

        Raises:
            UserError: the vectors are not the model's, or it has fewer than `count` tokens.
        """
        table = vocabulary(self.host, self.tokenizer)
        count = arguments.count(count, "count", most=len(table))
        arguments.vectors(vectors, self.info.hidden, "vectors")
        ids = vocabulary_ids(self.tokenizer, self.info.vocabulary)
        distances, found = geometry.nearest(vectors.detach().cpu(), table, count)
        return [
            [
                Neighbour(self.tokenizer.decode([ids[i]]), ids[i], distance)
                for i, distance in zip(indices, row, strict=True)
            ]
            for indices, row in zip(found.tolist(), distances.tolist(), strict=True)
        ]

    def states(self, prompt: PromptLike | None, batch: Batch, sites: Sequence[str]) -> dict[str, States]:
        """The states of a batch's text tokens at sites, such as `resid.3` (see docs/notation.md).

        Raises:
            UserError: the model has no such site.
        """
        vectors = self._prompt(prompt)
        sites = arguments.words(sites, "sites")
        self._require_fits(vectors, batch)
        kept = self.host.observe(vectors, batch, list(sites), KeptStates())
        return {site: kept.states(site) for site in sites}

    def prompt_states(
        self, prompt: PromptLike, sites: Sequence[str] | None = None
    ) -> dict[str, Float[Tensor, "_ H"]]:
        """What becomes of a prompt's own vectors at residual sites (all of them by default).

        No gradient reaches the vectors from there. Where a model's rotation depends on the length of the
        text, these are the states in front of a short one.

        Raises:
            UserError: the model has an encoder, where they depend on the text, or the tokenizer has no
                beginning-of-sequence token, and the prompt is behind it.
        """
        if sites is None:
            sites = [site for site in self.host.sites() if not site.startswith(("key.", "value."))]
        vectors, first = self._prompt(prompt), self.tokenizer.bos_token_id
        if first is None and stands_behind(vectors):
            raise misplaced("the tokenizer has none")
        return self.host.prompt_states(vectors, arguments.words(sites, "sites"), first)

    def _start(
        self, prior: Component | Prior, tokens: int, seed: int, place: Place, places: tuple[Place, ...]
    ) -> Tensor:
        tokens, seed = arguments.count(tokens, "tokens"), arguments.seed(seed)
        component = prior if isinstance(prior, Prior) else PRIORS.component(_entry(prior, "prior"))
        there = assignment(component).at(place)
        return start_at(self.host, self.tokenizer, there, place, tokens, seed=seed, places=places).vectors

    def _prompt(self, prompt: PromptLike | None) -> Prompt:
        return arguments.prompt(prompt, self.host, self.front)

    def _require_fits(self, prompt: Prompt, batch: Batch, new: int = 0) -> None:
        require_begins(prompt, batch, self.tokenizer.bos_token_id)
        count = max((len(vectors) for vectors in prompt.values()), default=0)
        longest = int(batch.lengths.max())
        need = longest + count + new
        if need > self.info.positions:
            raise UserError(
                f"the longest text ({longest} tokens) with {count} prompt vectors and {new} new tokens "
                f"takes {need} positions, but the model has {self.info.positions}; give less"
            )

    def _text(self, name: str, text: str) -> Row:
        tokens = opened(self.tokenizer, text)
        if len(tokens) < 2:
            raise UserError(f"the text {text!r} has no token after its first to predict; give a longer one")
        marks = [False, *[True] * (len(tokens) - 1)]
        return Row(name, tokens, marks, marks)

    def _answered(self, name: str, text: str, answer: str) -> Row:
        return answer_row(name, text, answer, self.tokenizer)

    def _unlabelled(self, name: str, tokens: list[int]) -> Row:
        nothing = [False] * len(tokens)
        return Row(name, tokens, nothing, nothing)


def load_model(model: str | ModelSpec, **options: object) -> Model:
    """Loads a frozen model into this process; loading the same one twice in a row is free.

    Args:
        model: as `model.id` in a study file: `tiny`, a name of the catalogue, a folder or `hub:OWNER/NAME`.
        options: the other keys of `model`, such as `dtype` and `device`.

    Raises:
        UserError: the model is not available, or its family is not supported.
    """
    given = model.model_dump(mode="json") if isinstance(model, ModelSpec) else {"id": model}
    return Model(load_local(validate(ModelSpec, {**given, **options}, "load_model")))


def _texts(texts: Sequence[str]) -> Sequence[str]:
    """Several texts.

    Raises:
        UserError: it is one, which would be read letter by letter, or none.
    """
    if not arguments.words(texts, "texts"):
        raise UserError("texts is an empty list; give at least one text")
    return texts


def _entry(named: Component, what: str) -> Entry:
    return validate(Entry, named if isinstance(named, str) else dict(named), what)
