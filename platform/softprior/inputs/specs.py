"""What a user writes: a study file, strict and frozen, and the trial specs that come out of it.

A spec rejects unknown keys and wrong types, and says so in one sentence with the file, the key, the
value and the nearest valid choice.
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from softprior.inputs.base import Address, FolderName, Spec, canonical_text
from softprior.inputs.entries import Entry, LabelledEntry, Regularisers


class Rate(Spec):
    """A learning rate, absolute or relative.

    A relative rate is multiplied, at each place, by the root mean square of the initial sample
    there: places with large activations then move as far, in their own units, as the others.
    """

    value: Annotated[float, Field(gt=0)]
    relative: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: object) -> object:
        if isinstance(value, cls) or (isinstance(value, dict) and set(value) != {"relative"}):
            return value
        number = value["relative"] if isinstance(value, dict) else value
        if not isinstance(number, int | float) or isinstance(number, bool):
            raise ValueError("must be a number, such as 1e-3, or {relative: NUMBER}")
        return {"value": number, "relative": isinstance(value, dict)}

    @model_serializer
    def _to_json(self) -> dict[str, object]:
        return {"value": self.value, "relative": self.relative}

    @property
    def label(self) -> str:
        return f"{self.value:g}{' relative' if self.relative else ''}"


class FrozenCache(Spec):
    """How much is kept of what the blocks below a prompt's first one make of each text.

    Attributes:
        memory: GB of memory, in each process that holds the model.
        disk: GB of files in the cache folder, which all processes of the machine share; 0 writes none.
    """

    memory: Annotated[float, Field(ge=0)] = 1.0
    disk: Annotated[float, Field(ge=0)] = 10.0

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: object) -> object:
        return {} if value is True else value

    @model_validator(mode="after")
    def _some(self) -> FrozenCache:
        if self.memory == self.disk == 0:
            raise ValueError("keeps nothing, as memory and disk are both 0; write frozen_cache: null")
        return self


class ModelSpec(Spec):
    """The frozen model: an id of the catalogue, a local folder or a hub id.

    Attributes:
        id: `smollm2-135m-instruct-q4_1`, `tiny`, a path (it has a slash or starts with a dot), or
            `hub:owner/name`.
        revision: commit, tag or branch of a hub model.
        dtype: of the weights and activations; prompts and their optimizer are float32 throughout.
        device: `cpu`, `cuda`, or `auto` (`cuda` where there is one). Not part of a trial's identity.
        kernels: on GPUs, `auto` uses attention without padded rows and fused norms if device and dtype allow
            them, `padded` uses neither, and `compiled` also fuses MLPs and norms with torch.compile. Results
            are equal up to rounding; not part of a trial's identity. On CPUs, `padded` takes more time and
            memory.
        frozen_cache: keeps what the blocks below a prompt's first one compute; `true`, or limits;
            null computes it in every pass. Results are equal up to rounding; not part of a trial's identity.
    """

    id: str
    revision: str = "main"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    kernels: Literal["auto", "padded", "compiled"] = "auto"
    frozen_cache: FrozenCache | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: object) -> object:
        if isinstance(value, str):
            return {"id": value}
        if isinstance(value, cls | dict):
            return value
        raise ValueError("must be an id or a path, such as tiny, or a mapping with the key id")


Count = Annotated[int, Field(ge=1, lt=2**31)]
"""How often something is done: products of two of them still count in 64 bits."""


class Steps(Spec):
    """How long a trial trains and on how many examples at a time."""

    steps: Count
    batch: Count


class TrainingSpec(Spec):
    """The optimizer and its budget. AdamW on float32 master prompts, decoupled weight decay.

    Attributes:
        steps: optimizer steps.
        batch: examples of one forward and backward pass.
        accumulate: passes per optimizer step.
        normalisation: what the sum over a step's label tokens is divided by: the number that a step has on
            average (`expected`), so that all tokens weigh the same, or the step's own number (`step`).
        schedule: factor on the rate after warm-up: `constant`, `linear` or `cosine` down to zero.
        warmup: steps over which the factor rises linearly to 1.
        clip: largest L2 norm of the whole gradient, after normalisation; null switches clipping off.
        weight_decay: of AdamW, decoupled from the gradient; 0 by default, because decay is a hidden prior
            centred on zero.
        snapshots: posteriors are kept at about this many log-spaced steps, besides the first and the last.
        curve: validation loss is measured this many times, evenly spaced (the end included).
        checkpoint: number of steps between two resumable checkpoints.
        keep_checkpoint: keep the last one of a finished trial, from which the same trial with more steps goes
            on. Like `checkpoint`, not part of a trial's identity.
        by_task: steps and batch of single tasks, by task name; the others keep those above.
        betas: decay rates of AdamW's two running means.
        epsilon: what AdamW adds to the denominator.
    """

    steps: Count
    batch: Count
    accumulate: Count = 1
    normalisation: Literal["expected", "step"] = "expected"
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Annotated[int, Field(ge=0)] = 0
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    snapshots: Annotated[int, Field(ge=0, lt=2**31)] = 4
    curve: Count = 1
    checkpoint: Count = 5
    keep_checkpoint: bool = False
    by_task: dict[str, Steps] = {}

    @model_validator(mode="after")
    def _can_go_on(self) -> TrainingSpec:
        if self.keep_checkpoint and self.schedule != "constant":
            raise ValueError(
                f"keep_checkpoint: true is for more steps later, but with schedule: {self.schedule} every "
                "step's rate depends on the number of steps; write schedule: constant, or leave "
                "keep_checkpoint out"
            )
        return self

    @model_serializer(mode="wrap")
    def _to_json(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leaves out what trainings once did not have and do not use, so that their texts stay the same."""
        found: dict[str, object] = handler(self)
        if not self.keep_checkpoint:
            del found["keep_checkpoint"]
        return found

    def for_task(self, *names: str) -> TrainingSpec:
        """The same with a task's own steps and batch, and without those of other tasks.

        Args:
            names: the task's; the first that has some counts.
        """
        own = next((self.by_task[name] for name in names if name in self.by_task), None)
        update: dict[str, object] = {"by_task": {}}
        if own is not None:
            update |= {"steps": own.steps, "batch": own.batch}
        return self.model_copy(update=update)


