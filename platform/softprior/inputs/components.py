"""Tables of components: from the entry that names one in a study file to the component, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import Distribution, entry_points
from pathlib import Path
from typing import Any, Generic, NamedTuple, get_args
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import ValidationError

from softprior.errors import UserError, suggestion
from softprior.inputs.base import SaysWhere, Spec, SpecT
from softprior.inputs.entries import Entry, Shown
from softprior.inputs.sources import sources_hash
from softprior.inputs.validation import validate, validate_inner


class Offered(NamedTuple):
    """A kind of component that is not softprior's own.

    Attributes:
        origin: where it comes from, with a version: it belongs to the identity of trials.
        file: the user's own that defines it; None for a package's, and on workers.
    """

    kind: type[Any]
    origin: str
    file: Path | None = None


class UnknownComponentError(UserError, KeyError):
    """No component of an axis has such a name; a `KeyError` where mappings need one."""

    __str__ = Exception.__str__  # a KeyError shows its text in quotes


_OWN: dict[str, dict[str, Offered]] = {}
"""What the user's own code offers, by axis and name."""


@lru_cache
def installed(group: str) -> Mapping[str, Offered]:
    """What installed packages offer as entry points of a group.

    Raises:
        UserError: a package cannot be imported, or two of them offer one name.
    """
    found: dict[str, Offered] = {}
    for point in entry_points(group=group):
        origin = package_origin(point.dist) if point.dist else point.value
        if point.name in found:
            raise UserError(
                f"{found[point.name].origin} and {origin} both offer '{point.name}' in {group}; uninstall one"
            )
        try:
            found[point.name] = Offered(point.load(), origin)
        except Exception as error:  # whatever a package does when it is imported
            raise UserError(
                f"{origin} offers '{point.name}' but cannot be imported ({type(error).__name__}: {error}); "
                "fix or uninstall it"
            ) from error
    return found


def missing_methods(kind: type) -> list[str]:
    """Methods that a class has to define and does not."""
    return sorted(getattr(kind, "__abstractmethods__", ()))


def package_origin(package: Distribution) -> str:
    """A package by name and version. An editable one also by its sources, whose edits leave the version."""
    origin, project = f"{package.name} {package.version}", _editable(package)
    return origin if project is None else f"{origin} editable {sources_hash(project)}"


def is_editable(package: Distribution) -> bool:
    """Whether a package is imported from sources that somebody may edit."""
    return _editable(package) is not None


def _editable(package: Distribution) -> Path | None:
    """The sources of an editable package (PEP 610); None for one of another kind."""
    installed_from = json.loads(package.read_text("direct_url.json") or "{}")
    if not installed_from.get("dir_info", {}).get("editable"):
        return None
    return Path(url2pathname(urlsplit(installed_from["url"]).path))


