"""The model card of an exported prompt: what it is, what it scores over the study's seeds, how to load it."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from analysis.inference.intervals import over_seeds
from analysis.inference.values import LOSS, SHARE, Range
from softprior.errors import UserError
from softprior.inputs.entry_texts import in_full
from softprior.inputs.labels import counted
from softprior.library.reading import has_posterior
from softprior.library.results import Results, full_id
from softprior.prompt import Place
from softprior.results.examples import ExampleRow, load_examples, rows_of
from softprior.results.records import Record, Score
from softprior.seeding import numpy_generator
from softprior.statistics.documents import bootstrap
from softprior.tasks import TASKS

LIBRARY = "peft"

_LOCAL = "a local model"
"""What a card calls a base model without a name on the hub."""

TEACHER_FORCED = "teacher_forced_accuracy"
"""What the hub's metadata calls the accuracy of label tokens: there "accuracy" is that of answers."""


class Measured(NamedTuple):
    """A number of the test split.

    Attributes:
        name: `loss`, `accuracy`, or one of the task's metrics.
        own: of this prompt.
        over_examples: 95% interval of that, for other examples of the same kind; nan where there are too few
            groups of examples, None where the number is not a mean over examples or their rows are not here.
        seeds: of all seeds with otherwise equal trials, this one's among them.
        untrained: of the sample that it started from; None if it was not measured.
        without: of the model without a prompt; None without such a trial in the study.
    """

    name: str
    own: float
    over_examples: tuple[float, float] | None
    seeds: tuple[float, ...]
    untrained: float | None
    without: float | None


def exportable(results: Results, trial: str) -> Record:
    """The record of a trial that has left a prompt.

    Raises:
        UserError: there is no such trial, or it has not finished, or trains none.
    """
    record = results.records[full_id(trial, list(results.records))]
    if not has_posterior(record):
        raise UserError(
            f"the trial {trial} ({record.spec.method.name}, {record.status}) has no prompt; choose a "
            "finished trial that trained one"
        )
    return record


def measured(results: Results, record: Record) -> list[Measured]:
    """Every number of a trial's test split beside those of its other seeds, its start and no prompt."""
    finished = [one for one in results.records.values() if one.test is not None]
    alike = [one for one in finished if one.spec.model_copy(update={"seed": record.spec.seed}) == record.spec]
    bare = [one for one in finished if one.spec.method.name == "none" and _same_examples(one, record)]
    own = _numbers(record.test)
    others = [_numbers(one.test) for one in alike]
    rows = _rows(results, record)
    untrained, without = _numbers(record.untrained), _numbers(bare[0].test if bare else None)
    return [
        Measured(
            name,
            value,
            _over_examples(name, rows),
            tuple(other[name] for other in others if name in other),
            untrained.get(name),
            without.get(name),
        )
        for name, value in own.items()
    ]


def _rows(results: Results, record: Record) -> list[ExampleRow]:
    """The trial's test examples; none of a record from before they were kept."""
    if record.examples is None:
        return []
    table = load_examples(results.folder.examples(record.id), record.id, record.examples)
    return rows_of(table).get(record.spec.task.canonical(), [])


def _over_examples(name: str, rows: Sequence[ExampleRow]) -> tuple[float, float] | None:
    """The interval of a mean over examples, whose groups (such as articles) are resampled whole."""

    def part(row: ExampleRow) -> tuple[float | None, float | None]:
        """An example's share of the mean's numerator and denominator."""
        if name == "loss":
            return row.nll, row.tokens
        if name == "accuracy":
            return row.correct, row.scored
        return row.metrics.get(name), 1

    parts = [(row.group, *part(row)) for row in rows]
    known = [
        (group, above, below) for group, above, below in parts if above is not None and below is not None
    ]
    if not known:
        return None
    groups, above, below = zip(*known, strict=True)
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    sums, sizes = (np.bincount(index, np.asarray(values, dtype=float)) for values in (above, below))
    return bootstrap(
        lambda weights: (sums @ weights) / (sizes @ weights),
        np.zeros(len(names), dtype=int),
        numpy_generator(0, "over examples"),
    )


def model_card(results: Results, record: Record, base: str | None, revision: str | None) -> str:
    """The card as Markdown with the hub's metadata in front.

    Args:
        base: name of the base model on the hub; None for another, of which the card has no path.
        revision: its commit.
    """
    from huggingface_hub import EvalResult, ModelCardData

    numbers = measured(results, record)
    task = TASKS.named(record.spec.task)
    data = ModelCardData(
        base_model=base,
        library_name=LIBRARY,
        pipeline_tag="text-generation",
        tags=[
            "softprior",
            "prompt-tuning",
            f"prior:{record.spec.prior.name if record.spec.prior else 'none'}",
        ],
        model_name=f"{results.folder.root.name} {record.id[:8]}",
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=task,
                dataset_name=task,
                dataset_split="test",
                metric_type=TEACHER_FORCED if one.name == "accuracy" else one.name,
                metric_value=one.own,
            )
            for one in numbers
        ],
    )
    return "\n".join(["---", data.to_yaml().strip(), "---", "", *_body(record, numbers, base, revision)])