Probe = Literal["removal", "projection", "nearest", "attention"]
"""A measure of a finished prompt: two change it to see what its vectors do, two look at it as it is.

`results/probed.py` says what each of them leaves.
"""


class EvaluationSpec(Spec):
    """How much is evaluated. Validation examples draw curves; test examples are read once, at the end.

    Attributes:
        examples: examples for loss and teacher-forced accuracy.
        generate: examples answered by greedy generation; 0 switches generation off.
        batch: largest number of examples in one forward pass. Where a CPU's threads have passes of their own,
            answers are generated in two such passes at a time.
        context_shuffle: also measure the loss with contexts swapped between examples.
        also: other tasks, on whose test splits a trial's final prompt is measured too. Not part of a trial's
            identity: a finished trial is measured on them without being trained again.
        probes: measures of a trial's final prompt besides its losses. Not part of its identity either.
        twin: also train the first seed of each setting a second time, from a start moved by rounding's size.
            It is a trial of its own, in whose spec this is false.
        reordered: also train this many first seeds of each setting a second time, from the same start on data
            in another order. These are trials of their own, in whose specs this is 0.
        own_start: every trial computes the losses of the sample that it starts from, which are otherwise
            taken from a trial of the study that has them. Numbers are equal, and it is not part of a trial's
            identity.
    """

    examples: Annotated[int, Field(ge=1)] = 256
    generate: Annotated[int, Field(ge=0)] = 128
    batch: Annotated[int, Field(ge=1)] = 16
    context_shuffle: bool = True
    also: tuple[Entry, ...] = ()
    probes: tuple[Probe, ...] = ()
    twin: bool = False
    reordered: Annotated[int, Field(ge=0)] = 0
    own_start: bool = False

    @model_serializer(mode="wrap")
    def _to_json(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leaves out what evaluations once did not have and do not use, so that their texts stay the same."""
        found: dict[str, object] = handler(self)
        return {key: value for key, value in found.items() if key not in LATER or getattr(self, key)}


LATER = ("also", "probes", "twin", "reordered", "own_start")
"""Fields that evaluations once did not have; what they say is not part of a trial's identity."""


class ResourcesSpec(Spec):
    """What one trial occupies. Not part of a trial's identity.

    Attributes:
        cpus: CPUs, and so torch threads, of one trial.
        gpus: GPUs of one trial; a fraction lets trials share one.
        concurrent: largest number of trials at a time; null leaves it to the resources.
        patience: minutes without a sign of life after which a trial is taken to hang: its process is ended,
            and started again at most twice. Null sets no limit.
    """

    cpus: Annotated[int, Field(ge=1)] = 2
    gpus: Annotated[float, Field(ge=0)] = 0.0
    concurrent: Annotated[int, Field(ge=1)] | None = None
    patience: Annotated[float, Field(gt=0)] | None = None


class PlacementSpec(Spec):
    """Who holds the frozen model of a study. Not part of a trial's identity.

    Attributes:
        hosts: `local`: every trial loads its own; `shared`: replicas hold it for all trials, which become
            light clients, and `resources.cpus` and `resources.gpus` do not count.
        replicas: copies of the model.
        cpus: CPUs, and so torch threads, of one replica.
        gpus: GPUs of one replica; a fraction lets replicas share one.
        ranks: processes that hold one replica's weights between them (DeepSpeed ZeRO-3), for models too large
            for one GPU; 1 holds them whole. They share the replica's CPUs and GPUs.
        tokens: largest number of positions in one pass, prompts included; a larger batch is divided into as
            few passes as possible, of about equal size. Null sets no limit.
    """

    hosts: Literal["local", "shared"] = "local"
    replicas: Annotated[int, Field(ge=1)] = 1
    cpus: Annotated[int, Field(ge=1)] = 2
    gpus: Annotated[float, Field(ge=0)] = 0.0
    ranks: Annotated[int, Field(ge=1)] = 1
    tokens: Annotated[int, Field(ge=1)] | None = 2048

    @model_validator(mode="after")
    def _shared_alone(self) -> PlacementSpec:
        fields = type(self).model_fields
        idle = [n for n in fields if n != "hosts" and getattr(self, n) != fields[n].default]
        if self.hosts == "local" and idle:
            raise ValueError(f"{idle[0]} belongs to shared hosts and has no effect; write hosts: shared")
        if 0 < self.gpus < self.ranks > 1:
            raise ValueError(
                f"has {self.ranks} ranks, each of which needs a GPU of its own, but {self.gpus:g} for a "
                "replica; raise gpus, or write gpus: 0 for ranks on CPUs"
            )
        return self


_DATABASE = re.compile(r"sqlite:////[^/?]|(postgresql|mysql)(\+\w+)?://")


def _is_server(uri: str) -> bool:
    """Whether it is an address with a host and, if there is a colon, a port."""
    try:
        parts = urlsplit(uri)
        port = parts.port  # raises where it is none
    except ValueError:
        return False
    return uri.startswith(("http://", "https://")) and bool(parts.hostname) and port != 0 and " " not in uri


class TrackingSpec(Spec):
    """Where MLflow records go.

    Attributes:
        uri: an MLflow server (`http://...`) or database (`sqlite:////absolute/path.db`, `postgresql://...`,
            `mysql://...`); null is `mlflow.db` beside the study's results folder.
        enabled: false writes the results folder only.
    """

    uri: Annotated[Address | None, Field(repr=False)] = None
    enabled: bool = True

    @field_validator("uri")
    @classmethod
    def _absolute(cls, uri: str | None) -> str | None:
        if uri is None or _DATABASE.match(uri) or _is_server(uri):
            return uri
        raise ValueError(
            "must be an MLflow server (http://HOST:PORT) or a database (sqlite:////absolute/path.db, "
            "postgresql://... or mysql://...)"
        )


Pairing = Literal["noise", "none"]


class CommonSpec(Spec):
    """What all trials of a study have in common, and so takes no ranges in a search.

    A study has one model, and where it runs does not affect its results.

    Attributes:
        name: of the study and of its folder of results.
        description: a text of your own, shown in MLflow and as the report's question.
    """

    name: FolderName
    description: str = ""
    model: ModelSpec
    resources: ResourcesSpec = ResourcesSpec()
    placement: PlacementSpec = PlacementSpec()
    tracking: TrackingSpec = TrackingSpec()


class StudySpec(CommonSpec):
    """One study: the grid priors x methods x tasks x regularisers x rates x seeds on one frozen model.

    Attributes:
        priors: what prompts start from, as names or names with parameters.
        methods: where prompts enter the model.
        tasks: what prompts are trained for.
        regularisers: terms of the loss; an entry can be a list of several.
        rates: learning rates, as numbers or as `{relative: NUMBER}`.
        seeds: one trial for each, and for each combination of the others.
        pairing: `noise`: one seed gives all priors the same random numbers; `none`: each its own.
    """

    priors: Annotated[tuple[LabelledEntry, ...], Field(min_length=1)]
    methods: Annotated[tuple[LabelledEntry, ...], Field(min_length=1)]
    tasks: Annotated[tuple[LabelledEntry, ...], Field(min_length=1)]
    regularisers: Annotated[tuple[Regularisers, ...], Field(min_length=1)] = ((),)
    rates: Annotated[tuple[Rate, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)]
    pairing: Pairing = "noise"
    training: TrainingSpec
    evaluation: EvaluationSpec = EvaluationSpec()


_SPELLED = {"statistics", "file"}
"""Names of the path parameters of priors and regularisers in trials without `paths`."""


Repeat = Literal["twin", "reordered"]
"""How a trial may repeat another: from a start moved by rounding's size, or on the data in another order."""

REPEATS: tuple[Repeat, ...] = get_args(Repeat)
"""The field of `TrialSpec`, the column of trials.parquet and the word in labels for each of them."""


class TrialSpec(Spec):
    """What decides a trial's result, and so its id. Where it runs is not part of it.

    Attributes:
        model_fingerprint: identifies the weights themselves, not only their name.
        data_fingerprint: identifies the task's source data.
        prior: null for methods without a trained prompt, and then `rate` and `seed` are null too.
        prior_fingerprint: identifies what prior and regularisers read from files, and corrections of what
            they compute; null if there are none.
        regularisers: terms added to the training loss.
        paths: keys of the parameters that say where a file is, as `prior.params.statistics`; null in trials
            planned before types said so, in which they are called `data`, `statistics` and `file`.
        code: packages and files beside softprior that its components come from, each with its version.
        corrections: what has changed since for the trial's model, method and task and not for others, so
            that a record from before is not taken for this trial's; empty where all is as it was.
        twin: of a repeated trial, by which share of its norm each initial vector is moved.
        reordered: of a repeated trial, which of the other orders of the data that its seed gives, from 1 on.
    """

    model: str
    model_fingerprint: str
    corrections: tuple[str, ...] = ()
    paths: tuple[str, ...] | None = None
    code: tuple[str, ...] = ()
    dtype: Literal["float32", "bfloat16", "float16"]
    method: Entry
    prior: Entry | None
    prior_fingerprint: str | None = None
    regularisers: tuple[Entry, ...] = ()
    task: Entry
    data_fingerprint: str
    rate: Rate | None
    seed: int | None
    pairing: Pairing = "noise"
    training: TrainingSpec | None
    evaluation: EvaluationSpec
    twin: Annotated[float, Field(gt=0)] | None = None
    reordered: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_repeat(self) -> TrialSpec:
        if self.twin is not None and self.reordered is not None:
            raise ValueError("cannot be both a twin and reordered, as nothing would say what makes it differ")
        return self

    @model_serializer(mode="wrap")
    def _to_json(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leaves out empty fields that trials once did not have, so that their texts stay the same."""
        found: dict[str, object] = handler(self)
        empty: dict[str, object] = {"corrections": (), "code": (), **dict.fromkeys(("paths", *REPEATS))}
        absent = {key for key, value in empty.items() if getattr(self, key) == value}
        return {key: value for key, value in found.items() if key not in absent}

    def without_paths(self) -> dict[str, Any]:
        """The trial as JSON, without paths of data, and of other paths only whether there is one."""
        value = self.model_dump(mode="json")
        value.pop("paths", None)

        def is_path(key: str) -> bool:
            if self.paths is None:
                return key == "task.params.data" or key.rpartition(".")[2] in _SPELLED
            return key in self.paths

        def without(node: object, at: str) -> object:
            if isinstance(node, list):
                return [without(inner, f"{at}.{i}") for i, inner in enumerate(node)]
            if not isinstance(node, dict):
                return node
            keys = {key: f"{at}.{key}" for key in node}
            return {k: v is not None if is_path(keys[k]) else without(v, keys[k]) for k, v in node.items()}

        data = {key for key in self.task.params if is_path(f"task.params.{key}")}
        value["task"]["params"] = {k: v for k, v in value["task"]["params"].items() if k not in data}
        return value | {axis: without(value[axis], axis) for axis in ("prior", "regularisers")}

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 of what decides the result.

        Names and paths are left out, as fingerprints say more, and what all trials had before a choice.
        """
        value = self.without_paths()
        del value["model"]
        for later in LATER:
            value["evaluation"].pop(later, None)
        if self.training is not None:
            del value["training"]["checkpoint"]
            value["training"].pop("keep_checkpoint", None)
            if self.training.normalisation == "step":
                del value["training"]["normalisation"]
        if self.pairing == "noise":
            del value["pairing"]
        return hashlib.sha256(canonical_text(value).encode()).hexdigest()[:16]

    @property
    def repeat(self) -> Repeat | None:
        """How it repeats another trial of its study; None for a trial that counts as a seed."""
        return next((kind for kind in REPEATS if getattr(self, kind) is not None), None)

    @property
    def original(self) -> str | None:
        """The id of the trial that it repeats; None for a trial that repeats none."""
        return None if self.repeat is None else self.model_copy(update=dict.fromkeys(REPEATS)).id
