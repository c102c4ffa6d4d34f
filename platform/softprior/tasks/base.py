"""The definition of a task: parameters that determine examples, rows of tokens and scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from datasets import Dataset, Features, List, Value
from pydantic import Field

from softprior.assets.tokens import Tokenizer, around, asked, joined
from softprior.errors import UserError
from softprior.inputs.base import Spec
from softprior.prompt import Row
from softprior.tasks.choosing import Chosen, Options

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Count = Annotated[int, Field(ge=1, le=10_000_000)]
NewTokens = Annotated[int, Field(ge=1, le=4096)]

EXAMPLE_FEATURES = Features(
    {
        "id": Value("string"),
        "input": Value("string"),
        "control": Value("string"),
        "answers": List(Value("string")),
        "group": Value("string"),
        "choices": List(Value("string")),
    }
)


class Example(NamedTuple):
    """One example before tokenisation.

    Attributes:
        id: stable name, unique over the three splits.
        input: what the model reads.
        control: the input with its context swapped for that of another example of the same split;
            None where the task has no context to swap.
        answers: the accepted answers; the first is trained on.
        group: what splits keep together: an article's title, a module, a document.
        choices: the possible answers in order, where one of them is chosen; empty where an answer is written.
    """

    id: str
    input: str
    control: str | None
    answers: tuple[str, ...]
    group: str
    choices: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: dict[str, Any]) -> Example:
        """The example in one row of a split's table."""
        return cls(**{**record, **{name: tuple(record[name]) for name in ("answers", "choices")}})


class InputText(NamedTuple):
    """An input as a model reads it.

    Attributes:
        text: the input with what is written around it.
        start: where the input begins in the text.
        around: what is not of the input, as start and end characters of the text.
        special: whether the tokenizer adds its special tokens, which otherwise are in the text.
    """

    text: str
    start: int = 0
    around: tuple[tuple[int, int], ...] = ()
    special: bool = True


@dataclass(frozen=True)
class Quarantined:
    """A malformed row that was left out: where it is and what is wrong with it.

    Attributes:
        rest: whether it is not one row, but everything that follows in the file.
    """

    file: str
    index: str
    reason: str
    rest: bool = False


