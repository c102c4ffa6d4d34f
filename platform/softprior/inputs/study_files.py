"""Reads study files and those of other jobs: strict YAML, and overrides from the command line."""

from __future__ import annotations

import json
import os
import re
import shlex
import unicodedata
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.reader import ReaderError

from softprior.errors import LONGEST, UserError, shortened, suggestion
from softprior.inputs.base import Spec, SpecT
from softprior.inputs.paths import home_path
from softprior.inputs.specs import StudySpec
from softprior.inputs.validation import NUMBER, Key, WrittenNumber, path_of, shown, validate

INVISIBLE = {"Cc", "Cf", "Zl", "Zp", "Zs"}
"""Unicode categories of characters that are invisible, or look like a space."""

LARGEST = 2**24
"""Most bytes of a study file."""

MOST, DEEPEST = 100_000, 100
"""Most values of a file, counted again wherever an alias repeats them, and the deepest nesting: ten lines of
aliases of aliases stand for billions of values."""

_DATA = (".jsonl", ".csv", ".tsv", ".parquet", ".gz")
"""Endings that only data have. A study may be a .json file, as JSON is YAML, and a .txt file."""

_NAMED = "data are named in a study file, as the data of a task (see docs/own-data.md)"
"""What to do with a file of data."""

_TAGS = (None, "!", *(f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map")))
"""Tags that may be written. The others make bytes, dates, sets and objects of a text."""


class _Loader(yaml.SafeLoader):
    """Safe YAML in which numbers are those of YAML 1.2 and a key occurs once.

    In YAML 1.1, which PyYAML reads, `1e-3` is a text, `010` is 8, `1:30` is 90 and `2024-01-01` a date.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._inside: list[str] = []
        """Anchors of the lists and mappings that are being read."""
        self._values = 0
        """Number of values so far, those that aliases stand for included."""
        self._sizes: dict[str, int] = {}
        """The same of what each anchor names."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.NodeEvent = self.peek_event()  # type: ignore[no-untyped-call]
        if len(self._inside) > DEEPEST:
            raise UserError(f"{_line(event)}: values are nested deeper than {DEEPEST} levels; write fewer")
        if event.anchor in self._inside and isinstance(event, yaml.AliasEvent):
            name = event.anchor
            raise UserError(
                f"{_line(event)}: the alias *{name} is inside its own anchor &{name}; write it out"
            )
        tag = getattr(event, "tag", None)
        if tag not in _TAGS:
            raise UserError(f"{_line(event)}: the tag {tag} is not read; write a plain value without a tag")
        before = self._values
        # An alias of nothing has no size, and is refused below.
        self._values += self._sizes.get(str(event.anchor), 0) if isinstance(event, yaml.AliasEvent) else 1
        if self._values > MOST:
            raise UserError(
                f"{_line(event)}: the file has more than {MOST:,} values, those that aliases (*) stand for "
                "included; write fewer"
            )
        node = super().compose_node(parent, index)
        if event.anchor is not None and not isinstance(event, yaml.AliasEvent):
            self._sizes[event.anchor] = self._values - before
        return node

    def compose_sequence_node(self, anchor: Any) -> yaml.SequenceNode:
        self._inside.append(anchor)
        node: yaml.SequenceNode = super().compose_sequence_node(anchor)
        self._inside.pop()
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        self._inside.append(anchor)
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        self._inside.pop()
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{_line(key)}: a key must be a word, not a list or a mapping")
            name = _whole(key.value, key)
            if name in seen:
                raise UserError(f"{_line(key)}: the key {name!r} appears twice; remove one")
            if unseen := _unseen(name):
                raise UserError(
                    f"{_line(key)}: the key {name!a} contains an invisible character, {unseen}; replace it, "
                    "or indent the key with spaces"
                )
            seen.add(name)
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """The text of a scalar, see `_whole`."""
        return _whole(str(super().construct_scalar(node)), node)

    def construct_padded(self, node: yaml.ScalarNode) -> NoReturn:
        """Rejects a number such as 010.

        Raises:
            UserError: always.
        """
        text = str(node.value)
        raise UserError(f"{_line(node)}: {_padded(text)}, or '{text}' in quotes if it is a text")

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        """A whole number.

        Raises:
            UserError: it has more digits than Python converts.
        """
        try:
            return super().construct_yaml_int(node)
        except ValueError:
            digits = f"{len(node.value):,}"
            raise UserError(f"{_line(node)}: a number has {digits} digits; write a smaller one") from None

    def construct_number(self, node: yaml.ScalarNode) -> float:
        """A float that remembers how it was written."""
        return WrittenNumber.of(str(node.value), node.start_mark.line + 1)


def _unseen(key: str) -> str:
    """The first invisible character of a key, by number and name; empty if there is none."""
    unseen = next((c for c in key if c != " " and unicodedata.category(c) in INVISIBLE), None)
    if unseen is None:
        return ""
    return f"U+{ord(unseen):04X} ({unicodedata.name(unseen, 'a control character').lower()})"


def _padded(text: str) -> str:
    """What is wrong with a number such as 010."""
    plain = re.sub(r"^([-+]?)0+(?=\d)", r"\1", text)
    return f"{text} begins with a zero, which YAML parsers read in different ways; write {plain}"


def _line(at: yaml.Node | yaml.Event) -> str:
    """The line of a node or event, as errors name it."""
    assert at.start_mark is not None
    return f"line {at.start_mark.line + 1}"


_OWNNUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag not in _OWNNUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in (
    ("int", re.compile(r"[-+]?(0|[1-9][\d_]*)$")),
    ("float", NUMBER),
    ("padded", re.compile(r"[-+]?0\d+(\.\d*)?([eE][-+]?\d+)?$")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list("-+0123456789."))
_Loader.add_constructor("tag:yaml.org,2002:padded", _Loader.construct_padded)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


class _Value(_Loader):
    """Reads a value of the command line, which has no lines."""

    def construct_number(self, node: yaml.ScalarNode) -> float:
        return WrittenNumber.of(str(node.value), 0)

    def construct_padded(self, node: yaml.ScalarNode) -> NoReturn:
        """Rejects a number such as 010, without quotes as advice, which a shell would take away.

        Raises:
            UserError: always.
        """
        raise UserError(f"{_line(node)}: {_padded(str(node.value))}")


_Value.add_constructor("tag:yaml.org,2002:padded", _Value.construct_padded)
_Value.add_constructor("tag:yaml.org,2002:float", _Value.construct_number)


def parse_value(text: str) -> object:
    """A value as it would read in a study file (for overrides on the command line)."""
    return yaml.load(text, _Value)  # noqa: S506  a subclass of SafeLoader


def load_grid(path: Path, overrides: tuple[str, ...] = ()) -> StudySpec:
    """Reads the file of a study that is not a search; see `load_spec`."""
    return load_spec(StudySpec, path, overrides)


def load_spec(kind: type[SpecT], path: Path, overrides: tuple[str, ...] = ()) -> SpecT:
    """Reads a YAML file as a spec of the given kind and applies `key.path=value` overrides.

    Raises:
        UserError: the file is missing or is not YAML, a key is unknown, a value is out of its
            range; the sentence names file, key, value and the nearest valid choice.
    """
    return validate(kind, read_data(kind, path, overrides), str(path))


def read_data(kind: type[Spec], path: Path, overrides: tuple[str, ...] = ()) -> dict[str, object]:
    """The same as plain data, before its keys and values are checked.

    Raises:
        UserError: the file is missing or is not a mapping in YAML, or an override has no place in it.
    """
    text, path = "", home_path(path)
    if path.suffix in _DATA and path.is_file():
        raise UserError(f"{path} is a file of data, not a study file; {_NAMED}")
    try:
        text = _text_of(path)
        data = yaml.load(text, _Loader)  # noqa: S506  a subclass of SafeLoader
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError(f"{path} is a link to {path.readlink()}, which does not exist") from None
        raise UserError(f"there is no study file {path}; {_others(path.parent, path.name)}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not a study file; {_others(path, '')}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"{path} cannot be read as a study file: {reason}") from None
    except UserError as error:
        raise UserError(f"{path}, {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}, {_problem(error, text)}") from None
    if data is None and kind is StudySpec:
        raise UserError(f"{path} is empty; start from a copy of jobs/studies/demo.yaml")
    if not isinstance(data, dict):
        keys = ", ".join(kind.model_fields)
        raise UserError(f"the study file {path} must be a mapping with the keys {keys}; {_NAMED}")
    _require_kind(kind, path, data)
    earlier: list[tuple[list[Key], str]] = []
    for override in overrides:
        place = _apply(data, override)
        undone = next((other for before, other in earlier if before[: len(place)] == place), None)
        if undone is not None:
            raise UserError(
                f"the override '{shortened(override)}' undoes '{shortened(undone)}' before it; keep one "
                "of them"
            )
        earlier.append((place, override))
    return data


def neighbours(folder: Path) -> list[str]:
    """The names of a folder's files that may be studies; those of a cluster are none."""
    # Not Path.is_dir, which raises where a folder around it is closed to us.
    found = folder.glob("[!.]*.yaml") if os.path.isdir(folder) else ()
    return sorted(f.name for f in found if not f.name.startswith("cluster") and os.path.isfile(f))


def _others(folder: Path, name: str) -> str:
    """The study files that there are instead of the one of this name."""
    found = neighbours(folder)
    return suggestion(name, found, files=True) if found else "there are no study files in that folder"


def _text_of(path: Path) -> str:
    """The content of a file, which may be a pipe.

    Raises:
        UserError: there is more of it than any study has, or no end.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise UserError(f"it is larger than {LARGEST >> 20} MB, which no study file is; name another")
    return content.decode("utf-8")


COMMANDS = {
    "jobs.study": frozenset({"priors", "methods", "rates", "seeds", "training", "evaluation", "search"}),
    "jobs.activations": frozenset({"files", "sites", "sample", "sequences", "shard_tokens", "batch_tokens"}),
}
"""Top-level keys by which the file of a command is told from those of others."""


def _require_kind(kind: type[Spec], path: Path, data: dict[str, object]) -> None:
    """Refuses a file of another command, which would otherwise have one unknown key after another.

    Raises:
        UserError: all its telling keys are another's.
    """
    own = set(kind.model_fields) & set(data)
    for command, telling in COMMANDS.items():
        if telling & set(data) and not telling & set(kind.model_fields):
            others = [keys for other, keys in COMMANDS.items() if other != command]
            if not any(own & keys for keys in others):
                raise UserError(f"{path} is a file of another command; run: python -m {command} {path}")


def _problem(error: yaml.YAMLError, text: str) -> str:
    """Where a text is not YAML, and why."""
    if isinstance(error, ReaderError):
        line, unseen = text.count("\n", 0, error.position) + 1, f"U+{error.character:04X}"
        return f"line {line}: not valid YAML: it contains the control character {unseen}; remove it"
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if problem == "but found another document":
        problem = "a second document begins here; put it into its own file"
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}not valid YAML: {problem or 'it cannot be parsed'}"


def _apply(data: dict[str, object], override: str) -> list[Key]:
    """Sets a value in the data, and returns the keys that lead to it."""
    path, separator, text = override.partition("=")
    override = shortened(override)
    if separator and (unseen := _unseen(path)):
        raise UserError(
            f"the override {shortened(path)!a} contains an invisible character, {unseen}; write its key anew"
        )
    parts = re.sub(r"\[(-?\d+)\]", r".\1", path).split(".")  # priors[0].isotropic is priors.0.isotropic
    if not separator or not all(parts):
        raise UserError(
            f"the override '{override}' must have the form key.path=value, such as training.steps=5"
        )
    if len(parts) > DEEPEST:
        raise UserError(f"the override of {len(parts):,} keys is deeper than {DEEPEST} levels; write fewer")
    try:
        value = parse_value(text)
    except UserError as error:
        why = str(error).partition(": ")[2]
        advice = "" if text.startswith(("{", "[")) else f"; write a text as {_quoted(path, text)}"
        raise UserError(
            f"the override '{override}' has a value that is not valid YAML: {why}{advice}"
        ) from None
    except yaml.YAMLError as error:
        why = getattr(error, "problem", None) or "it cannot be parsed"
        advice = f"write a text as {_quoted(path, text)}"
        if text.startswith(("{", "[")):
            advice += ", and a list or a mapping in quotes as a whole, such as 'seeds=[0, 1]'"
        raise UserError(
            f"the override '{override}' has a value that is not valid YAML: {why}; {advice}"
        ) from None
    node: Any = data
    keys: list[Key] = []
    for part in parts:
        if keys:
            if keys == ["model"] and isinstance(node.get("model"), str):  # a short form of this
                node["model"] = {"id": node["model"]}
            node = node.setdefault(keys[-1], {}) if isinstance(node, dict) else node[keys[-1]]
        if isinstance(node, dict):
            # A block of `by_place` is a number in YAML and a text on the command line.
            keys.append(next((key for key in node if str(key) == part), part))
        elif isinstance(node, list) and part in map(str, range(len(node))):
            keys.append(int(part))
        else:
            holder = path_of(keys)
            what = f"a list with the entries 0 to {len(node) - 1}" if isinstance(node, list) else shown(node)
            rest = parts[len(keys) :]
            form = f", as {_nested(holder, rest, text)}" if node == rest[0] else ""
            raise UserError(
                f"the override '{override}' has no place: {holder} is {what}; set {holder} as a whole{form}"
            )
    node[keys[-1]] = value
    return keys


def _quoted(path: str, text: str) -> str:
    """An override that sets a text, as a shell takes it: single quotes outside of YAML's double ones."""
    return shlex.quote(f"{path}={json.dumps(text if len(text) < LONGEST else '...', ensure_ascii=False)}")


def _whole(text: str, node: yaml.Node) -> str:
    """The text of a node. An escaped character beyond U+FFFF has two halves, as in JSON.

    Raises:
        UserError: there is only one half.
    """
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise UserError(
            f"{_line(node)}: {text!a} contains half a character; write the character, or both halves"
        ) from None


def _nested(holder: str, keys: list[str], text: str) -> str:
    """An override that gives parameters to a component which is written as its name alone."""
    opening = "".join(f"{{{key}: " for key in keys)
    return shlex.quote(f"{holder}={opening}{text}{'}' * len(keys)}")
