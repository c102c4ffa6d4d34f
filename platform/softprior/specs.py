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
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from softprior.errors import UserError, nearest


class Spec(BaseModel):
    """A frozen value with checked fields; the base of everything that stands in a study file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        ser_json_inf_nan="constants",  # not null, which would give NaN and null the same identity
    )

    def canonical(self) -> str:
        """The JSON text that identifies the value: keys sorted, every default written out.

        Raises:
            ValueError: a parameter is not finite, so it has no form in JSON.
        """
        values = self.model_dump(mode="json")
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def identity(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 of `canonical()`."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", name):
        raise ValueError(
            "must be 1 to 64 lower-case letters, digits, '_', '-' or '.', the first a letter or digit; "
            "it becomes a folder's name"
        )
    return name


Name = Annotated[str, AfterValidator(_checked_name)]
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
        if isinstance(value, cls) or (isinstance(value, dict) and "name" in value):
            return value
        if isinstance(value, dict) and len(value) == 1:
            name, params = next(iter(value.items()))
            if params is None or isinstance(params, dict):
                return {"name": name, "params": params or {}}
        raise ValueError("must be a name, or one name with its parameters, as {NAME: {PARAMETER: VALUE}}")

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
        if isinstance(value, cls) or (isinstance(value, dict) and set(value) != {"relative"}):
            return value
        number = value["relative"] if isinstance(value, dict) else value
        if not isinstance(number, int | float) or isinstance(number, bool):
            raise ValueError("must be a number, such as 1e-3, or {relative: NUMBER}")
        return {"value": number, "relative": isinstance(value, dict)}

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
        if isinstance(value, str):
            return {"id": value}
        if isinstance(value, cls | dict):
            return value
        raise ValueError("must be an id or a path, such as tiny, or a mapping with the key id")


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

    @field_validator("uri")
    @classmethod
    def _absolute(cls, uri: str | None) -> str | None:
        if uri is None or uri.startswith(("http://", "https://", "sqlite:////", "postgresql", "mysql")):
            return uri
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
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)]
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


_NUMBER = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which numbers are those of YAML 1.2 and a key stands once.

    In YAML 1.1, which PyYAML reads, `1e-3` is a text, `010` is 8, `1:30` is 90 and `2024-01-01` a date.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            where = f"line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{where}: a key must be a word, not a list or a mapping")
            if key.value in seen:
                raise UserError(f"{where}: the key {key.value!r} stands there twice; remove one")
            seen.add(key.value)
        return node


_OWN_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag not in _OWN_NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in (("int", re.compile(r"[-+]?(0|[1-9][\d_]*)$")), ("float", _NUMBER)):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list("-+0123456789."))


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
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"{path} cannot be read as a study file: {reason}") from None
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
    path, separator, text = override.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise UserError(f"the override '{override}' must have the form key.path=value, as training.steps=5")
    try:
        value = parse_value(text)
    except (yaml.YAMLError, UserError):
        raise UserError(f"the override '{override}' has a value that is not valid YAML") from None
    node: Any = data
    for i, key in enumerate(keys):
        last = i == len(keys) - 1
        if isinstance(node, dict):
            if last:
                node[key] = value
            node = node.setdefault(key, {})
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            if last:
                node[int(key)] = value
            node = node[int(key)]
        else:
            holder = ".".join(keys[:i])
            what = f"a list with the entries 0 to {len(node) - 1}" if isinstance(node, list) else _shown(node)
            raise UserError(f"the override '{override}' has no place: {holder} is {what}; set {holder} whole")


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
    except ValidationError as error:
        sentence = _sentence(kind, error.errors(include_url=False)).replace("\n", " ")
        raise UserError(f"{where}: {sentence}") from None
    except TypeError as error:
        raise UserError(f"{where}: {error}; write such values as strings") from None
    except ValueError:
        raise UserError(f"{where}: an alias (*) stands inside of its own anchor (&); write it out") from None


_RULES = {
    "missing": "is required and has no default; add it",
    "int_type": "must be a whole number, written without a point",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be a text; put it in quotes",
    "dict_type": "must be a mapping of keys to values",
    "too_short": "must have at least {min_length} entry; add one",
    "too_long": "must have at most {max_length} entries; take some away",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}
"""What pydantic's errors say here, by their type."""


def _sentence(kind: type[Spec], errors: list[Any]) -> str:
    # A misspelt key is also a missing one; the misspelling says more.
    error = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    keys, found = _trace(kind, error["loc"])
    given = error["input"]
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        return f"unknown key '{_path([*keys, key])}'; {nearest(key, _keys(found))}"
    if error["type"] == "missing":
        if isinstance(keys[-1], int):
            return f"{_path(keys[:-1])} = {_shown(given)}: must have more entries than {len(given)}"
        return f"the key '{_path(keys)}' {_RULES['missing']}"
    # A field with several types fails once for each of them.
    rules = [_rule(e, found) for e in errors if _trace(kind, e["loc"])[0] == keys]
    rule = " or ".join([rules[0], *(r.removeprefix("must be ") for r in rules[1:])])
    if error["type"] == "literal_error" and isinstance(given, str) and len(rules) == 1:
        choices = [c.strip("'") for c in error["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"{_path(keys)} = {_shown(given)} is not a choice; {nearest(given, choices)}"
    if isinstance(given, str) and "number" in rule and _NUMBER.match(given):
        rule += "; write it without quotes"
    return f"{_path(keys)} = {_shown(given)}: {rule}" if keys else rule


def _rule(error: Any, found: Any) -> str:
    if error["type"] == "tuple_type":
        return f"must be a list, such as [{_shown(error['input'])}]"
    if error["type"] == "model_type":
        return f"must be a mapping with keys among {', '.join(_keys(found))}"
    if error["type"] in _RULES:
        bounds = {k: f"{v:g}" if isinstance(v, float) else v for k, v in error.get("ctx", {}).items()}
        return _RULES[error["type"]].format(**bounds)
    return str(error["msg"]).removeprefix("Value error, ")


def _path(keys: list[Any]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


def _shown(value: Any) -> str:
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) < 80 else text[:77] + "..."


def _trace(kind: type[Spec], loc: tuple[Any, ...]) -> tuple[list[Any], Any]:
    """The keys of an error's location, and the type at their end.

    Pydantic also puts the alternatives of unions and names of validators into a location; these, and
    keys that do not exist, are left out.
    """
    keys, found = [], kind
    for part in loc:
        inner = next((i for i in (_inside(o, part) for o in _alternatives(found)) if i is not None), None)
        if inner is not None:
            keys.append(part)
            found = inner
    return keys, found


def _inside(annotation: Any, part: Any) -> Any:
    """The type of a key or entry of a type; None where it has no such one."""
    arguments = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        field = annotation.model_fields.get(part)
        return None if field is None else field.annotation
    if get_origin(annotation) is tuple and isinstance(part, int):
        return arguments[0] if arguments[-1] is Ellipsis else arguments[min(part, len(arguments) - 1)]
    return arguments[1] if get_origin(annotation) is dict and part != "[key]" else None


def _alternatives(annotation: Any) -> list[Any]:
    """A type, or those of a union."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [one for argument in get_args(annotation) for one in _alternatives(argument)]
    return [annotation]


def _keys(annotation: Any) -> list[str]:
    """The keys of the first spec among the alternatives."""
    specs = [a for a in _alternatives(annotation) if isinstance(a, type) and issubclass(a, Spec)]
    return list(specs[0].model_fields) if specs else []
