"""Hooks that find the hidden states passing through a module and hand them to functions.

A module has its hooks for all passes, and passes run side by side, see `lanes`. So hooks stay where they are
once they are there, and whom they hand something to is a variable of the context, as the pass itself is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from threading import Lock
from typing import Any

from torch import Tensor, nn

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]
"""What a module is called with; each family has its own."""

Shown = tuple[nn.Module, Callable[[Tensor], None]]
"""A module, and the function that receives its hidden states."""

Called = tuple[nn.Module, Callable[[Arguments, Keywords], None]]
"""A module, and the function that receives what it is called with."""

Returned = tuple[nn.Module, Callable[[object], None]]
"""A module, and the function that receives what it returns."""

_called: ContextVar[tuple[Called, ...]] = ContextVar("softprior_called", default=())
_returned: ContextVar[tuple[Returned, ...]] = ContextVar("softprior_returned", default=())

_CALLED, _RETURNED = "softprior_called", "softprior_returned"
"""Attributes of modules with such hooks, which a copy of the module has with them."""

_one_hooks = Lock()


def entering(args: Arguments, kwargs: Keywords) -> Tensor:
    """The hidden states among a module's arguments: the first, or the keyword `hidden_states`."""
    found = args[0] if args else kwargs["hidden_states"]
    assert isinstance(found, Tensor)
    return found


def leaving(out: object) -> Tensor:
    """The hidden states in what a module returns: all of it, or the first of a tuple."""
    found = out[0] if isinstance(out, tuple) else out
    assert isinstance(found, Tensor)
    return found


@contextmanager
def watching(called: Sequence[Called], returned: Sequence[Returned] = ()) -> Iterator[None]:
    """Hands over what modules are called with and what they return, in passes of this context.

    Other hooks can change both: what is called is seen before those that a module has at its first time here,
    what is returned after them.
    """
    _hook([module for module, _ in called], [module for module, _ in returned])
    before, after = _called.set((*_called.get(), *called)), _returned.set((*_returned.get(), *returned))
    try:
        yield
    finally:
        _called.reset(before)
        _returned.reset(after)


def _hook(called: Sequence[nn.Module], returned: Sequence[nn.Module]) -> None:
    """Gives modules the hooks that they lack, before the pass that needs them: others may be on their way."""
    with _one_hooks:
        for module in called:
            if not getattr(module, _CALLED, False):
                module.register_forward_pre_hook(_call, with_kwargs=True, prepend=True)
                setattr(module, _CALLED, True)
        for module in returned:
            if not getattr(module, _RETURNED, False):
                module.register_forward_hook(_return)
                setattr(module, _RETURNED, True)


def _call(module: nn.Module, args: Arguments, kwargs: Keywords) -> None:
    for watched, take in _called.get():
        if watched is module:
            take(args, kwargs)


def _return(module: nn.Module, _: Arguments, out: object) -> None:
    for watched, take in _returned.get():
        if watched is module:
            take(out)


@contextmanager
def turning(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """The rotations that modules receive, in order, in passes within the context; none in many families."""
    found: list[Tensor] = []

    def note(_: Arguments, kwargs: Keywords) -> None:
        parts = kwargs.get("position_embeddings")
        found.extend((parts,) if isinstance(parts, Tensor) else parts or ())

    with watching([(module, note) for module in modules]):
        yield found


def at_sites(
    modules: Mapping[str, nn.Module], sites: Sequence[str], give: Callable[[str, Tensor], None]
) -> list[Shown]:
    """The modules of those sites that are asked for, each with what hands its states and its name over."""
    return [(module, partial(give, site)) for site, module in modules.items() if site in sites]


@contextmanager
def showing(inputs: Sequence[Shown], outputs: Sequence[Shown]) -> Iterator[None]:
    """Hands over the hidden states at inputs and at outputs of modules, see `watching`."""

    def enter(show: Callable[[Tensor], None], args: Arguments, kwargs: Keywords) -> None:
        show(entering(args, kwargs))

    def leave(show: Callable[[Tensor], None], out: object) -> None:
        show(leaving(out))

    with watching(
        [(module, partial(enter, show)) for module, show in inputs],
        [(module, partial(leave, show)) for module, show in outputs],
    ):
        yield
