"""Reading study files and those of other jobs: strict YAML, and overrides from the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from softprior.errors import UserError, nearest
from softprior.specs import Spec, SpecT, StudySpec
from softprior.validation import NUMBER, path_of, shown, validate


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


_OWNNUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag not in _OWNNUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in (("int", re.compile(r"[-+]?(0|[1-9][\d_]*)$")), ("float", NUMBER)):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list("-+0123456789."))


def parse_value(text: str) -> Any:
    """A value as it would read in a study file (for overrides on the command line)."""
    return yaml.load(text, _Loader)  # noqa: S506  a subclass of SafeLoader


def load_study(path: Path, overrides: tuple[str, ...] = ()) -> StudySpec:
    """Reads a study file; see `load_spec`."""
    return load_spec(StudySpec, path, overrides)


def load_spec(kind: type[SpecT], path: Path, overrides: tuple[str, ...] = ()) -> SpecT:
    """Reads a YAML file as a spec of the given kind and applies `key.path=value` overrides.

    Raises:
        UserError: the file is missing or is not YAML, a key is unknown, a value is out of its
            range; the sentence names file, key, value and the nearest valid choice.
    """
    return validate(kind, read_data(kind, path, overrides), str(path))


def read_data(kind: type[Spec], path: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """The same as plain data, before its keys and values are looked at.

    Raises:
        UserError: the file is missing or is no mapping in YAML, or an override has no place in it.
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
        raise UserError(f"{path}: a study file is a mapping with the keys {', '.join(kind.model_fields)}")
    for override in overrides:
        _apply(data, override)
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    parts = re.sub(r"\[(\d+)\]", r".\1", path).split(".")  # priors[0].isotropic is priors.0.isotropic
    if not separator or not all(parts):
        raise UserError(f"the override '{override}' must have the form key.path=value, as training.steps=5")
    try:
        value = parse_value(text)
    except (yaml.YAMLError, UserError):
        raise UserError(f"the override '{override}' has a value that is not valid YAML") from None
    node: Any = data
    keys: list[Any] = []
    for part in parts:
        if keys:
            node = node.setdefault(keys[-1], {}) if isinstance(node, dict) else node[keys[-1]]
        if isinstance(node, dict):
            # A block of `by_place` is a number in YAML and a text on the command line.
            keys.append(next((key for key in node if str(key) == part), part))
        elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            keys.append(int(part))
        else:
            holder = path_of(keys)
            what = f"a list with the entries 0 to {len(node) - 1}" if isinstance(node, list) else shown(node)
            raise UserError(f"the override '{override}' has no place: {holder} is {what}; set {holder} whole")
    node[keys[-1]] = value
