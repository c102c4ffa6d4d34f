"""The model card of `tiny`: what it can and cannot do, measured and checked against its promises."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jobs.tiny.ngram import KneserNey
from jobs.tiny.recipe import ordered_row, sums, texts
from softprior.inputs.base import Spec
from softprior.inputs.entries import Entry
from softprior.inputs.specs import EvaluationSpec, ModelSpec, Rate, TrainingSpec, TrialSpec
from softprior.models.load import Loaded, load_local
from softprior.prompt import Row, collate
from softprior.results.folder import StudyFolder
from softprior.results.records import Record
from softprior.tasks import TASKS
from softprior.tasks.prepare import prepare
from softprior.training.evaluation import Evaluator, stop_tokens
from softprior.training.setup import Setup
from softprior.training.trial import Trial

TASK: dict[str, object] = {
    "modules": ["two_digit_addition"],
    "train_examples": 4000,
    "validation_examples": 100,
    "test_examples": 400,
    "max_new_tokens": 6,
}
TRAINING = TrainingSpec(steps=300, batch=32, schedule="linear", snapshots=0, checkpoint=300)
RATE = 0.01
"""Learning rate of the prompt that is tuned for the card."""

PRIOR = Entry(name="fitted")


class Card(Spec):
    """Measurements on examples the model was not trained on.

    Attributes:
        ordered: exact answers to two-digit additions in its own training format.
        bare: the same in the platform's format without a prompt.
        untrained: the same with the untrained sample of 20 vectors that `tuned` starts from.
        tuned: the same with the vectors after 300 steps.
        tuning_seconds: working time of that trial, evaluation included.
        text_loss: nats per token on held-out Wikipedia articles.
        ngram_loss: the same for a 4-gram model with Kneser-Ney smoothing on the same tokens.
        bytes: size of the shipped files.
    """

    ordered: float
    bare: float
    untrained: float
    tuned: float
    tuning_seconds: float
    text_loss: float
    ngram_loss: float
    bytes: int

    def broken(self) -> list[str]:
        """The promises that are not kept, in words."""
        promises = {
            f"two-digit additions in its own format {self.ordered:.1%}, at least 90%": self.ordered >= 0.9,
            f"without a prompt {self.bare:.1%}, at most 10%": self.bare <= 0.1,
            f"with an untrained prompt {self.untrained:.1%}, at most 10%": self.untrained <= 0.1,
            f"with a trained prompt {self.tuned:.1%}, at least 60%": self.tuned >= 0.6,
            f"tuned in {self.tuning_seconds:.0f} s, under 30 s": self.tuning_seconds < 30,
            f"text loss {self.text_loss:.3f}, below a 4-gram's {self.ngram_loss:.3f}": self.text_loss
            < self.ngram_loss,
            f"{self.bytes / 1e6:.1f} MB, at most 4 MB": self.bytes <= 4e6,
        }
        return [promise for promise, holds in promises.items() if not holds]


def measure(folder: Path, say: Callable[[str], None]) -> Card:
    """Measures the model in a folder."""
    loaded = load_local(ModelSpec(id=str(folder), device="cpu"))
    say("additions in its own format")
    ordered = _ordered(loaded)
    say("additions in the platform's format, without a prompt and with an untrained and a trained one")
    with tempfile.TemporaryDirectory() as scratch:
        bare = _exact(_trial(loaded, Path(scratch), trained=False))
        started = time.monotonic()
        record = _trial(loaded, Path(scratch), trained=True)
        seconds = time.monotonic() - started
        untrained = _untrained(loaded, Path(scratch))
    say("held-out text, and a 4-gram model")
    return Card(
        ordered=ordered,
        bare=bare,
        untrained=untrained,
        tuned=_exact(record),
        tuning_seconds=round(seconds, 1),
        text_loss=_text_loss(loaded),
        ngram_loss=_ngram_loss(loaded),
        bytes=sum(path.stat().st_size for path in folder.iterdir()),
    )


def trial_spec(fingerprint: str, trained: bool) -> TrialSpec:
    """The card's own trial: `soft` with 20 vectors on two-digit addition."""
    task = TASKS["arithmetic"].model_validate(TASK)
    return TrialSpec(
        model="tiny",
        model_fingerprint=fingerprint,
        dtype="float32",
        method=Entry(name="soft" if trained else "none"),
        prior=PRIOR if trained else None,
        task=Entry(name="arithmetic", params=task.model_dump(mode="json")),
        data_fingerprint=task.fingerprint(),
        rate=Rate(value=RATE) if trained else None,
        seed=0 if trained else None,
        training=TRAINING if trained else None,
        evaluation=EvaluationSpec(examples=100, generate=400, batch=100, context_shuffle=False),
    )


