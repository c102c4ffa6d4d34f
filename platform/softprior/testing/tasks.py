"""The contract of tasks: what every `Task` promises to preparation, to a trial and to whoever compares two.

Nothing here knows which tasks exist. Every check but `check_dropped` and `check_quarantined` takes a
small sound task: no malformed row in its data, all of its examples fit, every split has at least two, and
its data is local or generated, because every check starts from an empty cache of its own. Tokenizers are
byte-level ones with an end-of-sequence token, so that a text comes back from its tokens as it was.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from softprior.assets.cache import VARIABLE
from softprior.assets.tokens import Tokenizer
from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.prompt import Row, collate
from softprior.tasks.base import EXAMPLE_FEATURES, SPLITS, Example, Split, Splits, Task
from softprior.tasks.choice_rows import choice_columns
from softprior.tasks.prepare import prepare
from softprior.tasks.prepared import Prepared
from softprior.testing.elsewhere import answered, as_json, from_json, is_found

COUNTS = ("train_examples", "validation_examples", "test_examples", "max_new_tokens")
"""Parameters of every task that are whole numbers from 1 on."""

OFF = (0.3, 3)
"""Least and most of `positions` over the mean. It is asked for before there is a tokenizer, so it cannot be
exact; it is for estimates of time, which a mistake of an order of magnitude would spoil."""


def examples(task: Task) -> dict[Split, list[Example]]:
    """A task's examples by split, all of them, in the task's order."""
    splits = task.splits()
    return {split: [Example.of(record) for record in getattr(splits, split)] for split in SPLITS}


def whole(text: str) -> str:
    """The whole input, which is what a control swaps in most tasks."""
    return text


def check_serialisation(task: Task) -> None:
    """A task is a value: equal to itself after JSON, with an equal hash and the same identity."""
    loaded = _loaded(task)
    assert loaded == task
    assert loaded.canonical() == task.canonical()
    assert len({task, loaded}) == 1


def check_strictness(task: Task) -> None:
    """Unknown parameters and counts that are none are refused, and nothing changes a task once it is made."""
    kind, params = type(task), json.loads(task.canonical())
    with pytest.raises(UserError, match="unknown key 'no_such_parameter'"):
        validate(kind, {**params, "no_such_parameter": 1}, "contract")
    for name in COUNTS:
        for count in (0, -1, 1.5, True, "2"):
            with pytest.raises(UserError, match=f"{name} = "):
                validate(kind, {**params, name: count}, "contract")
        with pytest.raises(ValueError, match="frozen"):
            setattr(task, name, 1)


def check_texts(task: Task) -> None:
    """The instruction and the ends of answers are texts; what generates nothing is measured by its loss."""
    assert isinstance(task.generates, bool)
    assert task.instruction.strip() == task.instruction != ""
    assert isinstance(task.stop, tuple)
    assert all(isinstance(text, str) and text for text in task.stop)
    assert task.headline
    assert (task.headline == "loss") is not task.generates


def check_fingerprint(task: Task) -> None:
    """The source is identified by a text, the same for equal tasks, and nothing is fetched for it.

    The check is also for a task whose data is not here, such as the one with default parameters. Only one
    whose source is a branch on a hub, which moves, has to ask where it stands, and cannot pass.
    """
    with _nothing_fetched():
        fingerprint = task.fingerprint()
        assert fingerprint == _loaded(task).fingerprint()
    assert isinstance(fingerprint, str)
    assert fingerprint


def check_splits(task: Task, by_group: bool = True) -> None:
    """Splits are tables of examples with texts in them, and share no id, no input and no group.

    Args:
        by_group: False for a task of generated questions, whose groups (such as modules) are in every
            split; nothing tested was trained on because no question is.
    """
    with _empty_cache():
        splits = task.splits()
        found = examples(task)
    for split in SPLITS:
        assert getattr(splits, split).features == EXAMPLE_FEATURES
    assert all(found.values()), "every split has an example"
    everything = [example for split in SPLITS for example in found[split]]
    assert len({example.id for example in everything}) == len(everything), "an id stands there twice"
    assert len({example.input for example in everything}) == len(everything), "an input stands there twice"
    for example in everything:
        assert all(text.strip() for text in (example.id, example.input, example.group))
        assert all(answer.strip() for answer in example.answers)
        assert bool(example.answers) is task.generates
    if by_group:
        groups = [group for split in SPLITS for group in {example.group for example in found[split]}]
        assert len(set(groups)) == len(groups), "a group stands in two splits"


def check_repeatable(task: Task) -> None:
    """Equal tasks give equal splits whatever the global generators hold, and leave these as they were."""
    with _empty_cache(), _seeds(1):
        before = _generators()
        first = _plain(task.splits())
        assert _generators() == before, "a global generator was moved"
        fingerprint = task.fingerprint()
    with _empty_cache(), _seeds(2):
        loaded = _loaded(task)
        assert _plain(loaded.splits()) == first
        assert _plain(loaded.splits()) == first, "read from the cache they are the same"
        assert loaded.fingerprint() == fingerprint


def check_other_process(tasks: Mapping[str, Task]) -> None:
    """Another process, with other hashes and seeds, sees the same examples; for all tasks at once.

    Their classes must be found by name in modules that can be imported.
    """
    # An empty cache of its own, or it would read what this process has generated.
    with _empty_cache():
        there = answered(__name__, as_json(tasks))
    assert set(there) == set(tasks)
    with _empty_cache():
        for name, task in tasks.items():
            assert there[name] == _plain(task.splits()), f"{name} has other examples in another process"


def answer() -> None:
    """The other process of `check_other_process`: reads the job, with every global seed changed."""
    job = json.load(sys.stdin)
    with _seeds(99):
        tasks = from_json(job, Task)  # type: ignore[type-abstract]
        print(json.dumps({name: _plain(task.splits()) for name, task in tasks.items()}))


def check_rows(task: Task, tokenizer: Tokenizer) -> None:
    """Nothing but the answer is labelled, all of it is, and its end-of-sequence token is not scored.

    Where nothing is generated, all tokens but the first are labelled and scored.
    """
    with _empty_cache():
        found = examples(task)
    for example in (example for split in SPLITS for example in found[split]):
        row = task.row(example, tokenizer)
        assert row is not None, f"{example.id} does not fit, and the suite is for a task whose examples do"
        rows = task.rows(example, tokenizer)
        assert rows[0] == row
        assert len({one.id for one in rows}) == len(rows)
        for one in rows:
            _check_row(task, example, one, tokenizer)


def check_controls(task: Task, tokenizer: Tokenizer, context: Callable[[str], str] | None = whole) -> None:
    """A control has the context of another example of its split, and the same labels as its example.

    Args:
        context: the part at the beginning of an input that its control has from elsewhere; None for a
            task without controls.
    """
    with _empty_cache():
        found = examples(task)
    for split, own in found.items():
        contexts = {context(example.input) for example in own} if context else set()
        for example in own:
            control = task.control_row(example, tokenizer)
            if context is None:
                assert example.control is None
                assert control is None
                continue
            assert example.control is not None, f"{example.id} has none, in {split}"
            assert example.control != example.input
            before, after = context(example.input), context(example.control)
            # Another one's, since it is in the split and is not the example's own.
            assert after != before
            assert after in contexts, f"the control of {example.id} has a context from outside of {split}"
            assert example.input.startswith(before)
            assert example.control == after + example.input[len(before) :]
            row = task.row(example, tokenizer)
            assert row is not None
            assert control is not None
            assert control.id == row.id
            assert _labelled(control) == _labelled(row)
            assert _scored(control) == _scored(row)
            assert _unlabelled(control) != _unlabelled(row)
            _check_row(task, example._replace(input=example.control), control, tokenizer)


def check_scores(task: Task, wrong: str = "zebra crossing") -> None:
    """Metrics are in [0, 1] and always the same ones: 1 for an accepted answer, 0 for a wrong one.

    Args:
        wrong: a text that has nothing in common with any answer of the task.
    """
    if not task.generates:
        assert task.score("anything", ("42",)) == {}
        assert task.metrics == ()
        return
    with _empty_cache():
        found = examples(task)["test"]
    for example in found:
        names = set(task.score(wrong, example.answers))
        assert task.headline in names
        # The other metrics of choices are of likelihoods, not of texts.
        assert names == ({task.headline} if task.options() else set(task.metrics))
        assert names <= set(task.metrics)
        assert set(task.score(wrong, example.answers).values()) == {0.0}
        for accepted in example.answers:
            perfect = task.score(f" {accepted}", example.answers)
            assert set(perfect) == names
            assert set(perfect.values()) == {1.0}
            for part in ("", accepted[: len(accepted) // 2], f"{accepted} {wrong}", f"{wrong} {accepted}"):
                partly = task.score(part, example.answers)
                assert set(partly) == names
                assert all(isinstance(value, float) and 0 <= value <= 1 for value in partly.values())
                assert task.score(part, example.answers) == partly


def check_prepared(task: Task, tokenizer: Tokenizer) -> None:
    """Prepared rows make a batch, have ids of their own, and as many are missing as is said to be."""
    with _empty_cache():
        prepared = prepare(task, tokenizer, "contract")
        assert (prepared.dropped, prepared.quarantined) == (0, 0)
        _check_shortage(task, prepared)
        longest = task.longest()
        ids = []
        for split in SPLITS:
            found = getattr(prepared, split)
            rows = [found.row(i) for i in range(len(found))]
            ids += [row.id for row in rows]
            assert 0 < len(rows) <= task.examples_of(split)
            assert [len(row.tokens) for row in rows] == found.lengths
            assert longest is None or max(found.lengths) <= longest
            assert collate(rows).positions == sum(found.lengths)
            for i, row in enumerate(rows):
                before = found.input_row(i)
                assert before.tokens == row.tokens[: len(before.tokens)]
                assert not any(before.labels)
                assert row.labels[len(before.tokens)]
                assert bool(found.answers(i)) is task.generates
        assert len(set(ids)) == len(ids)


def check_cache(task: Task, tokenizer: Tokenizer) -> None:
    """A task that equals one that was prepared is read from the cache, row by row the same."""
    with _empty_cache():
        first = prepare(task, tokenizer, "contract")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(task), "splits", lambda _: pytest.fail("tokenised again"))
            second = prepare(_loaded(task), tokenizer, "contract")
        assert second.path == first.path
        for split in SPLITS:
            one, two = getattr(first, split), getattr(second, split)
            assert [one.row(i) for i in range(len(one))] == [two.row(i) for i in range(len(two))]


def check_positions(task: Task, tokenizer: Tokenizer) -> None:
    """The estimate of an example's tokens is near the mean over examples, and made without fetching any."""
    with _nothing_fetched():
        estimate = task.positions()
    assert isinstance(estimate, int)
    with _empty_cache():
        lengths = prepare(task, tokenizer, "contract").train.lengths
    assert OFF[0] < estimate / (sum(lengths) / len(lengths)) < OFF[1]