class Table(Mapping[str, type[SpecT]], Generic[SpecT]):
    """The kinds of one component by the names they have in study files.

    Attributes:
        base: the class of all of them.
        axis: what study files call them, as `priors`. Installed packages offer others as entry points of the
            group `softprior.AXIS`, and a user's own code adds to them: see `own_code`.
        kinds: softprior's own.
        written_as: by name, the kinds that trials write in another way, which study files may use too: under
            another's name, with parameters that say which is meant. It keeps the ids of trials from before a
            kind had a name of its own.
    """

    def __init__(
        self,
        base: type[SpecT],
        axis: str,
        kinds: Mapping[str, type[SpecT]],
        written_as: Mapping[str, Entry] | None = None,
    ) -> None:
        self.base = base
        self.axis = axis
        self.kinds = dict(kinds)
        self.written_as = dict(written_as or {})

    def __getitem__(self, name: str) -> type[SpecT]:
        own = self.kinds.get(name)
        if own is not None:
            return own
        others = self._others
        if name not in others:
            raise UnknownComponentError(f"'{name}' does not exist among the {self.axis}; {self._hint(name)}")
        return others[name].kind

    def __contains__(self, name: object) -> bool:
        return name in self.kinds or name in self._others

    def __iter__(self) -> Iterator[str]:
        return iter({**self.kinds, **self._others})

    def __len__(self) -> int:
        return len({**self.kinds, **self._others})

    def offer(self, name: str, offered: Offered) -> None:
        """Makes a kind of component known, to this table and to others of the axis.

        Raises:
            UserError: the name is taken.
        """
        known = {**self._others, **{name: Offered(kind, "softprior") for name, kind in self.kinds.items()}}
        before = known.get(name, offered)
        if before.origin != offered.origin:
            remedy = "give yours another name"
            if before.file is not None:
                edited = before.file == offered.file
                remedy = "restart Python to use the edited file" if edited else "rename one of the classes"
            raise UserError(
                f"{offered.origin} and {before.origin} both have '{name}' among {self.axis}; {remedy}"
            )
        _OWN.setdefault(self.axis, {})[name] = offered

    @property
    def _others(self) -> Mapping[str, Offered]:
        """What packages and own code offer.

        Raises:
            UserError: a package offers a name that softprior has, or something else than a component.
        """
        packages = installed(f"softprior.{self.axis}")
        for name, offered in packages.items():
            if name in self.kinds:
                raise UserError(
                    f"{offered.origin} offers '{name}' among {self.axis}, but softprior has its own; "
                    "uninstall it"
                )
            if not (isinstance(offered.kind, type) and issubclass(offered.kind, self.base)):
                raise UserError(
                    f"{offered.origin} offers '{name}' among {self.axis}, but it is not a subclass of "
                    f"{self.base.__module__}.{self.base.__name__}; fix or uninstall it"
                )
            missing = missing_methods(offered.kind)
            if missing:
                raise UserError(
                    f"{offered.origin} offers '{name}' among {self.axis}, but it has no {missing[0]}(); "
                    "fix or uninstall it"
                )
        return {**packages, **_OWN.get(self.axis, {})}

    def component(self, entry: Entry, where: str | None = None, at: str = "") -> SpecT:
        """The component that an entry names, with its parameters checked.

        Args:
            where: the file, for error messages; None for an entry that was checked before.
            at: the keys that lead to the entry in the file.

        Raises:
            UserError: there is no such name, or a parameter is wrong.
        """
        if where is None:
            where, at = entry.name, ""
        else:
            at = at or entry.name
        if entry.name not in self:
            hint = self._hint(entry.name)
            if not at:
                raise UserError(f"'{entry.name}' does not exist among the {self.axis}; {hint}")
            raise UserError(f"{where}: {at} = '{entry.name}' does not exist; {hint}")
        at = f"{at}.{entry.name}" if at else ""
        meant = self._meant(entry)
        return validate(self[meant.name], meant.params, where, at)

    def _hint(self, name: str) -> str:
        """The remedy for a name that does not exist."""
        hint = suggestion(str(name), list(self))
        if hint.startswith("known"):  # nothing is close
            hint = f"{hint}; a class of one's own needs --code FILE (use_code in Python)"
        return hint

    def named(self, entry: Entry) -> str:
        """The name of the kind that an entry means, also where it is written under another's."""
        return self._meant(entry).name

    def kind(self, entry: Entry) -> type[SpecT] | None:
        """The kind of the component that an entry names, whatever its parameters; None if it is unknown."""
        return self.get(self._meant(entry).name)

    def components(self, entries: Sequence[Entry], where: str, axis: str) -> list[SpecT]:
        """The components of one axis of a study.

        Raises:
            UserError: as `component`, with the entry's place on the axis.
        """
        return [self.component(entry, where, f"{axis}[{i}]") for i, entry in enumerate(entries)]

    def inside(self, value: object) -> SpecT:
        """The component that a parameter of another component names, while that one is validated.

        Raises:
            ValueError: there is no such name, or a parameter is wrong.
        """
        if isinstance(value, self.base) and type(value) in self.values():
            return value
        try:
            entry = Entry.model_validate(value)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        if entry.name not in self:
            raise ValueError(f"'{entry.name}' cannot be used here; {suggestion(entry.name, list(self))}")
        meant = self._meant(entry)
        return validate_inner(self[meant.name], meant.params, entry.name)

    def as_json(self, component: SpecT) -> dict[str, object]:
        """The entry of a component inside another, as JSON."""
        return self.entry(component).model_dump(mode="json")

    def entry(self, component: SpecT, label: str | None = None) -> Entry:
        """The entry that names a component, every parameter written out.

        People see the component's own name or its label, and the parameters that are not at their defaults.
        """
        name, params = self.name(component), component.model_dump(mode="json")
        written = self.written_as.get(name, Entry(name=name))
        entry = Entry(name=written.name, params={**params, **written.params})
        changed = component.model_dump(mode="json", exclude_defaults=True)
        return entry.shown_as(Shown(label or name, {key: params[key] for key in changed}))

    def recognised(self, entry: Entry) -> Entry:
        """The entry as `entry` makes it; as it is where its component is unknown here or has changed."""
        try:
            return self.entry(self.component(entry))
        except UserError:
            return entry

    def _meant(self, entry: Entry) -> Entry:
        """The entry under the name of its kind: the opposite of `written_as`."""
        for name, written in self.written_as.items():
            if entry.name == written.name and written.params.items() <= entry.params.items():
                own = {key: value for key, value in entry.params.items() if key not in written.params}
                return Entry(name=name, params=own)
        return entry

    def paths(self, component: SpecT, at: str) -> tuple[str, ...]:
        """Keys of a component's parameters that say where a file is, as they are in its entry.

        Args:
            at: the keys that lead to the entry.
        """
        return tuple(_paths(component, f"{at}.params"))

    def names_files(self, component: SpecT) -> bool:
        """Whether one of the parameters that say where a file is has a value."""
        written = {"params": component.model_dump(mode="json")}

        def value(path: str) -> object:
            node: Any = written
            for key in path.split(".")[1:]:
                node = node[int(key) if isinstance(node, list) else key]
            return node

        return any(value(path) is not None for path in self.paths(component, "entry"))

    def origins(self, component: SpecT) -> tuple[str, ...]:
        """Where it and the components inside it come from, if not from softprior."""
        others = {offered.kind: offered.origin for offered in self._others.values()}
        kinds = [type(part) for part in _parts(component)]
        return tuple(sorted({others[kind] for kind in kinds if kind in others}))

    def all_origins(self) -> set[str]:
        """Where all kinds come from that are not softprior's own."""
        return {offered.origin for offered in self._others.values()}

    def name(self, component: SpecT) -> str:
        """The name of a component."""
        return next(name for name, kind in self.items() if kind is type(component))


