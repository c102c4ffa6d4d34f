"""A user's own components: classes in a Python file that the command line names, for a quick idea.

A study file alone never makes code run. The hash of the file's text belongs to the identity of the trials
that use it, and the text travels to the workers. The file is therefore self-contained.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from pydantic import PydanticUserError

from softprior.errors import UserError
from softprior.inputs.components import Offered, Table, missing_methods
from softprior.inputs.labels import by_number
from softprior.inputs.origins import OWN_FILE
from softprior.inputs.paths import home_path
from softprior.methods import METHODS
from softprior.priors import PRIORS
from softprior.regularisers import REGULARISERS
from softprior.tasks import TASKS
from softprior.training.self_contained import require_self_contained

TABLES: tuple[Table[Any], ...] = (PRIORS, METHODS, TASKS, REGULARISERS)


class OwnCode(NamedTuple):
    """A Python file.

    Attributes:
        name: the file's.
        text: its contents.
        path: where it was read, without links; None on workers, which get the text.
    """

    name: str
    text: str
    path: Path | None = None

    @property
    def origin(self) -> str:
        """Identifies the file's contents."""
        return f"{self.name} {hashlib.sha256(self.text.encode()).hexdigest()[:16]}"


_IN_USE: list[OwnCode] = []


def in_use() -> tuple[OwnCode, ...]:
    """The files whose components are known, in order."""
    return tuple(_IN_USE)


def read_code(path: Path) -> OwnCode:
    """The file.

    Raises:
        UserError: it does not exist, is not a Python file or not UTF-8, or imports a module that is not
            installed.
    """
    if path.suffix != ".py":
        raise UserError(f"--code takes a Python file, but {path} does not end with .py")
    path = home_path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # Python too skips a byte-order mark
    except OSError as error:
        raise UserError(f"--code {path} cannot be read ({error}); check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"--code {path} is not UTF-8 (byte {error.start}: {error.reason}); save it as UTF-8"
        ) from None
    code = OwnCode(path.name, text, path.resolve())
    require_self_contained(path, code.text)
    return code


def use_code(code: OwnCode) -> dict[str, list[str]]:
    """Runs the file and makes its components known; their names by axis.

    A component is named after its class, in snake case: `SpiralPrior` is `spiral_prior`.

    Raises:
        UserError: the file fails, defines no component or one that lacks a method, or names two alike.
    """
    module = ModuleType(f"{OWN_FILE}{re.sub(r'[^A-Za-z0-9_]', '_', code.origin)}")
    if module.__name__ not in sys.modules:
        sys.modules[module.__name__] = module  # where annotations look for names
        try:
            exec(compile(code.text, code.name, "exec"), module.__dict__)  # noqa: S102  the user asks for it
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # or the command would end with the file
            del sys.modules[module.__name__]
            raise UserError(f"--code {code.name} fails: {_reason(error, code.name)}; correct it") from error
    module = sys.modules[module.__name__]
    values = dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))
    own = [kind for kind in values if kind.__module__ == module.__name__]
    found: dict[str, list[str]] = {}
    for table in TABLES:
        kinds = [kind for kind in own if issubclass(kind, table.base)]
        for kind in kinds:
            _require_methods(kind, kinds, code.name)
        for kind in kinds:
            if not missing_methods(kind):
                name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()
                if name in found.get(table.axis, ()):
                    raise UserError(
                        f"--code {code.name}: two classes are called '{name}' among {table.axis}; rename one"
                    )
                table.offer(name, Offered(kind, code.origin, code.path))
                found.setdefault(table.axis, []).append(name)
    if not found:
        bases = " or ".join(f"{table.base.__module__}.{table.base.__name__}" for table in TABLES)
        raise UserError(f"--code {code.name} defines no component; derive a class from {bases}")
    if code not in _IN_USE:
        _IN_USE.append(code)
    return found


def _require_methods(kind: type, kinds: list[type], file: str) -> None:
    """Refuses a component that lacks a method, unless others of the file are derived from it.

    Raises:
        UserError: it is not whole.
    """
    missing = missing_methods(kind)
    if missing and not any(other is not kind and issubclass(other, kind) for other in kinds):
        raise UserError(
            f"--code {file}: {kind.__name__} is a {kind.__mro__[1].__name__} without "
            f"{' and '.join(f'{name}()' for name in missing)}; "
            f"define {by_number(len(missing), 'this method', 'these methods')}"
        )


def require_origins(code: Iterable[str]) -> None:
    """Checks that this process has the packages and files that a trial was planned with.

    Raises:
        UserError: one of them is another here, or has been edited since.
    """
    other = next((o for o in code if all(o not in table.all_origins() for table in TABLES)), None)
    if other is not None:
        raise UserError(
            f"the trial was planned with {other}, which this process does not have; install the same version "
            "everywhere, and leave it alone while the study runs"
        )


def _reason(error: BaseException, file: str) -> str:
    """What went wrong, with the line of the user's file."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    where = "" if line is None else f"line {line}: "
    # Pydantic's own text ends with an address on the web.
    said = error.message if isinstance(error, PydanticUserError) else str(error)
    return f"{where}{type(error).__name__}: {said.rstrip('.')}".removesuffix(": ")
