"""Where the code of functions and components comes from, with what tells its versions apart: for caches."""

from __future__ import annotations

import sys
from functools import lru_cache, partial
from importlib.metadata import distribution, entry_points, packages_distributions
from inspect import isroutine

from softprior.inputs.components import installed, is_editable, package_origin

OWN_FILE = "softprior_own_"
"""How modules are called that run a file of the user's own; the rest of the name says what text it has."""

OURS = {"softprior", "pydantic", *sys.stdlib_module_names}
"""Top-level names of what has no origin. All components are pydantic's models, and no key has versions of
libraries."""


def origins_of(*things: object) -> list[str] | None:
    """The code outside of `OURS` that functions, and components with their bases, consist of.

    Returns:
        Its origins. None where a part of it may change and nothing says so: in a notebook or a script, and in
        an editable package that offers no component.
    """
    found = {_origin(module) for thing in things for module in _modules(thing)}
    return None if None in found else sorted(origin for origin in found if origin)


def _modules(thing: object) -> set[str]:
    """Names of the modules that a function is written in, or a component's class and its bases."""
    if isinstance(thing, partial):
        thing = thing.func
    return {thing.__module__} if isroutine(thing) else {kind.__module__ for kind in type(thing).__mro__}


@lru_cache(maxsize=256)
def _origin(module: str) -> str | None:
    """The origin of a module: empty for what is `OURS`, None where nothing tells versions apart."""
    if module.startswith(OWN_FILE):
        return module
    package = module.partition(".")[0]
    if package == "__main__":
        return None
    if package in OURS:
        return ""
    # What they were when they were imported; an editable package may have been edited since.
    offered = {
        offered.kind.__module__: offered.origin
        for group in entry_points().groups
        if group.startswith("softprior.")
        for offered in installed(group).values()
    }
    if module in offered:
        return offered[module]
    # Several packages may share a namespace, and nothing says which of them a module in it is from.
    found = {origin for other, origin in offered.items() if other.partition(".")[0] == package}
    named = {origin.partition(" ")[0] for origin in found}
    others = [distribution(name) for name in packages_distributions().get(package, ()) if name not in named]
    if not (found or others) or any(map(is_editable, others)):
        return None
    return ", ".join(sorted(found.union(map(package_origin, others))))
