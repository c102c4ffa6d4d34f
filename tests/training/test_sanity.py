"""Each check of a trial finds the fault that it is there for, and nothing where all is well."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from softprior.inputs.study_files import load_grid
from softprior.methods import METHODS
from softprior.models.protocol import FrozenLM, Losses
from softprior.prompt import Batch, Prompt, Row
from softprior.results.examples import ExampleRow
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior, save_posterior
from softprior.results.records import Record, StepPoint
from softprior.results.sanity import SAID, Check
from softprior.studies.components import Components
from softprior.studies.estimate import trial_cost
from softprior.studies.plan import plan_study
from softprior.tasks import TASKS, Task
from softprior.tasks.prepare import prepare
from softprior.tasks.prepared import Prepared, PreparedSplit
from softprior.training.evaluation import Evaluation, Evaluator
from softprior.training.sanity import TOKENS, Sanity, of_numbers
from tests.builders import SUMS, run, tiny, trial

STUDIES = Path(__file__).parents[2] / "jobs" / "studies"


class Trained(NamedTuple):
    """A trial that has ended, with what its checks are made of."""

    record: Record
    folder: StudyFolder
    task: Task
    prepared: Prepared
    prompt: Prompt
    test: Evaluation

    def checks(self, host: FrozenLM | None = None, split: PreparedSplit | None = None) -> dict[str, Check]:
        """The checks again, through another host or on other rows."""
        loaded, spec = tiny(), self.record.spec
        host = host or loaded.host
        evaluator = Evaluator(host, loaded.tokenizer, self.task, spec.evaluation, [])
        sanity = Sanity(host, loaded.tokenizer, self.task, spec.evaluation, evaluator, spec.dtype)
        prepared = replace(self.prepared, test=split or self.prepared.test)
        posterior = self.folder.posterior(spec.id)
        found = sanity.checks(self.prompt, prepared, self.test, self.record.steps, posterior)
        return {check.name: check for check in found}

    def measured(self, host: FrozenLM) -> Trained:
        """As it would be if this host had measured the test split too."""
        spec = self.record.spec
        evaluator = Evaluator(host, tiny().tokenizer, self.task, spec.evaluation, [])
        return self._replace(test=evaluator.full(self.prompt, self.prepared.test, 6))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Sums of unlike lengths."""
    root = tmp_path_factory.mktemp("sanity")
    task = TASKS["arithmetic"].model_validate(SUMS | {"modules": ["two_digit_addition", "mul"]})
    record, loaded, folder = run(trial(task=task), root), tiny(), StudyFolder(root)
    prepared = prepare(task, loaded.tokenizer, loaded.fingerprint)
    prompt = load_posterior(folder.posterior(record.id)).final
    evaluator = Evaluator(loaded.host, loaded.tokenizer, task, record.spec.evaluation, [])
    test = evaluator.full(prompt, prepared.test, 6)
    return Trained(record, folder, task, prepared, prompt, test)


class Faulty:
    """The shipped model through a host with one method of its own."""

    def __init__(self, **methods: Callable[..., Any]) -> None:
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        return self._methods.get(name) or getattr(tiny().host, name)


class Shifted(PreparedSplit):
    """Rows whose labels begin one token before the answer and end one before its end."""

    def __init__(self, split: PreparedSplit) -> None:
        self._split = split
        self.lengths = split.lengths

    def row(self, index: int) -> Row:
        row = self._split.row(index)
        return replace(row, labels=[*row.labels[1:], False], scored=[*row.scored[1:], False])

    def answers(self, index: int) -> tuple[str, ...]:
        return self._split.answers(index)


def faults(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if check.verdict == "fault"}


def test_a_sound_trial_has_no_fault_and_its_record_has_the_numbers(trained: Trained) -> None:
    found = {check.name: check for check in trained.record.sanity}
    assert found == trained.checks()
    assert faults(found) == set()
    assert found.keys() == SAID.keys() - {"no_prompt_answers", "kept_context"}
    assert found["labels"].number == found["generation"].number == 1
    assert found["posterior"].number == 0
    assert found["batch_mates"].number < 1e-5
    assert found["gradient"].number == trained.record.steps[0].gradient > 0
    test = trained.record.test
    assert test is not None
    assert test.shuffled_loss is not None
    assert found["swapped_context"].number == test.shuffled_loss - test.loss


@pytest.mark.parametrize("method", ["none", "instruction"])
def test_baselines_have_the_checks_that_need_no_training(tmp_path: Path, method: str) -> None:
    found = {check.name: check for check in run(trial(method=METHODS[method]()), tmp_path).sanity}
    trained_only = {"posterior", "gradient", "majority", "no_prompt_answers", "kept_context"}
    assert found.keys() == SAID.keys() - trained_only
    assert faults(found) == set()


