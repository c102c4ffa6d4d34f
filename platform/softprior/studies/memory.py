"""How much memory trials will need, as a plan says it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import torch

from softprior.assets.models import KnownModel
from softprior.inputs.labels import counted
from softprior.inputs.specs import CommonSpec, ModelSpec, PlacementSpec, ResourcesSpec, TrialSpec
from softprior.models.lanes import LEAST, lanes
from softprior.models.memory import BYTES, FLOAT32, Form, Rows, Sizes, step_memory
from softprior.studies.cluster import elsewhere
from softprior.studies.components import Components
from softprior.studies.placement import concurrent, has_shared_hosts, placed_model, trial_threads
from softprior.tasks import Task
from softprior.tasks.prepare import prepared_here

HEAP = 1.75
"""What a process grows by on CPUs, over what a step keeps of one pass, or of two small ones: 1.43 to 1.81.

Steps of `tiny` that keep less than 15 MB take 2.3 to 2.9 times that (docs/log.md).
"""

HEAP_BESIDE = 1.45
"""The same for larger passes side by side: 1.16 to 1.53."""

PYTHON = 600_000_000
"""What a process takes besides: 577 MB after its imports; trials of `tiny` peak at 638 to 646 on CPUs."""


class Need(NamedTuple):
    """Memory of the largest step of a study.

    Attributes:
        weights, step: in bytes.
        rows: of the step.
    """

    weights: int
    step: int
    rows: Rows


def memory_lines(
    study: CommonSpec, known: KnownModel, trials: Sequence[TrialSpec], of: Components
) -> list[str]:
    """A line about the memory of weights and the largest step, and one if the GPU here has less.

    There is none where the count has not been compared with a measurement.

    Args:
        known: what is known of the model's sizes.
    """
    model = placed_model(study.model, study.resources, study.placement)  # on the device of its process
    need = _needed(study, model, known, trials, of)
    if need is None:
        return []
    rows, shared = need.rows, has_shared_hosts(study.placement)
    each = f"{counted(rows.number, 'row')} of up to {counted(rows.longest, 'token')}"
    if rows.prompts > 1:
        each += f" of {counted(rows.prompts, 'trial')}"
    whose = "each copy of the model" if shared else "each trial"
    about = f"about {_size(need.weights)} of weights and {_size(need.step)} for a step of {each}"
    line = f"memory of {whose}: {about}; Python and its libraries take about {_size(PYTHON)} besides"
    gpus = study.placement.gpus if shared else study.resources.gpus
    room = _gpu_here(gpus) if gpus and model.device != "cpu" else None
    if room is None or need.weights + need.step <= room:
        return [line]
    return [
        line,
        f"note: the GPU here has {_size(room)} for that; lower training.batch"
        f"{', placement.tokens' if shared else ''} or the length of the task",
    ]


def _needed(
    study: CommonSpec, model: ModelSpec, known: KnownModel, trials: Sequence[TrialSpec], of: Components
) -> Need | None:
    """The memory of the largest step; None where it is not counted, or nothing is trained."""
    placement = study.placement
    sizes, form = _sizes(known), _form(model, placement)
    if sizes is None or form is None or known.parameters is None:
        return None
    trained = [(trial, trial.training.batch) for trial in trials if trial.training is not None]
    kinds = {(trial.method.canonical(), trial.task.canonical(), batch): trial for trial, batch in trained}
    found = []
    for (_, _, batch), trial in kinds.items():
        method = of.method(trial)
        rows = largest_rows(of.task(trial), known.fingerprint, batch)
        if has_shared_hosts(placement):
            most = concurrent(study.resources, placement) or 1
            rows = _shared(rows, method.count(), min(most, len(trained)), placement)
        for each in (rows, _shorter(rows)):
            if form.kernels == "chunked":
                each = each._replace(passes=_passes(each, study.resources, placement))
            step = step_memory(sizes, method.places(sizes.blocks), method.count(), each, form).peak
            found.append(Need(known.parameters * form.bytes, round(step * _heap(each, form)), rows))
    return max(found, key=lambda need: need.step, default=None)


def _shorter(rows: Rows) -> Rows:
    """The same number of rows so short that passes side by side are small: these may take more memory."""
    tokens = min(rows.tokens, 2 * LEAST - 1)
    longest, labels = (ceil(n * tokens / rows.tokens) for n in (rows.longest, rows.labels))
    return rows._replace(tokens=tokens, longest=longest, labels=labels)


def _heap(rows: Rows, form: Form) -> float:
    """The factor for holes in the heap; GPUs have none to speak of."""
    if form.kernels == "ragged":
        return 1
    many = rows.passes > 1 and rows.tokens >= LEAST * rows.passes
    return HEAP_BESIDE if many else HEAP


def _passes(rows: Rows, resources: ResourcesSpec, placement: PlacementSpec) -> int:
    """Number of passes that rows of equal lengths, or requests of several trials, are divided into."""
    threads = placement.cpus if has_shared_hosts(placement) else trial_threads(resources, placement)
    count = rows.prompts if rows.prompts > 1 else rows.number
    return len(lanes(torch.full((count,), rows.tokens // count), threads))


def largest_rows(task: Task, fingerprint: str, batch: int) -> Rows:
    """A batch of the longest examples: those in the cache, or the longest that the task allows."""
    if (prepared := prepared_here(task, fingerprint)) is not None:
        lengths = sorted(prepared.train.lengths)[-batch:]
        labels = ceil(len(lengths) * prepared.train.labels / len(prepared.train))
        return Rows(len(lengths), sum(lengths), lengths[-1], labels)
    count, longest = min(batch, task.train_examples), task.longest() or task.positions()
    labels = min(longest, task.max_new_tokens + 1) if task.generates else longest
    return Rows(count, count * longest, longest, count * labels)


def _shared(rows: Rows, vectors: int, trials: int, placement: PlacementSpec) -> Rows:
    """The rows of as many trials as go into a pass of a replica, or as many rows of one."""
    together, most = ceil(trials / placement.replicas), placement.tokens
    if most is not None and rows.tokens + vectors > most:
        count = max(1, min(rows.number, (most - vectors) // rows.longest))
        return Rows(count, count * rows.longest, rows.longest, ceil(count * rows.labels / rows.number))
    if most is not None:
        together = min(together, most // (rows.tokens + vectors))
    return Rows(
        together * rows.number, together * rows.tokens, rows.longest, together * rows.labels, prompts=together
    )


def _sizes(model: KnownModel) -> Sizes | None:
    shape, widths = model.shape, model.widths
    if shape is None or widths is None or shape.stack == "encoder":
        return None
    if shape.hidden is None or shape.keys is None or shape.vocabulary is None:
        return None
    return Sizes(shape.blocks, shape.hidden, widths.queries, shape.keys, widths.inner, shape.vocabulary)


def _form(model: ModelSpec, placement: PlacementSpec) -> Form | None:
    """How steps are computed; None where the count has not been compared with what they take."""
    if placement.ranks > 1 or model.frozen_cache is not None:
        return None
    if model.device == "cpu" and model.dtype == "float32":
        return Form(FLOAT32, "padded" if model.kernels == "padded" else "chunked")
    if model.device != "cpu" and (model.dtype, model.kernels) == ("bfloat16", "auto"):
        return Form(BYTES[model.dtype], "ragged")
    return None


def _gpu_here(gpus: float) -> int | None:
    """Bytes of memory of this machine's smallest GPU, or of a share of it; None if trials run elsewhere."""
    if elsewhere() or not torch.cuda.is_available():
        return None
    least = min(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))
    return int(least * min(1.0, gpus))


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 10**8 else f"{count / 1e6:,.0f} MB"