def _trial(loaded: Loaded, scratch: Path, trained: bool) -> Record:
    spec = trial_spec(loaded.fingerprint, trained)
    return Trial(
        Setup(spec, loaded.host, loaded.tokenizer, loaded.fingerprint), StudyFolder(scratch), lambda _: None
    ).run()


def _exact(record: Record) -> float:
    assert record.test is not None
    return record.test.metrics["exact_match"]


def _untrained(loaded: Loaded, scratch: Path) -> float:
    from softprior.results.posteriors import load_posterior

    spec = trial_spec(loaded.fingerprint, trained=True)
    initial = load_posterior(StudyFolder(scratch).posterior(spec.id)).initial
    task = TASKS["arithmetic"].model_validate(spec.task.params)
    split = prepare(task, loaded.tokenizer, loaded.fingerprint).test
    evaluator = Evaluator(loaded.host, loaded.tokenizer, task, spec.evaluation, [])
    score = evaluator.full(initial, split, 0).score
    return score.metrics["exact_match"]


def _ordered(loaded: Loaded) -> float:
    items = sums("test")
    stop = stop_tokens(loaded.tokenizer, ("\n",))
    right = 0
    for start in range(0, len(items), 200):
        rows = [ordered_row("Add.", item, loaded.tokenizer) for item in items[start : start + 200]]
        inputs = [_input(row) for row in rows]
        outputs = loaded.host.generate(None, collate(inputs), max_new=6, stop=stop)
        answers = [loaded.tokenizer.decode(tokens).strip() for tokens in outputs]
        right += sum(
            answer == str(item.a + item.b) for answer, item in zip(answers, items[start:], strict=False)
        )
    return right / len(items)


def _input(row: Row) -> Row:
    end = row.labels.index(True)
    return Row(row.id, row.tokens[:end], row.labels[:end], row.scored[:end])


def _held_out(loaded: Loaded) -> list[int]:
    end = loaded.tokenizer.eos_token_id
    assert end is not None
    articles = loaded.tokenizer(texts("test"), verbose=False)["input_ids"]
    return [token for ids in articles for token in [*ids, end]][:40_000]


def _text_loss(loaded: Loaded) -> float:
    """Windows of 192 tokens that overlap by half; only the second half is counted, as context is short."""
    tokens, width = _held_out(loaded), 192
    total, count = 0.0, 0
    windows = [tokens[start : start + width] for start in range(0, len(tokens) - width, width // 2)]
    for at in range(0, len(windows), 32):
        rows = [
            Row(str(i), window, [j >= width // 2 for j in range(width)], [False] * width)
            for i, window in enumerate(windows[at : at + 32])
        ]
        losses = loaded.host.loss(None, collate(rows))
        total += float(losses.nll.sum())
        count += int(losses.tokens.sum())
    return total / count


def _ngram_loss(loaded: Loaded) -> float:
    end = loaded.tokenizer.eos_token_id
    assert end is not None
    articles = loaded.tokenizer(texts("train"), verbose=False)["input_ids"]
    tokens = [token for ids in articles for token in [*ids, end]]
    return KneserNey(tokens, len(loaded.tokenizer)).loss(_held_out(loaded))