def check_dropped(task: Task, tokenizer: Tokenizer) -> None:
    """An example that does not fit, or whose control does not, is passed over whole and counted.

    Nothing is cut off the others, which come in the task's order until there are enough.

    Args:
        task: one that has, before enough are found, an example that does not fit, and one that does in
            every split; without malformed rows.
    """
    with _empty_cache():
        found = examples(task)
        prepared = prepare(task, tokenizer, "contract")
        _check_shortage(task, prepared)
        dropped = 0
        for split in SPLITS:
            taken: list[str] = []
            possible: set[str] = set()
            for example in found[split]:
                if len(taken) == task.examples_of(split):
                    break
                rows = task.rows(example, tokenizer)
                control = task.control_row(example, tokenizer)
                fits = not example.choices or choice_columns(task, example, tokenizer) is not None
                if not rows or not fits or (example.control is not None and control is None):
                    dropped += 1
                    continue
                taken.append(rows[0].id)
                possible |= {row.id for row in rows}
                for row in rows:
                    _check_row(task, example, row, tokenizer)
                if control is not None:
                    assert example.control is not None
                    _check_row(task, example._replace(input=example.control), control, tokenizer)
            kept = getattr(prepared, split)
            ids = [kept.row(i).id for i in range(len(kept))]
            assert ids[: len(taken)] == taken
            assert set(ids) <= possible
        assert dropped > 0, "every example fits, so nothing is shown"
        assert prepared.dropped == dropped