def _body(
    record: Record, numbers: Sequence[Measured], base: str | None, revision: str | None
) -> Iterator[str]:
    test = record.test
    assert test is not None
    yield f"# A prompt for {_cell(base or _LOCAL)}"
    yield ""
    yield (
        "Vectors in front of a frozen language model, tuned with softprior, which studies the priors that "
        "such vectors are sampled from. The model itself is unchanged."
    )
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in _facts(record, base, revision).items():
        yield f"| {name} | {_cell(value)} |"
    yield ""
    yield "## Results"
    yield ""
    yield (
        f"On {counted(test.examples, 'test example')} with {counted(test.tokens, 'label token')}, read once, "
        f"at the end; metrics are over {counted(test.generated, 'answer')}. The loss is in nats per label "
        "token, and the accuracy that of label tokens with the right answer fed in."
    )
    yield ""
    yield "| | this prompt | over examples | mean over seeds (95% interval) | untrained | no prompt |"
    yield "|---|---|---|---|---|---|"
    for one in numbers:
        cells = [
            _number(one.own),
            _ends(one.over_examples),
            _over_seeds(one.seeds, LOSS if one.name == "loss" else SHARE),
            _number(one.untrained),
            _number(one.without),
        ]
        yield f"| {_cell(one.name)} | {' | '.join(cells)} |"
    yield ""
    yield (
        "Over examples: the 95% interval of this prompt's own number for other examples of the same kind, a "
        "bootstrap of whole groups of examples (such as articles or documents). Over seeds: Student's, over "
        "the seeds of the study, for other seeds on the same examples. This prompt is one of those seeds."
    )
    yield ""
    yield from _loading(record, base, revision)


def _facts(record: Record, base: str | None, revision: str | None) -> dict[str, str]:
    """What the prompt is, and how it was trained."""
    spec, training = record.spec, record.spec.training
    assert training is not None
    return {
        "base model": (base or _LOCAL) + (f" at {revision}" if revision else ""),
        "weights": f"SHA-256 fingerprint {spec.model_fingerprint[:16]}, trained in {spec.dtype}",
        "task": in_full(spec.task, "task", spec.paths),
        "method": in_full(spec.method, "method", spec.paths),
        "prior": in_full(spec.prior, "prior", spec.paths) if spec.prior else "none",
        "regularisers": ", ".join(
            in_full(one, f"regularisers.{i}", spec.paths) for i, one in enumerate(spec.regularisers)
        )
        or "none",
        "rate": f"{spec.rate.value:g}{' times the prior' if spec.rate.relative else ''}"
        if spec.rate
        else "none",
        "seed": str(spec.seed),
        "training": f"{training.steps} steps of {training.batch * training.accumulate} examples",
        "trial": record.id,
    }


def _loading(record: Record, base: str | None, revision: str | None) -> Iterator[str]:
    spec = record.spec
    encoder = any(Place.parse(name).stack == "encoder" for name in record.geometry)
    kind = "AutoModelForSeq2SeqLM" if encoder else "AutoModelForCausalLM"
    yield "## How to load it"
    yield ""
    yield "```python"
    yield "from peft import PeftModel"
    yield f"from transformers import {kind}"
    yield ""
    at = f", revision={json.dumps(revision)}" if revision else ""
    model = json.dumps(base or "FOLDER OF THE BASE MODEL")
    yield f'model = {kind}.from_pretrained({model}{at}, dtype="{spec.dtype}")'
    yield 'model = PeftModel.from_pretrained(model, "THIS FOLDER OR REPOSITORY")'
    yield "```"
    yield ""
    yield f"In a dtype other than {spec.dtype}, the same prompt gives different numbers."
    yield ""


def _same_examples(one: Record, other: Record) -> bool:
    keys = ("model_fingerprint", "dtype", "task", "data_fingerprint", "evaluation")
    return all(getattr(one.spec, key) == getattr(other.spec, key) for key in keys)


def _numbers(score: Score | None) -> dict[str, float]:
    if score is None:
        return {}
    found: dict[str, Any] = {"loss": score.loss, "accuracy": score.accuracy, **score.metrics}
    return {name: value for name, value in found.items() if value is not None}


def _ends(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return "not measured"
    if math.isnan(interval[0]):
        return "too few groups"
    return f"{_number(interval[0])} to {_number(interval[1])}"


def _over_seeds(values: Sequence[float], possible: Range) -> str:
    if len(values) < 2:
        return "one seed"
    found = over_seeds(np.array(values), possible=possible)
    ends = f"{_number(found.low)} to {_number(found.high)}, {counted(len(values), 'seed')}"
    return f"{_number(math.fsum(values) / len(values))} ({found.missing or ends})"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _cell(text: str) -> str:
    """Text in a table of Markdown on one line, without any markup in it."""
    escaped = re.sub(r"([\\`*\[\]|_~$])", r"\\\1", " ".join(text.replace("\n", "\\n").split()))
    unlinked = re.sub(r":(?=//)|(?<=www)\.", r"\\\g<0>", escaped)  # which would be links as they are
    return html.escape(unlinked, quote=False).replace("@", "&#64;")
