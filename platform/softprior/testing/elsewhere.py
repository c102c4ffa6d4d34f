"""Another process with other hashes, in which components are found again by the names of their classes."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from softprior.inputs.base import Spec, SpecT
from softprior.inputs.validation import validate


def is_found(kind: type[Spec]) -> bool:
    """Whether another process can import the class; not where it is in a function, a script or own code."""
    try:
        return "<locals>" not in kind.__qualname__ and find_spec(kind.__module__) is not None
    except (ImportError, ValueError):  # a module that was made and not imported, such as `__main__`
        return False


def as_json(components: Mapping[str, Spec]) -> dict[str, Any]:
    """Components as JSON, each with its class."""
    kinds = {name: type(component) for name, component in components.items()}
    return {
        name: [f"{kinds[name].__module__}:{kinds[name].__qualname__}", json.loads(component.canonical())]
        for name, component in components.items()
    }


def from_json(components: Mapping[str, Any], base: type[SpecT]) -> dict[str, SpecT]:
    """The inverse of `as_json`."""
    found = {}
    for name, (path, params) in components.items():
        kind = pkgutil.resolve_name(path)
        assert issubclass(kind, base)
        found[name] = validate(kind, params, name)
    return found


def answered(module: str, job: object) -> Any:
    """What `answer` of a module prints as JSON, in a process of its own that reads the job from its input."""
    found = subprocess.run(  # noqa: S603  this interpreter, on a text of this module
        [sys.executable, "-c", f"from {module} import answer; answer()"],
        input=json.dumps(job),
        env={**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)