def check_quarantined(task: Task, sound: Task, malformed: int, tokenizer: Tokenizer) -> None:
    """Malformed rows are set aside, each with its place and the reason, and change nothing about others.

    Args:
        task: the same as `sound`, with malformed rows added to its data.
        malformed: number of these rows.
    """
    with _empty_cache():
        assert task.fingerprint() != sound.fingerprint(), "other contents have another fingerprint"
        splits, without = task.splits(), sound.splits()
        assert without.quarantined == []
        assert len(splits.quarantined) == malformed
        assert len({(row.file, row.index) for row in splits.quarantined}) == malformed
        for row in splits.quarantined:
            assert all(text and "\n" not in text for text in (row.file, row.index, row.reason))
        for split in SPLITS:
            # A group may name the file, which is another one.
            one, two = (getattr(s, split).remove_columns("group").to_list() for s in (splits, without))
            assert one == two
        prepared = prepare(task, tokenizer, "contract")
        assert prepared.quarantined == malformed
        assert prepared.quarantine == tuple(splits.quarantined)


CHECKS: tuple[Callable[[Task], None], ...] = (
    check_serialisation,
    check_strictness,
    check_texts,
    check_fingerprint,
    check_repeatable,
    check_scores,
)
"""The part of the suite that is about a task alone."""

TOKENISED: tuple[Callable[[Task, Tokenizer], None], ...] = (
    check_rows,
    check_prepared,
    check_cache,
    check_positions,
)
"""The part about its rows of tokens. `check_task` has all checks, also those that need to know more."""


