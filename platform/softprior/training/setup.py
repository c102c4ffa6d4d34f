"""What a trial works with: its model, its examples, and what measures its prompt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from softprior.assets.tokens import Tokenizer, in_front, require_rows
from softprior.inputs.specs import TrialSpec
from softprior.methods import METHODS, Method
from softprior.models.protocol import FrozenLM
from softprior.prompt import Shape
from softprior.tasks import TASKS, Task
from softprior.tasks.prepare import prepare
from softprior.tasks.prepared import Prepared
from softprior.training.also import Others
from softprior.training.evaluation import Evaluator
from softprior.training.opening import require_input, require_opening
from softprior.training.prober import Prober
from softprior.training.room import require_room


@dataclass(frozen=True)
class Setup:
    """A trial's spec and the model it runs on, and what follows from the two.

    Attributes:
        spec: what decides the result.
        host, tokenizer: the frozen model.
        tokenizer_fingerprint: names tokenised examples in the cache.
    """

    spec: TrialSpec
    host: FrozenLM
    tokenizer: Tokenizer
    tokenizer_fingerprint: str

    @cached_property
    def task(self) -> Task:
        return TASKS.component(self.spec.task)

    @cached_property
    def method(self) -> Method:
        return METHODS.component(self.spec.method)

    @cached_property
    def prepared(self) -> Prepared:
        return prepare(self.task, self.tokenizer, self.tokenizer_fingerprint)

    @cached_property
    def prefix(self) -> list[int]:
        """Tokens of a written instruction."""
        text = self.method.text(self.task.instruction)
        return in_front(self.tokenizer, text) if text else []

    @cached_property
    def evaluator(self) -> Evaluator:
        return Evaluator(self.host, self.tokenizer, self.task, self.spec.evaluation, self.prefix)

    @cached_property
    def others(self) -> Others:
        """What measures the trial's prompt on other tasks."""
        loaded = (self.host, self.tokenizer, self.tokenizer_fingerprint)
        return Others(self.spec, *loaded, self.prefix, self._front)

    @cached_property
    def prober(self) -> Prober:
        """What probes the trial's finished prompt."""
        return Prober(self.spec, self.host, self.tokenizer, self.evaluator, self.prepared.test)

    @property
    def _front(self) -> int:
        """Positions that the prompt and a written instruction take."""
        return self.method.count() + len(self.prefix)

    def check_lengths(self) -> None:
        """Every text the trial will read or write has to fit the model's positions and the prompt.

        Raises:
            UserError: the longest does not, one has a token that the embedding table does not have, or one
                does not begin with the token that the prompt is behind, or has nothing else to continue.
        """
        info, prepared = self.host.info(), self.prepared
        require_rows(self.prefix, info.vocabulary, "the words of the instruction")
        splits = (prepared.train, prepared.validation, prepared.test)
        name = TASKS.named(self.spec.task)
        require_room(info, self.spec.model, name, self.task, prepared, splits, self._front)
        shape = Shape(info.blocks, info.stack)
        require_opening(self.method, shape, name, splits, self.spec.model, self.tokenizer)
        require_input(self.method, shape, name, self.task, prepared.test)
