"""Notes on a task's data: what is left out, what is made up, what cannot be answered."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

from softprior.assets.tokens import AlikeError, NotJointError
from softprior.inputs.labels import counted
from softprior.inputs.specs import EvaluationSpec
from softprior.tasks.base import SPLITS, Look, Task
from softprior.tasks.sources import left_out

FEWEST = 16
"""Answers below which there is a note: the 95% interval of their accuracy can reach more than 0.25 to either
side."""

_UNTESTED = ("train_", "validation_", "label_", "shared_")
"""How notes begin that concern other splits than the one for tests."""

WIDTH = 0.98
"""Half the width of that interval at 0.5, where it is widest, times the root of the number of answers."""


def data_notes(name: str, task: Task, found: Look, tested: bool = False, limits: bool = True) -> list[str]:
    """Notes on a task's data: what is left out, what is made up, which splits are short.

    Args:
        name: the task's, in the sentences.
        found: its notes may be a record's `data`, which has them among others.
        tested: whether only the test split is read, so that nothing is said of the others.
        limits: whether it says which splits have fewer examples than a default allows.
    """
    if tested:
        kept = {key: count for key, count in found.notes.items() if not key.startswith(_UNTESTED)}
        found = found._replace(notes=kept)
    told = [f"{name}: {sentence}" for sentence in task.told(found.notes)]
    lost = left_out(name, found.quarantined, found.quarantine)
    return [*lost, *told, *_told(name, task, found), *_shortages(name, task, found.notes, limits)]


def batch_notes(name: str, task: Task, notes: Mapping[str, int], batch: int) -> list[str]:
    """A sentence if the task is known to have fewer examples than a batch is to have.

    Args:
        name: the task's, in the sentence.
        batch: `training.batch`, or the task's own.
    """
    examples = task.train_examples - notes.get("train_short", 0)
    if examples >= batch:
        return []
    rows = counted(examples, "row")
    return [f"{name}: batches have {rows}, as the task has no more, in place of batch = {batch:,}"]


def few_notes(name: str, task: Task, evaluation: EvaluationSpec, notes: Mapping[str, int]) -> list[str]:
    """A sentence if a task is tested on so few examples that their accuracy or loss says little.

    Args:
        name: the task's, in the sentence.
        notes: as in `Look`, with the number of test examples that the data lack.
    """
    there = task.test_examples - notes.get("test_short", 0)
    settings = {"test_examples": task.test_examples, "evaluation.examples": evaluation.examples}
    if task.new_tokens:
        settings["evaluation.generate"] = evaluation.generate
    answers = min(there, *settings.values())
    if not 0 < answers < FEWEST:
        return []
    small = [setting for setting, count in settings.items() if count < FEWEST]
    remedies = [f"raise {' and '.join(small)}"] if small else []
    if there < min(FEWEST, task.test_examples):  # the split has no more
        remedies.append(task.enlarged())
    if not task.generates:
        few = counted(answers, "test example")
        return [f"{name}: its loss on {few} says little; for {FEWEST} or more {', and '.join(remedies)}"]
    # An accuracy is between 0 and 1, and the interval of a few answers would be wider than that.
    width = min(0.5, WIDTH / sqrt(answers))
    return [
        f"{name}: accuracy on {counted(answers, 'answer')} has a 95% interval of up to "
        f"\N{PLUS-MINUS SIGN}{width:.2f}; for {FEWEST} or more {', and '.join(remedies)}"
    ]


def _told(name: str, task: Task, look: Look) -> list[str]:
    """What `prepare` has found that changes how results should be read."""
    found, notes = [], look.notes
    apart, alike = notes.get(NotJointError.note, 0), notes.get(AlikeError.note, 0)
    if misfits := look.dropped - apart - alike:
        found.append(f"{name}: {counted(misfits, 'example')} left out, {task.misfit()}")
    if apart:
        found.append(
            f"{name}: {counted(apart, 'example')} left out, whose answer cannot follow its input in this "
            f"tokenizer's tokens{_first(look, NotJointError.note)}"
        )
    if too_long := notes.get("answers_too_long", 0):
        found.append(
            f"{name}: {counted(too_long, 'answer')} longer than max_new_tokens = {task.max_new_tokens}, so "
            "that no model can write all of it"
        )
    if alike:
        found.append(
            f"{name}: {counted(alike, 'example')} left out, with two choices of the same tokens"
            f"{_first(look, AlikeError.note)}"
        )
    return found


def _first(look: Look, note: str) -> str:
    """The first example that a note counts and why; empty for records that do not have it."""
    return f", the first {look.firsts[note]}" if note in look.firsts else ""


def _shortages(name: str, task: Task, notes: Mapping[str, int], limits: bool) -> list[str]:
    """A sentence for every split that has fewer examples than asked for, and one for all below a default.

    Args:
        limits: whether splits below a default, which nobody asked for, are told.
    """
    asked, usual = [], []
    for split in SPLITS:
        if missing := notes.get(f"{split}_short", 0):
            most = task.examples_of(split)
            if most == type(task).model_fields[f"{split}_examples"].default:
                usual.append(f"{counted(most - missing, f'{split} example')} (limit {most:,})")
            else:
                asked.append(f"{name} has {most - missing:,} of the {most:,} {split}_examples asked for")
    return [*asked, f"{name} has {', '.join(usual)}"] if limits and usual else asked
