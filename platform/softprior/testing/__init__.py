"""Contract suites and slow literal forms: what every prior, method, task and host is held against.

One call runs a whole suite; its checks stand in the module of the same axis, each to be called alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softprior.testing.hosts import check_host
    from softprior.testing.methods import check_method
    from softprior.testing.priors import check_prior
    from softprior.testing.regularisers import check_regulariser
    from softprior.testing.tasks import check_task

__all__ = ["check_host", "check_method", "check_prior", "check_regulariser", "check_task"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'softprior.testing' has no attribute '{name}'")
    return getattr(import_module(f"softprior.testing.{name.removeprefix('check_')}s"), name)
