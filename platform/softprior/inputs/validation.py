"""Turns plain data into specs, or into one sentence that says what is wrong with it."""

from __future__ import annotations

import difflib
import json
import re
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from softprior.errors import UserError, hidden, suggestion
from softprior.inputs.base import Spec, SpecT

NUMBER = re.compile(r"[-+]?(?!0\d)(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$")
"""A number as YAML 1.2 writes it; YAML 1.1 reads 1e-3 as text."""


Key = str | int
"""A key of a mapping or an index of a list, on the way to a value."""


class WrittenNumber(float):
    """A number that remembers how it was written, such as `1e3`: errors show that, and where.

    Attributes:
        text: as it was written.
        line: of the file; 0 if it was not in one.
    """

    text: str
    line: int

    @classmethod
    def of(cls, text: str, line: int) -> float:
        """The number in a text; a plain one if Python would write the same."""
        value = cls(text.replace(".inf", "inf").replace(".nan", "nan"))
        if repr(float(value)) == text:
            return float(value)
        value.text, value.line = text, line
        return value


class InnerError(ValueError):
    """A component inside a spec is wrong: raised in a validator, reported with the whole path by `validate`.

    Attributes:
        key: what comes between the spec's own key and the component's parameters: its name.
        kind, data, errors: as they failed.
    """

    def __init__(self, key: str, kind: type[Spec], data: object, errors: list[ErrorDetails]) -> None:
        super().__init__(key)
        self.key = key
        self.kind = kind
        self.data = data
        self.errors = errors


def validate(kind: type[SpecT], data: object, where: str, at: str = "") -> SpecT:
    """`data` as a spec of the given kind, strictly typed.

    Args:
        where: what comes before the sentence, usually the file.
        at: the keys that lead to `data` in the file, as `priors[0].isotropic`; paths start with them.

    Raises:
        UserError: the first thing wrong, in one sentence.
    """
    try:
        return _parsed(kind, data)
    except ValidationError as error:
        sentence = _sentence(kind, _plain(data), _errors(error), [at] if at else []).replace("\n", " ")
        raise UserError(f"{where}: {sentence}") from None
    except TypeError as error:
        raise UserError(f"{where}: {error}; write such values as strings") from None
    except ValueError:
        raise UserError(f"{where}: an alias (*) is inside its own anchor (&); write it out") from None


def validate_inner(kind: type[SpecT], data: object, key: str) -> SpecT:
    """The same for a component inside a spec, while that is validated.

    Raises:
        InnerError: something is wrong with it.
    """
    try:
        return _parsed(kind, data)
    except ValidationError as error:
        raise InnerError(key, kind, _plain(data), _errors(error)) from None


def _parsed(kind: type[SpecT], data: object) -> SpecT:
    # JSON mode is strict about types but reads lists as tuples and 1 as 1.0, as YAML means them.
    return kind.model_validate_json(json.dumps(data), strict=True)


def _plain(data: object) -> object:
    """Data with the keys that they have in JSON and in pydantic's errors: all are strings."""
    if isinstance(data, dict):
        return {k if isinstance(k, str) else json.dumps(k): _plain(inner) for k, inner in data.items()}
    return [_plain(inner) for inner in data] if isinstance(data, list | tuple) else data


def _errors(error: ValidationError) -> list[ErrorDetails]:
    return list(error.errors(include_url=False))


_RULES = {
    "missing": "is required and has no default; add it",
    "int_type": "must be a whole number, written without a point or exponent",
    "int_parsing": "must be a whole number, such as 0",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be a text; put it in quotes",
    "dict_type": "must be a mapping of keys to values",
    "too_short": "must have {min_length} or more entries; add entries",
    "too_long": "must have at most {max_length} entries; remove some",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}
"""The wording of pydantic's errors, by their type."""


