"""What a user writes: a study file, strict and frozen, and the trial specs that come out of it.

A spec rejects unknown keys and wrong types, and says so in one sentence with the file, the key, the
value and the nearest valid choice. Nothing here knows which priors, methods or tasks exist: an
`Entry` is a name with parameters, and the table it belongs to turns it into a component.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer, model_validator

from softprior.errors import UserError, nearest


class Spec(BaseModel):
    """A frozen value with checked fields; the base of everything that stands in a study file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def canonical(self) -> str:
        """The JSON text that identifies the value: keys sorted, every default written out."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def identity(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 of `canonical()`."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
SpecT = TypeVar("SpecT", bound=Spec)


class Entry(Spec):
    """A component by name, with parameters: `isotropic` or `{isotropic: {scale: 0.02}}` in YAML."""

    name: str
    params: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and len(value) == 1 and "name" not in value:
            name, params = next(iter(value.items()))
            return {"name": name, "params": {} if params is None else params}
        return value

    @property
    def label(self) -> str:
        """For tables: the name, and the parameters that were written."""
        written = ", ".join(f"{k}={v}" for k, v in self.params.items())
        return f"{self.name}({written})" if written else self.name


class Rate(Spec):
    """A learning rate, absolute or relative.

    A relative rate is multiplied, at each place, by the root mean square of the initial sample
    there: places with large activations then move as far, in their own units, as the others.
    """

    value: Annotated[float, Field(gt=0)]
    relative: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"value": float(value)}
        if isinstance(value, dict) and set(value) == {"relative"} and not isinstance(value["relative"], bool):
            return {"value": value["relative"], "relative": True}
        return value

    @model_serializer
    def _to_json(self) -> dict[str, Any]:
        return {"value": self.value, "relative": self.relative}

    @property
    def label(self) -> str:
        return f"{self.value:g}{' relative' if self.relative else ''}"


class ModelSpec(Spec):
    """The frozen model: an id of the catalogue, a local folder or a hub id.

    Attributes:
        id: `smollm2-135m-instruct-q4_1`, `tiny`, a path (it has a slash or starts with a dot), or
            `hub:owner/name`.
        revision: commit, tag or branch of a hub model.
        dtype: of the weights and activations; prompts and their optimizer are float32 throughout.
        device: `cpu`, `cuda`, or `auto` (`cuda` where there is one). Not part of a trial's identity.
    """

    id: str
    revision: str = "main"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        return {"id": value} if isinstance(value, str) else value


class Steps(Spec):
    """How long a trial trains and on how many examples at a time."""

    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]


class TrainingSpec(Spec):
    """The optimizer and its budget. AdamW on float32 master prompts, decoupled weight decay.

    Attributes:
        steps: optimizer steps.
        batch: examples of one forward and backward pass.
        accumulate: passes per optimizer step; the mean is over all label tokens of the step.
        schedule: factor on the rate after warm-up: `constant`, `linear` or `cosine` down to zero.
        warmup: steps over which the factor rises linearly to 1.
        clip: largest L2 norm of the whole gradient; null switches clipping off.
        weight_decay: 0 by default, because decay is a hidden prior centred on zero.
        snapshots: posteriors are kept at about this many log-spaced steps, besides first and last.
        curve: validation loss is measured this many times, evenly spaced (the end included).
        checkpoint: a resumable checkpoint is written every so many steps.
        by_task: steps and batch of single tasks, by task name.
    """

    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    accumulate: Annotated[int, Field(ge=1)] = 1
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Annotated[int, Field(ge=0)] = 0
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    snapshots: Annotated[int, Field(ge=0)] = 4
    curve: Annotated[int, Field(ge=1)] = 1
    checkpoint: Annotated[int, Field(ge=1)] = 5
    by_task: dict[str, Steps] = {}

    def for_task(self, task: str) -> TrainingSpec:
        """The same with the task's own steps and batch, and nothing left of other tasks."""
        own = self.by_task.get(task)
        update: dict[str, Any] = {"by_task": {}}
        if own is not None:
            update |= {"steps": own.steps, "batch": own.batch}
        return self.model_copy(update=update)


class EvaluationSpec(Spec):
    """How much is evaluated. Validation examples draw curves; test examples are read once, at the end.

    Attributes:
        examples: examples for loss and teacher-forced accuracy.
        generate: examples answered by greedy generation; 0 switches generation off.
        batch: most examples of one forward pass.
        context_shuffle: also measure the loss with contexts swapped between examples.
    """

    examples: Annotated[int, Field(ge=1)] = 256
    generate: Annotated[int, Field(ge=0)] = 128
    batch: Annotated[int, Field(ge=1)] = 16
    context_shuffle: bool = True


class ResourcesSpec(Spec):
    """What one trial occupies. Not part of a trial's identity.

    Attributes:
        cpus: CPUs, and so torch threads, of one trial.
        gpus: GPUs of one trial; a fraction lets trials share one.
        concurrent: most trials at a time; null leaves it to the resources.
    """

    cpus: Annotated[int, Field(ge=1)] = 2
    gpus: Annotated[float, Field(ge=0)] = 0.0
    concurrent: Annotated[int, Field(ge=1)] | None = None


class TrackingSpec(Spec):
    """Where MLflow records go.

    Attributes:
        uri: an MLflow server (`http://...`) or database (`sqlite:////absolute/path.db`); null is
            `mlflow.db` beside the study's results folder.
        enabled: false writes the results folder only.
    """

    uri: str | None = None
    enabled: bool = True

    @model_validator(mode="after")
    def _absolute(self) -> TrackingSpec:
        uri = self.uri
        if uri is None or uri.startswith(("http://", "https://", "sqlite:////", "postgresql", "mysql")):
            return self
        raise ValueError(
            "must be an MLflow server (http://HOST:PORT) or a database (sqlite:////absolute/path.db)"
        )