def test_running_text_has_labels_at_every_token_but_the_first(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for i in range(9):
        (texts / f"{i}.txt").write_text(f"Text {i} says that one may count to {i}, and then go on. " * 4)
    task = TASKS["language"](data=str(texts), length=24, train_examples=8)
    found = {check.name: check for check in run(trial(task=task), tmp_path).sanity}
    # Labels are everywhere in running text, and cannot be moved.
    assert found.keys() == {"batch_mates", "posterior", "labels", "gradient"}
    assert faults(found) == set()


def test_a_task_whose_labels_are_shifted_is_found(trained: Trained) -> None:
    found = trained.checks(split=Shifted(trained.prepared.test))
    assert "labels" in faults(found)
    assert found["labels"].number == 0
    assert found["labels"].words == "the labels of only 0% of the test examples are their answers"


def test_a_host_that_does_not_look_at_labels_is_found(trained: Trained) -> None:
    def loss(prompt: Prompt, batch: Batch, *, grad: bool = False) -> Losses:
        everywhere = torch.arange(batch.labels.shape[1])[None] < batch.lengths[:, None]
        everywhere[:, 0] = False
        return tiny().host.loss(prompt, replace(batch, labels=everywhere), grad=grad)

    host = Faulty(loss=loss)
    found = trained.measured(host).checks(host)
    assert faults(found) == {"moved_labels"}
    assert found["moved_labels"].number == 0


def test_labels_whose_loss_is_the_same_by_chance_at_one_other_place_are_no_fault(trained: Trained) -> None:
    def loss(prompt: Prompt, batch: Batch, *, grad: bool = False) -> Losses:
        found = tiny().host.loss(prompt, batch, grad=grad)
        return found._replace(nll=batch.labels[:, 2:3].sum(1) - batch.labels[:, 1].to(found.nll))

    host = Faulty(loss=loss)
    found = trained.measured(host).checks(host)
    assert found["moved_labels"].verdict == "passed"


def test_a_prompt_that_answers_well_is_no_fault(trained: Trained) -> None:
    """The answer and all that stands around it are certain; only the beginning of the row is not."""

    def loss(prompt: Prompt, batch: Batch, *, grad: bool = False) -> Losses:
        found = tiny().host.loss(prompt, batch, grad=grad)
        early = (batch.labels & (torch.arange(batch.labels.shape[1]) < 3)).sum(1)
        return found._replace(nll=early.to(found.nll))

    host = Faulty(loss=loss)
    found = trained.measured(host).checks(host)
    assert found["moved_labels"].verdict == "passed"
    assert found["moved_labels"].number > 0


def test_a_host_whose_rows_depend_on_their_batch_mates_is_found(trained: Trained) -> None:
    def loss(prompt: Prompt, batch: Batch, *, grad: bool = False) -> Losses:
        found = tiny().host.loss(prompt, batch, grad=grad)
        return found._replace(nll=0.9 * found.nll + 0.1 * found.nll.mean())

    host = Faulty(loss=loss)
    found = trained.measured(host).checks(host)
    assert faults(found) == {"batch_mates"}


def test_a_generation_that_forgets_the_prompt_is_found(trained: Trained) -> None:
    def generate(_: Prompt, batch: Batch, *, max_new: int, stop: frozenset[int]) -> list[list[int]]:
        return tiny().host.generate(None, batch, max_new=max_new, stop=stop)

    host = Faulty(generate=generate)
    found = trained.measured(host).checks(host)
    assert faults(found) == {"generation"}
    assert found["generation"].number < 0.7


def test_a_generation_that_ends_at_once_is_found(trained: Trained) -> None:
    """Its answers are empty, so they are generated again, without an end."""

    def generate(_: Prompt, batch: Batch, *, max_new: int, stop: frozenset[int]) -> list[list[int]]:
        return [[7] * (0 if stop else max_new) for _ in range(len(batch))]

    host = Faulty(generate=generate)
    assert faults(trained.measured(host).checks(host)) == {"generation"}
    alone = trained.measured(Faulty(generate=lambda _, batch, **__: [[] for _ in range(len(batch))]))
    assert alone.checks()["generation"].number == 1, "as the generation is right"


@pytest.mark.parametrize(("rows", "verdict"), [(1, "passed"), (2, "fault")])
def test_one_tie_of_the_first_two_logits_is_no_fault(trained: Trained, rows: int, verdict: str) -> None:
    """The fourth token of one answer, or of both, is another than the other path's first choice."""
    told, lengths = trained.test.generated, trained.prepared.test.lengths
    longest = max(range(len(told)), key=lambda i: lengths[i])
    changed = {longest} if rows == 1 else set(range(len(told)))
    at = TOKENS - 1
    other = [(*own[:at], own[at] + 1) if i in changed else own for i, own in enumerate(told)]
    found = trained._replace(test=trained.test._replace(generated=other)).checks()["generation"]
    assert (found.verdict, found.number) == (verdict, 1 - rows / (2 * TOKENS))


def test_a_posterior_file_whose_vectors_changed_is_found(trained: Trained, tmp_path: Path) -> None:
    spec, folder = trained.record.spec, StudyFolder(tmp_path)
    posterior = load_posterior(trained.folder.posterior(spec.id))
    wrong = {place: vectors.flip(0) for place, vectors in posterior.final.items()}
    save_posterior(folder.posterior(spec.id), replace(posterior, final=wrong))
    found = trained._replace(folder=folder).checks()
    assert faults(found) == {"posterior"}
    words = found["posterior"].words
    assert words is not None
    assert words.startswith("the saved posterior, read back, gives a loss ")


def answered(trained: Trained, answers: list[str]) -> dict[str, Check]:
    """The checks of a trial that gave these answers."""
    rows = []
    for i, answer in enumerate(answers):
        metrics = trained.task.score(answer, trained.prepared.test.answers(i))
        row = trained.test.rows[i] if i < len(trained.test.rows) else ExampleRow("", "", *[None] * 7, {})
        rows.append(row._replace(answer=answer, metrics=metrics))
    exact = sum(row.metrics["exact_match"] for row in rows) / len(rows)
    score = trained.test.score.model_copy(update={"metrics": {"exact_match": exact}})
    other = trained._replace(test=trained.test._replace(rows=rows, score=score))
    return other.checks()


def test_constant_answers_are_an_alarm_that_names_the_share(trained: Trained) -> None:
    right = [trained.prepared.test.answers(i)[0] for i in range(10)]
    assert answered(trained, right)["one_answer"].verdict == "passed"
    found = answered(trained, ["7"] * 9 + right[9:])["one_answer"]
    assert (found.verdict, found.number) == ("alarm", 0.9)
    assert found.words == "90% of the answers are the same one"


def test_answers_no_better_than_the_commonest_one_are_an_alarm(trained: Trained) -> None:
    """The commonest training answer is counted by hand."""
    train, test = trained.prepared.train, trained.prepared.test
    counts: dict[str, int] = {}
    for i in range(len(train)):
        counts[train.answers(i)[0]] = counts.get(train.answers(i)[0], 0) + 1
    common = max(counts, key=counts.__getitem__)
    right = [test.answers(i)[0] for i in range(20)]
    share = right.count(common) / 20
    good = answered(trained, right)["majority"]
    assert (good.verdict, good.number) == ("passed", 1 - share)
    bad = answered(trained, [common] * 20)["majority"]
    assert bad.number == 0
    assert bad.verdict == ("alarm" if share else "passed")


def test_swapped_contexts_that_cost_nothing_and_no_gradient_are_alarms(trained: Trained) -> None:
    unread = trained.test.score.model_copy(update={"loss": 2.0, "shuffled_loss": 1.998})
    still = StepPoint(step=1, loss=2.0, rate=0.1, gradient=0.0, moved=0.0)
    found = list(of_numbers(trained.test._replace(score=unread), [still]))
    assert [(check.name, check.verdict) for check in found] == [
        ("swapped_context", "alarm"),
        ("gradient", "alarm"),
    ]
    assert found[0].words is not None
    assert found[0].words.startswith("swapped contexts change the loss by -0.002 nats")


@pytest.mark.parametrize(
    ("file", "share"),
    [("demo", 0.005), ("paper", 0.001), ("tuned", 0.005), ("tiny_priors", 0.005), ("quickstart", 0.02)],
)
def test_checks_are_a_small_share_of_a_trial(file: str, share: float, tmp_path: Path) -> None:
    """Counted in positions that go forward; a gradient takes as many operations again.

    One prior of tiny_priors needs another study and is left out.
    """
    study = (STUDIES / f"{file}.yaml").read_text(encoding="utf-8")
    copy = tmp_path / f"{file}.yaml"
    copy.write_text(re.sub(r"\n *- posterior: .*", "", study), encoding="utf-8")
    plan = plan_study(load_grid(copy))
    components = Components.of(plan.trials)
    for spec in plan.trials:
        if spec.training is None:
            continue
        task, cost = components.task(spec), trial_cost(spec, components)
        prompts = components.method(spec).count()
        # Alone, with moved labels, and two answers that are read again.
        rows, passes, new = (4, 3, 2 * TOKENS) if task.generates else (2, 2, 0)
        own = rows * task.positions() + new + passes * prompts
        assert own < share * (2 * cost.trained + cost.evaluated)


def test_no_more_rows_go_forward_than_that(trained: Trained) -> None:
    passed: list[int] = []

    def loss(prompt: Prompt, batch: Batch, *, grad: bool = False) -> Losses:
        passed.append(len(batch))
        return tiny().host.loss(prompt, batch, grad=grad)

    def generate(prompt: Prompt, batch: Batch, *, max_new: int, stop: frozenset[int]) -> list[list[int]]:
        passed.append(len(batch))
        return tiny().host.generate(prompt, batch, max_new=max_new, stop=stop)

    trained.checks(Faulty(loss=loss, generate=generate))
    assert passed == [1, 1, 2]