def _sentence(kind: type[Spec], data: object, errors: list[ErrorDetails], at: list[Key]) -> str:
    """The first of the errors, `at` being the keys that lead to `data`."""
    # A misspelt key is also a missing one; the misspelling says more.
    error = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    keys, found = _trace(kind, error["loc"])
    inner = error.get("ctx", {}).get("error")
    if isinstance(inner, InnerError):
        return _sentence(inner.kind, inner.data, inner.errors, [*at, *keys, inner.key])
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        front = path_of([*at, *keys])
        hint = suggestion(key, _keys(found), within=f"{front}." if front else "")
        word, colon, rest = key.partition(":")
        if colon and word in _keys(found):
            hint = f"a space has to follow the colon: {word}: {rest or '...'}"
        above = difflib.get_close_matches(key, kind.model_fields, n=1, cutoff=0.8) if keys and not at else []
        if above and not hint.startswith("did"):
            hint = f"did you mean '{above[0]}', which is not within {path_of(keys)}? {hint}"
        return f"unknown key '{path_of([*at, *keys, key])}'; {hint}"
    if error["type"] == "missing":
        if isinstance(keys[-1], int):
            missing = [_trace(kind, e["loc"])[0] for e in errors if e["type"] == "missing"]
            needed = 1 + max(last for *above, last in missing if above == keys[:-1] and isinstance(last, int))
            front = path_of([*at, *keys[:-1]])
            return f"{front} = {shown(error['input'])}: must have {needed} entries; add entries"
        return f"the key '{path_of([*at, *keys])}' {_RULES['missing']}"
    # A field with several types fails once for each of them.
    rules = [_rule(e, found) for e in errors if _trace(kind, e["loc"])[0] == keys]
    rule = " or ".join([rules[0], *(r.removeprefix("must be ") for r in rules[1:])])
    if error["loc"][-1:] == ("[key]",):
        return f"{path_of([*at, *keys[:-1]])}: the key {shown(keys[-1])} {rule}"
    keys, given = _written(data, keys, error["input"])
    path = path_of([*at, *keys])
    if error["type"] == "literal_error" and isinstance(given, str) and len(rules) == 1:
        choices = [c.strip("'") for c in error["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"{path} = {shown(given)} is not a choice; {suggestion(given, choices)}"
    if isinstance(given, str) and "number" in rule and NUMBER.match(given):
        rule += "; write it without quotes"
    if keys and error["type"] == "string_type":
        rule += f" (on the command line: '{path}=\"{_as_text(given)}\"')"
    if isinstance(given, WrittenNumber) and not given and re.match(r"[-+]?[0.]*[1-9]", given.text):
        rule = "is so small that it is rounded to 0; write a larger number"
    # Of a mapping that would be cut, the rule names the keys that matter.
    if keys and not (
        isinstance(given, dict) and error["type"] == "value_error" and len(repr(given)) >= _WIDEST
    ):
        return f"{path} = {shown(given)}: {rule}"
    return f"{path}: {rule}" if path else rule


def _written(data: object, keys: list[Key], given: object) -> tuple[list[Key], object]:
    """The keys as far as they were written, and the value there: a rate of 0 has no key `value`."""
    node: Any = data
    for i, key in enumerate(keys):
        held = key in node if isinstance(node, dict) else isinstance(node, list)
        if not held:
            return keys[:i], node
        node = node[key]
    return keys, node if isinstance(node, WrittenNumber) else given


def _rule(error: ErrorDetails, found: object) -> str:
    if error["type"] == "tuple_type":
        example = _as_list(error["input"], found)
        return f"must be a list{f', such as {example}' if example else '; write its entries in brackets'}"
    if error["type"] == "model_type":
        return f"must be a mapping with keys among {', '.join(_keys(found))}"
    if error["type"] in _RULES:
        bounds = {k: f"{v:g}" if isinstance(v, float) else v for k, v in error.get("ctx", {}).items()}
        return _RULES[error["type"]].format(**bounds)
    return str(error["msg"]).removeprefix("Value error, ")


def _as_list(value: object, found: Any) -> str:
    """A value as it would be in a list; a text with commas is one without its brackets.

    Args:
        found: the type of the list.

    Returns:
        An example of such a list; empty if there is none.
    """
    parts = value.split(",") if type(value) is str else [value]
    try:
        entries = [_as_number(part.strip()) if isinstance(part, str) else part for part in parts]
        TypeAdapter(found).validate_json(json.dumps(entries), strict=True)
    except ValueError:  # pydantic's ValidationError among them
        return "[0, 1]" if int in _alternatives(next(iter(get_args(found)), None)) else ""
    return f"[{', '.join(map(str, entries))}]" if len(entries) > 1 else f"[{shown(value)}]"


def _as_number(text: str) -> object:
    """The number that a text is; the text itself if it is none."""
    if not NUMBER.match(text):
        return text
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text.replace(".inf", "inf"))


def _as_text(value: object) -> str:
    """What was written in place of a text: `{question}` without quotes is a mapping in YAML."""
    if isinstance(value, dict) and list(value.values()) == [None]:
        return f"{{{next(iter(value))}}}"
    return "..."


def path_of(keys: list[Key]) -> str:
    """Keys as errors show them and overrides accept them: `priors[0].isotropic.scale`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


_WIDEST = 80
"""Characters from which a value is cut."""


def shown(value: object) -> str:
    """A value in a sentence, as it was written."""
    if isinstance(value, WrittenNumber):
        return f"{value.text} (line {value.line})" if value.line else value.text
    # Hidden before it is cut: half an address no longer looks like one.
    text = hidden(json.dumps(value) if value is None or isinstance(value, bool) else repr(value))
    return text if len(text) < _WIDEST else f"{text[: _WIDEST - 3]}..."


def _trace(kind: type[Spec], loc: tuple[Key, ...]) -> tuple[list[Key], object]:
    """The keys of an error's location, and the type at their end.

    Pydantic also puts the alternatives of unions and names of validators into a location; these, and
    keys that do not exist, are left out.
    """
    keys: list[Key] = []
    found: object = kind
    for part in loc:
        inner = next((i for i in (_inside(o, part) for o in _alternatives(found)) if i is not None), None)
        if inner is not None:
            keys.append(part)
            found = inner
    return keys, found


def _inside(annotation: object, part: Key) -> object:
    """The type of a key or entry of a type; None if it has none."""
    arguments = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        field = annotation.model_fields.get(str(part))
        return None if field is None else field.annotation
    if get_origin(annotation) is tuple and isinstance(part, int):
        return arguments[0] if arguments[-1] is Ellipsis else arguments[min(part, len(arguments) - 1)]
    return arguments[1] if get_origin(annotation) is dict and part != "[key]" else None


def _alternatives(annotation: object) -> list[object]:
    """A type, or those of a union."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [one for argument in get_args(annotation) for one in _alternatives(argument)]
    return [annotation]


def _keys(annotation: object) -> list[str]:
    """The keys of the first spec among the alternatives."""
    specs = [a for a in _alternatives(annotation) if isinstance(a, type) and issubclass(a, Spec)]
    return list(specs[0].model_fields) if specs else []