class StudySpec(Spec):
    """One study: the grid priors x methods x tasks x rates x seeds on one frozen model."""

    name: Name
    description: str = ""
    model: ModelSpec
    priors: Annotated[tuple[Entry, ...], Field(min_length=1)]
    methods: Annotated[tuple[Entry, ...], Field(min_length=1)]
    tasks: Annotated[tuple[Entry, ...], Field(min_length=1)]
    rates: Annotated[tuple[Rate, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    training: TrainingSpec
    evaluation: EvaluationSpec = EvaluationSpec()
    resources: ResourcesSpec = ResourcesSpec()
    tracking: TrackingSpec = TrackingSpec()


class TrialSpec(Spec):
    """What decides a trial's result, and so its id. Where it runs is not in here.

    Attributes:
        model_fingerprint: identifies the weights themselves, not only their name.
        data_fingerprint: identifies the task's source data.
        prior: null for methods without a trained prompt, and then `rate` and `seed` are null too.
    """

    model: str
    model_fingerprint: str
    dtype: Literal["float32", "bfloat16", "float16"]
    method: Entry
    prior: Entry | None
    task: Entry
    data_fingerprint: str
    rate: Rate | None
    seed: int | None
    training: TrainingSpec | None
    evaluation: EvaluationSpec

    @property
    def id(self) -> str:
        return self.identity()

    @property
    def label(self) -> str:
        """For people: task, method, prior, rate and seed."""
        parts = [self.task.name, self.method.name]
        if self.prior is not None and self.rate is not None:
            parts += [self.prior.name, self.rate.label, f"seed {self.seed}"]
        return " · ".join(parts)


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads `1e-3` as a number (YAML 1.2 does, 1.1 does not) and refuses a key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if key in seen:
                raise UserError(f"line {key_node.start_mark.line + 1}: the key '{key}' stands there twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(  # type: ignore[no-untyped-call]
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def parse_value(text: str) -> Any:
    """A value as it would read in a study file (for overrides on the command line)."""
    return yaml.load(text, _Loader)  # noqa: S506  a subclass of SafeLoader


def load_study(path: Path, overrides: tuple[str, ...] = ()) -> StudySpec:
    """Reads a study file and applies `key.path=value` overrides.

    Raises:
        UserError: the file is missing or is not YAML, a key is unknown, a value is out of its
            range; the sentence names file, key, value and the nearest valid choice.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  a subclass of SafeLoader
    except FileNotFoundError:
        beside = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = nearest(path.name, beside) if beside else "no study files stand there"
        raise UserError(f"there is no study file {path}; {hint}") from None
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a study file: {error}") from None
    except UserError as error:
        raise UserError(f"{path}, {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise UserError(f"{path}{where}: not valid YAML: {problem}") from None
    if not isinstance(data, dict):
        raise UserError(
            f"{path}: a study file is a mapping with the keys {', '.join(StudySpec.model_fields)}"
        )
    for override in overrides:
        _apply(data, override)
    return validate(StudySpec, data, str(path))


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UserError(f"the override '{override}' must have the form key.path=value, as training.steps=5")
    *parents, last = key.split(".")
    node: Any = data
    for parent in parents:
        if isinstance(node, list) and parent.isdigit() and int(parent) < len(node):
            node = node[int(parent)]
        elif isinstance(node, dict):
            node = node.setdefault(parent, {})
        else:
            raise UserError(f"the override '{override}' goes through '{parent}', which is not a mapping")
    try:
        value = parse_value(text)
    except yaml.YAMLError:
        raise UserError(f"the override '{override}' has a value that is not valid YAML") from None
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise UserError(f"the override '{override}' sets '{last}' in something that is not a mapping")


def validate(kind: type[SpecT], data: Any, where: str) -> SpecT:
    """`data` as a spec of the given kind, strictly typed.

    Args:
        where: what stands before the key in the error, usually the file.

    Raises:
        UserError: the first thing wrong, in one sentence.
    """
    try:
        # JSON mode is strict about types but reads lists as tuples and 1 as 1.0, as YAML means them.
        return kind.model_validate_json(json.dumps(data), strict=True)
    except TypeError as error:
        raise UserError(f"{where}: {error}; write such values as strings") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"{where}: {_sentence(kind, first)}") from None


def _sentence(kind: type[Spec], error: Any) -> str:
    loc = [part for part in error["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    given = error["input"]
    shown = repr(given) if len(repr(given)) < 80 else repr(given)[:77] + "..."
    if error["type"] == "extra_forbidden":
        return f"unknown key '{key}'; {nearest(str(loc[-1]), _fields(kind, loc[:-1]))}"
    if error["type"] == "missing":
        return f"the key '{key}' is required and has no default"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if error["type"] == "literal_error" and isinstance(given, str):
        choices = [c.strip("'") for c in error["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"{key} = {shown} is not a choice; {nearest(given, choices)}"
    return f"{key} = {shown}: {message}" if key else message


def _fields(kind: type[Spec], loc: list[Any]) -> list[str]:
    """The keys allowed at `loc`, found by following the annotations; the top level's if that fails."""
    fields: Any = kind
    for part in loc:
        if isinstance(part, int) or not hasattr(fields, "model_fields") or part not in fields.model_fields:
            continue
        fields = _spec_in(fields.model_fields[part].annotation) or fields
    return list(fields.model_fields)


def _spec_in(annotation: Any) -> type[Spec] | None:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return annotation
    found = (_spec_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((spec for spec in found if spec is not None), None)