class Spoiled(NamedTuple):
    """A task with malformed rows in its data.

    Attributes:
        task: the same as one that is sound, with these rows added.
        malformed: their number.
    """

    task: Task
    malformed: int


def check_task(
    task: Task,
    tokenizer: Tokenizer,
    *,
    by_group: bool = True,
    context: Callable[[str], str] | None = whole,
    tight: Task | None = None,
    spoiled: Spoiled | None = None,
) -> None:
    """Runs the whole suite on a small sound task, as described above.

    Another process is asked too, if it can import the class.

    Args:
        tokenizer: a byte-level one with an end-of-sequence token, such as that of `tiny`.
        by_group: as in `check_splits`.
        context: as in `check_controls`; without effect if nothing is generated, as there is no control then.
        tight: a form of the task in which examples do not fit; None if all always fit.
        spoiled: a form with malformed rows; None if no row can be malformed.

    Raises:
        AssertionError: the task breaks its contract.
    """
    for check in CHECKS:
        check(task)
    check_splits(task, by_group)
    for on_tokens in TOKENISED:
        on_tokens(task, tokenizer)
    check_controls(task, tokenizer, context if task.generates else None)
    if tight is not None:
        check_dropped(tight, tokenizer)
    if spoiled is not None:
        check_quarantined(spoiled.task, task, spoiled.malformed, tokenizer)
    if is_found(type(task)):
        check_other_process({"task": task})


def _check_row(task: Task, example: Example, row: Row, tokenizer: Tokenizer) -> None:
    """One row against its example, literally."""
    assert len(row.tokens) == len(row.labels) == len(row.scored)
    assert not row.labels[0]
    if not task.generates:
        assert row.labels == row.scored == [False] + [True] * (len(row.tokens) - 1)
        return
    assert any(row.labels), "there is no answer left"
    end = row.labels.index(True)
    assert row.labels == [False] * end + [True] * (len(row.tokens) - end)
    assert row.tokens[:end] == tokenizer(example.input)["input_ids"]
    assert row.tokens[-1] == tokenizer.eos_token_id
    assert row.scored == [*row.labels[:-1], False]
    answer = task.trained_answer(example)
    assert row.tokens[:-1] == tokenizer(f"{example.input} {answer}")["input_ids"], "they are not one text"
    assert tokenizer.decode(row.tokens[end:-1]) == f" {answer}", "the answer is not whole"


def _check_shortage(task: Task, prepared: Prepared) -> None:
    for split in SPLITS:
        missing = prepared.notes.get(f"{split}_short", 0)
        assert len(getattr(prepared, split)) + missing == task.examples_of(split)


def _labelled(row: Row) -> list[int]:
    return [token for token, label in zip(row.tokens, row.labels, strict=True) if label]


def _unlabelled(row: Row) -> list[int]:
    return [token for token, label in zip(row.tokens, row.labels, strict=True) if not label]


def _scored(row: Row) -> list[int]:
    return [token for token, score in zip(row.tokens, row.scored, strict=True) if score]


def _loaded(task: Task) -> Task:
    """The task after a round trip through JSON."""
    return validate(type(task), json.loads(task.canonical()), "contract")


def _plain(splits: Splits) -> dict[str, object]:
    """Splits as JSON has them."""
    tables: dict[str, object] = {split: getattr(splits, split).to_list() for split in SPLITS}
    return {
        **tables,
        "notes": splits.notes,
        "quarantined": [list(astuple(row)) for row in splits.quarantined],
    }


@contextmanager
def _empty_cache() -> Iterator[Path]:
    """Nothing is read that an earlier version of the task has left, and nothing is left."""
    with (
        tempfile.TemporaryDirectory(prefix="softprior-contract-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv(VARIABLE, folder)
        yield Path(folder)


@contextmanager
def _nothing_fetched() -> Iterator[None]:
    """Fails where something inside looks for another machine, or needs anything in the cache."""

    def refuse(*_: object, **__: object) -> None:
        # Not an Exception, so that no handler on the way takes it for a network that is down.
        pytest.fail("it asks the network")

    with _empty_cache() as cache, pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", refuse)
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, refuse)
        yield
        assert list(cache.iterdir()) == [], "it puts something into the cache"


def _generators() -> list[object]:
    """The states of the global generators."""
    name, keys, *rest = np.random.get_state()
    return [random.getstate(), name, np.asarray(keys).tolist(), rest, torch.random.get_rng_state().tolist()]


@contextmanager
def _seeds(seed: int) -> Iterator[None]:
    """Other global generators for a while."""
    own, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(numpys)