def _paths(spec: Spec, at: str) -> Iterator[str]:
    """The keys that lead to a file in a spec and in those inside of it, as `model_dump` has them."""
    written = spec.model_dump(mode="json")
    for name, field in type(spec).model_fields.items():
        if _says_where([field.annotation, *field.metadata]):
            yield f"{at}.{name}"
        else:
            yield from _paths_inside(getattr(spec, name), written.get(name), f"{at}.{name}")


def _paths_inside(value: object, written: Any, at: str) -> Iterator[str]:
    if isinstance(value, Spec):
        # A component is in another one as its entry.
        entry = set(written) == {"name", "params"} and "params" not in type(value).model_fields
        yield from _paths(value, f"{at}.params" if entry else at)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _paths_inside(inner, written[str(key)], f"{at}.{key}")
    elif isinstance(value, tuple | list):
        for i, inner in enumerate(value):
            yield from _paths_inside(inner, written[i], f"{at}.{i}")


def _says_where(parts: Iterable[object]) -> bool:
    """Whether a type, or one inside it, is marked with `SaysWhere`."""
    return any(
        isinstance(part, SaysWhere) or _says_where([*get_args(part), *getattr(part, "__metadata__", ())])
        for part in parts
    )


def _parts(value: object) -> Iterator[Spec]:
    """A spec and all specs inside it."""
    if isinstance(value, Spec):
        yield value
        value = [getattr(value, name) for name in type(value).model_fields]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for inner in value:
            yield from _parts(inner)
