"""The model card of an exported prompt: what it is, what it scores over the study's seeds, how to load it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from analysis.inference.intervals import over_seeds
from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.inputs.labels import counted
from softprior.inputs.specs import TrialSpec
from softprior.library.reading import has_posterior
from softprior.library.results import Results, full_id
from softprior.results.records import Record, Score

LIBRARY = "peft"


class Measured(NamedTuple):
    """A number of the test split.

    Attributes:
        name: `loss`, `accuracy`, or one of the task's metrics.
        own: of this prompt.
        seeds: of all seeds with otherwise equal trials, this one's among them.
        untrained: of the sample that it started from; None if it was not measured.
        without: of the model without a prompt; None without such a trial in the study.
    """

    name: str
    own: float
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
            f"the trial {trial} ({record.spec.method.name}, {record.status}) has left no prompt; choose a "
            "finished trial with a trained one"
        )
    return record


def measured(results: Results, record: Record) -> list[Measured]:
    """Every number of a trial's test split beside those of its other seeds, its start and no prompt."""
    finished = [one for one in results.records.values() if one.test is not None]
    alike = [one for one in finished if one.spec.model_copy(update={"seed": record.spec.seed}) == record.spec]
    bare = [one for one in finished if one.spec.method.name == "none" and _same_examples(one, record)]
    own = _numbers(record.test)
    others = [_numbers(one.test) for one in alike]
    untrained, without = _numbers(record.untrained), _numbers(bare[0].test if bare else None)
    return [
        Measured(
            name,
            value,
            tuple(other[name] for other in others if name in other),
            untrained.get(name),
            without.get(name),
        )
        for name, value in own.items()
    ]


def model_card(results: Results, record: Record, base: str, revision: str | None) -> str:
    """The card as Markdown with the hub's metadata in front.

    Args:
        base: name of the base model on the hub, or its folder.
        revision: its commit.
    """
    from huggingface_hub import EvalResult, ModelCardData

    numbers = measured(results, record)
    task = record.spec.task.name
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
                metric_type=one.name,
                metric_value=one.own,
            )
            for one in numbers
        ],
    )
    return "\n".join(["---", data.to_yaml().strip(), "---", "", *_body(record, numbers, base, revision)])


def _body(record: Record, numbers: Sequence[Measured], base: str, revision: str | None) -> Iterator[str]:
    test = record.test
    assert test is not None
    yield f"# A prompt for {_cell(base)}"
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
        f"at the end; metrics are over {counted(test.generated, 'generated answer')}. The loss is in nats "
        "per label token."
    )
    yield ""
    yield "| | this prompt | mean over seeds (95% interval) | untrained | no prompt |"
    yield "|---|---|---|---|---|"
    for one in numbers:
        cells = [_number(one.own), _over_seeds(one.seeds), _number(one.untrained), _number(one.without)]
        yield f"| {_cell(one.name)} | {' | '.join(cells)} |"
    yield ""
    yield (
        "The interval is Student's, over the seeds of the study: for other seeds on the same examples. This "
        "prompt is one of those seeds."
    )
    yield ""
    yield from _loading(record.spec, base, revision)


def _facts(record: Record, base: str, revision: str | None) -> dict[str, str]:
    """What the prompt is, and how it was trained."""
    spec, training = record.spec, record.spec.training
    assert training is not None
    return {
        "base model": base + (f" at {revision}" if revision else ""),
        "weights": f"SHA-256 fingerprint {spec.model_fingerprint[:16]}, trained in {spec.dtype}",
        "task": _entry(spec.task),
        "method": _entry(spec.method),
        "prior": _entry(spec.prior) if spec.prior else "none",
        "regularisers": ", ".join(_entry(one) for one in spec.regularisers) or "none",
        "rate": f"{spec.rate.value:g}{' times the prior' if spec.rate.relative else ''}"
        if spec.rate
        else "none",
        "seed": str(spec.seed),
        "training": f"{training.steps} steps of {training.batch * training.accumulate} examples",
        "trial": record.id,
    }


def _loading(spec: TrialSpec, base: str, revision: str | None) -> Iterator[str]:
    yield "## How to load it"
    yield ""
    yield "```python"
    yield "from peft import PeftModel"
    yield "from transformers import AutoModelForCausalLM"
    yield ""
    at = f', revision="{revision}"' if revision else ""
    yield f'model = AutoModelForCausalLM.from_pretrained("{base}"{at}, dtype="{spec.dtype}")'
    yield 'model = PeftModel.from_pretrained(model, "THIS FOLDER OR REPOSITORY")'
    yield "```"
    yield ""
    yield f"In another dtype than {spec.dtype} the same prompt gives other numbers."
    yield ""


def _same_examples(one: Record, other: Record) -> bool:
    keys = ("model_fingerprint", "dtype", "task", "data_fingerprint", "evaluation")
    return all(getattr(one.spec, key) == getattr(other.spec, key) for key in keys)


def _numbers(score: Score | None) -> dict[str, float]:
    if score is None:
        return {}
    found: dict[str, Any] = {"loss": score.loss, "accuracy": score.accuracy, **score.metrics}
    return {name: value for name, value in found.items() if value is not None}


def _entry(entry: Entry) -> str:
    """A component with its parameters, but for paths on the author's machine."""
    shown = {key: value for key, value in entry.params.items() if not re.search(r"[/\\\\]", str(value))}
    hidden = [f"{key}: a file" for key in entry.params if key not in shown]
    inner = ", ".join([*(f"{key}: {value}" for key, value in shown.items()), *hidden])
    return f"{entry.name} ({inner})" if inner else entry.name


def _over_seeds(values: Sequence[float]) -> str:
    if len(values) < 2:
        return "one seed"
    found = over_seeds(np.array(values))
    ends = f"{_number(found.low)} to {_number(found.high)}"
    return f"{_number(math.fsum(values) / len(values))} ({ends}, {counted(len(values), 'seed')})"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _cell(text: str) -> str:
    """Text in a table of Markdown, on one line."""
    return " ".join(text.split()).replace("|", r"\|")