@dataclass(frozen=True)
class Splits:
    """A task's examples, each split in the order in which examples are chosen from it.

    A split may have more examples than the task asks for: how many of them fit is known only once
    they are tokenised, so `prepare` takes the first that do.

    Attributes:
        notes: counts of what was corrected or left out, by name.
        faults: why a split, which then is empty, cannot be used; a task whose trials need it is refused.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    quarantined: list[Quarantined] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    faults: dict[Split, str] = field(default_factory=dict)


def require_usable(faults: Mapping[Split, str], needs: Iterable[Split]) -> None:
    """Refuses a task one of whose splits cannot be used although it is needed.

    Raises:
        UserError: there is one.
    """
    for split in needs:
        if split in faults:
            raise UserError(faults[split])


class Look(NamedTuple):
    """What is known about a task's data before they are prepared, or since they were.

    Attributes:
        quarantined: number of malformed rows and damaged files.
        quarantine: those of them that are reported: the first row, if there is one, and all files.
        notes: as in `Splits`, by name.
        dropped: examples passed over once they were tokenised, for any reason.
        firsts: by the notes that count such examples, the first of them and why it was passed over.
        lengths: mean number of tokens of an example of each split, answer included; empty before they are
            tokenised.
    """

    quarantined: int = 0
    quarantine: tuple[Quarantined, ...] = ()
    notes: Mapping[str, int] = {}
    dropped: int = 0
    firsts: Mapping[str, str] = {}
    lengths: Mapping[Split, float] = {}


def table(examples: Iterable[Example]) -> Dataset:
    """Examples as a `datasets.Dataset` with exactly the columns of `Example`."""
    rows = list(examples)
    columns = {name: [getattr(row, name) for row in rows] for name in Example._fields}
    return Dataset.from_dict(columns, features=EXAMPLE_FEATURES)


class Task(Spec, ABC):
    """What a prompt is trained for: a frozen value that its fields describe completely.

    A subclass keeps these promises, and `softprior.testing.tasks` checks them:
    equal tasks give equal splits, in every process and whatever the trial's seed; the splits share no
    group (for generated tasks: no question), so nothing tested was trained on; ids are unique; a
    malformed row is quarantined and an example that does not fit is dropped, both counted, and
    nothing is ever cut off an answer; the source data is identified without being fetched.

    Attributes:
        headline: the metric of `score` that the printed table shows; `loss` where nothing is generated.
        generates: whether answers are given and scored, written or chosen, or only their loss is measured.
        stop: texts at which a generated answer ends, besides the end-of-sequence token.
        train_examples: maximum number of examples to train on.
        validation_examples: maximum number of examples for curves, searches and choosing rates.
        test_examples: maximum number of examples that a finished trial is tested on.
        max_new_tokens: longest generated answer, in tokens, where answers are generated.
    """

    headline: ClassVar[str]
    instruction: ClassVar[str]
    generates: ClassVar[bool] = True
    stop: ClassVar[tuple[str, ...]] = ("\n",)

    train_examples: Count = 2000
    validation_examples: Count = 256
    test_examples: Count = 256
    max_new_tokens: NewTokens = 32

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `score` gives: the columns of trials.parquet."""
        return (self.headline,) if self.generates else ()

    @property
    def optional(self) -> tuple[str, ...]:
        """Those of `metrics` that some examples do not have; a split with one of these has none."""
        return ()

    @abstractmethod
    def fingerprint(self) -> str:
        """Identifies the source data: equal where the examples are. Fetches nothing.

        Raises:
            UserError: a local file is missing.
        """

    @property
    def sources(self) -> tuple[str, ...]:
        """The catalogue's data sets that the examples are in, and the hub's as `hub:OWNER/NAME`."""
        return ()

    def check_data(self) -> None:
        """Reads local data as far as is needed to find a usable row. Fetches nothing.

        Raises:
            UserError: what `splits` would raise for a local path: a wrong layout, a missing column, no
                usable row, too little data to split.
        """
        return

    def check_test_data(self) -> None:
        """The same for a task of which only test examples are read.

        Raises:
            UserError: as `check_data`, but not for what concerns only the other splits.
        """
        self.check_data()

    def look(self) -> Look:
        """What `check_data` has found in local data; empty for data that it does not read to the end."""
        return Look()

    def told(self, notes: Mapping[str, int]) -> list[str]:  # noqa: ARG002
        """Sentences about those of the task's own notes that affect how its results should be read."""
        return []

    @abstractmethod
    def splits(self) -> Splits:
        """Reads or generates the examples, fetching the source data if it is not in the cache.

        Raises:
            UserError: the source is missing, unreachable, or has the wrong layout.
        """

    @abstractmethod
    def positions(self) -> int:
        """Approximate number of tokens per example, with the answer; for estimates before data is read."""

    def sampled(self, here: Callable[[], Tokenizer | None]) -> float | None:  # noqa: ARG002
        """Mean number of tokens of some examples, with the answer; None where `positions` has to do.

        Args:
            here: reads the model's tokenizer, which takes seconds; None where it is not on this machine.
        """
        return None

    def longest(self) -> int | None:
        """Maximum number of tokens per example, with the answer; None if only the data limits it."""
        return None

    def misfit(self) -> str:
        """What examples are that do not fit, for a sentence about those that are left out."""
        return "which do not fit"

    def enlarged(self) -> str:
        """What to do where the data have too few examples to test on, as the end of a sentence."""
        return "add data"

    def options(self) -> int:
        """Approximate number of choices per example; 0 where answers are written."""
        return 0

    @property
    def new_tokens(self) -> int:
        """Most tokens that are written as an answer; 0 where none are."""
        return self.max_new_tokens if self.generates and not self.options() else 0

    @property
    def swaps_contexts(self) -> bool:
        """Whether examples have a control, for estimates."""
        return self.generates

    @property
    def needs_alone(self) -> bool:
        """Whether what is chosen depends on how likely choices are without the input."""
        return False

    def without_input(self, example: Example) -> str:
        """What choices follow in place of the input, to see how likely each is without it.

        Required where `options` is above 0.
        """
        raise NotImplementedError

    def choose(self, options: Sequence[Options]) -> Chosen:
        """What is chosen in examples with choices; `metrics` has the names of all numbers.

        Required where `options` is above 0.
        """
        raise NotImplementedError

    @abstractmethod
    def score(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:
        """Metrics of one answer, each in [0, 1]; empty where none is given."""

    def question(self, example: Example) -> tuple[int, int] | None:  # noqa: ARG002
        """Where the question is in the input, as start and end characters; None if there is none."""
        return None

    def own_text(self, example: Example) -> tuple[tuple[int, int], ...]:  # noqa: ARG002
        """Where the task's own text is in the input, as start and end characters."""
        return ()

    def input_text(self, example: Example, tokenizer: Tokenizer) -> InputText:  # noqa: ARG002
        """The text of which the tokens of a row are before its first label."""
        return InputText(example.input)

    def first_token(self, tokenizer: Tokenizer) -> int | None:
        """The token that begins every row, if there is one."""
        return next(iter(around(tokenizer).opening), None)

    def asked(self, text: str, tokenizer: Tokenizer) -> list[int]:
        """The tokens of an input that an answer follows, as in rows."""
        return asked(tokenizer, text)

    def lead(self, tokenizer: Tokenizer) -> int | None:  # noqa: ARG002
        """Number of tokens in front of each input; None where they are those that begin every text."""
        return None

    def ends(self, tokenizer: Tokenizer) -> frozenset[int]:  # noqa: ARG002
        """Tokens at which a generated answer ends, besides the end-of-sequence token and `stop`."""
        return frozenset()

    def check_tokenizer(self, here: Callable[[], Tokenizer | None]) -> None:  # noqa: ARG002
        """Checks that a tokenizer has what the task needs of it.

        Args:
            here: gives the model's tokenizer, if it is available before the model is.

        Raises:
            UserError: they cannot.
        """
        return

    def trained_answer(self, example: Example) -> str:
        """The answer that is trained on: the first one, with single spaces if `stop` would cut it off.

        An answer is generated up to the first of the stop texts. One over several lines is therefore
        written as metrics read it, with single spaces, or a perfect model could not give it.
        """
        answer = example.answers[0]
        return " ".join(answer.split()) if any(text in answer for text in self.stop) else answer

    def spells(self, token: str) -> bool:  # noqa: ARG002
        """Whether a trained answer of local data contains a special token's text; other data contain none."""
        return False

    def document(self, example: Example) -> str:
        """What an example's tokens share with those of others, so that they are not independent of them."""
        return example.id

    def examples_of(self, split: Split) -> int:
        """The number of examples asked for."""
        return {
            "train": self.train_examples,
            "validation": self.validation_examples,
            "test": self.test_examples,
        }[split]

    def short(self, sizes: Mapping[Split, int]) -> dict[str, int]:
        """The notes `<split>_short`: how many examples each split has less than the task asks for, if any."""
        missing = {split: self.examples_of(split) - size for split, size in sizes.items()}
        return {f"{split}_short": number for split, number in missing.items() if number > 0}

    def row(self, example: Example, tokenizer: Tokenizer) -> Row | None:
        """The example as tokens, or None if it does not fit.

        Raises:
            UserError: the tokenizer cannot encode it; `NotJointError` leaves out only this example.
        """
        return answer_row(example.id, example.input, self.trained_answer(example), tokenizer)

    def rows(self, example: Example, tokenizer: Tokenizer) -> list[Row]:
        """All rows of an example: one, or none if it does not fit, unless the task splits it up."""
        row = self.row(example, tokenizer)
        return [] if row is None else [row]

    def control_row(self, example: Example, tokenizer: Tokenizer) -> Row | None:
        """The same answer after the swapped context; None if there is none or it does not fit."""
        if example.control is None:
            return None
        return self.row(example._replace(input=example.control), tokenizer)


def answer_row(name: str, text: str, answer: str, tokenizer: Tokenizer) -> Row:
    """The tokens of an input, a space and its answer as one text, and one end-of-sequence token.

    The end-of-sequence token is a label (a prompt must learn to stop) but is not scored.

    Raises:
        UserError: the tokenizer has no end-of-sequence token, or no tokens for the input; as
            `NotJointError`, the tokens of input and answer are not those of the joined text.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(
            "this model's tokenizer has no end-of-sequence token, with which answers end; "
            "set eos_token in its tokenizer_config.json"
        )
    before, after = joined(tokenizer, text, answer)
    if not before:
        raise UserError(f"the tokenizer has no tokens for the input {text[:40]!r}; change or remove it")
    return labelled_row(name, before, after, tokenizer.eos_token_id)


def labelled_row(name: str, before: list[int], after: list[int], end: int) -> Row:
    """The tokens of an input, of its answer, and the token that ends it, which is a label but not scored."""
    return Row(
        id=name,
        tokens=[*before, *after, end],
        labels=[False] * len(before) + [True] * (len(after) + 1),
        scored=[False] * len(before) + [True] * len(after) + [False],
    )
