"""Tables of components in the docs, written from the classes: `python -m tests.docs.tables` renews them.

A table stands between `<!-- table: AXIS -->` and `<!-- end -->`, a list of names within a line between
`<!-- names: AXIS -->` and `<!-- end -->`. Between `<!-- sections: AXIS -->` and `<!-- end -->` stands a
section for every component that the page has no heading for, and between `<!-- fields: study -->` and
`<!-- end -->` a table of all keys of a study file.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from softprior.inputs.base import Spec
from softprior.inputs.components import Table
from softprior.inputs.specs import StudySpec
from softprior.priors.domain import Domain
from softprior.training.own_code import TABLES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
AXES: dict[str, Table] = {table.axis: table for table in TABLES}
BLOCK = re.compile(r"(<!-- (table|names|sections|fields): (\w+) -->)(.*?)(<!-- end -->)", re.DOTALL)

MOST = 3
"""Values of a list that are written out."""


def renewed(page: str) -> str:
    """A page with its tables and lists as the classes have them."""

    headings = set(re.findall(r"^### (\w+)$", BLOCK.sub("", page), re.MULTILINE))

    def block(match: re.Match[str]) -> str:
        begin, form, axis, _, end = match.groups()
        if form == "fields":
            return begin + fields() + end
        if form == "sections":
            return begin + sections(AXES[axis], headings) + end
        return begin + (table(AXES[axis]) if form == "table" else names(AXES[axis])) + end

    return BLOCK.sub(block, page)


def fields() -> str:
    """A row for every key of a study file that is no mapping of others."""
    rows = ["| key | default | what it is |", "|---|---|---|"]
    rows += [f"| `{key}` | {said} | {meaning} |" for key, said, meaning in keys_of(StudySpec)]
    return "\n" + "\n".join(rows) + "\n"


def keys_of(kind: type[Spec], at: str = "") -> Iterator[tuple[str, str, str]]:
    """The keys of a mapping and of those in it, with their defaults and meanings."""
    meanings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        meanings |= attributes(base.__doc__ or "")
    for name, field in kind.model_fields.items():
        inner = [
            one for one in alternatives(field.annotation) if isinstance(one, type) and issubclass(one, Spec)
        ]
        if name in meanings or not inner:
            yield at + name, default(field) or ("null" if field.default is None else "empty"), meanings[name]
        for one in inner:
            yield from keys_of(one, f"{at}{name}.")


def attributes(doc: str) -> dict[str, str]:
    """What a docstring says of each attribute, in one line."""
    _, _, section = inspect.cleandoc(doc).partition("Attributes:\n")
    found: dict[str, str] = {}
    for entry in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", section, re.MULTILINE):
        named, meaning = entry
        for name in named.split(", "):
            found[name] = " ".join(meaning.split()).replace("|", "\\|")
    return found


def names(components: Table) -> str:
    return ", ".join(f"`{name}`" for name in components.kinds)


def table(components: Table) -> str:
    """A row for every component: its name, its own parameters with defaults, and how its docstring begins."""
    rows = ["| name | parameters (defaults) | what it is |", "|---|---|---|"]
    for name, kind in components.kinds.items():
        says = summary(kind).replace("|", "\\|")
        rows.append(f"| `{name}` | {', '.join(parameters(kind, components.base)) or '-'} | {says} |")
    return "\n" + "\n".join(rows) + "\n"


def sections(components: Table, written: set[str]) -> str:
    """A section for every component without one: its name, how its docstring begins, and its parameters."""
    found = [
        "\n\n".join([f"### {name}", wrapped(summary(kind)), *listed(kind, components.base)])
        for name, kind in components.kinds.items()
        if name not in written
    ]
    return "\n\n" + "".join(f"{section}\n\n" for section in found)


def listed(kind: type[Spec], base: type[Spec]) -> list[str]:
    """The line of a section that says a component's parameters, if it has any."""
    own = ", ".join(parameters(kind, base))
    return [wrapped(f"Parameters: {own}.")] if own else []


def wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def summary(kind: type[Spec]) -> str:
    """How a component's docstring begins."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def parameters(kind: type[Spec], base: type[Spec]) -> Iterator[str]:
    """A component's parameters: a domain's by that word, those of the whole axis where they differ."""
    shared = {name: field.default for name, field in base.model_fields.items()}
    if issubclass(kind, Domain):
        yield "domain"
        shared |= {name: field.default for name, field in Domain.model_fields.items()}
    for name, field in kind.model_fields.items():
        if field.exclude or (name in shared and shared[name] == field.default):
            continue
        said = default(field)
        yield f"`{name}` ({said})" if said else f"`{name}`"


def default(field: FieldInfo) -> str:
    """What a parameter is if nothing is written, and what else it can be; nothing where that is null."""
    if field.is_required():
        return "required"
    known = [choice for one in alternatives(field.annotation) for choice in choices(one)]
    others = [choice for choice in known if choice != str(field.default)]
    said = ", or ".join(filter(None, (written(field.default), ", ".join(others))))
    return f"{said}; {field.description}" if field.description else said


def alternatives(annotation: object) -> tuple[object, ...]:
    """A type, or those of a union."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def choices(annotation: object) -> Iterator[str]:
    """What one type allows, in words, if it allows few values or a closed range."""
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    elif get_origin(annotation) is Annotated:
        limits = {
            type(limit): limit
            for info in get_args(annotation)[1:]
            if isinstance(info, FieldInfo)
            for limit in info.metadata
        }
        if Ge in limits and Le in limits:
            yield f"{limits[Ge].ge:g} to {limits[Le].le:g}"


def written(value: Any) -> str:
    """A value as a study file has it."""
    if value is None or value == {}:
        return ""
    if isinstance(value, Spec):
        return written(value.model_dump(exclude_defaults=True))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return f"`{{{', '.join(f'{key}: {written(inner)}' for key, inner in value.items())}}}`"
    if isinstance(value, tuple):
        more = f", and {len(value) - MOST} more" if len(value) > MOST else ""
        return f"[{', '.join(map(written, value[:MOST]))}{more}]"
    return str(value)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
