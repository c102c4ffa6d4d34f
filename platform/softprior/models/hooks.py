"""Forward hooks that find the hidden states passing through a module and hand them to functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]
"""What a module is called with; each family has its own."""

Rotation = Tensor | tuple[Tensor, ...] | None
"""What a family hands its blocks as `position_embeddings`."""

Shown = tuple[nn.Module, Callable[[Tensor], None]]
"""A module, and the function that receives its hidden states."""


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
def turning(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """The rotations that modules receive, in order, in passes within the context; none in many families."""
    found: list[Tensor] = []

    def note(_: nn.Module, __: Arguments, kwargs: Mapping[str, Rotation]) -> None:
        parts = kwargs.get("position_embeddings")
        found.extend((parts,) if isinstance(parts, Tensor) else parts or ())

    handles = [module.register_forward_pre_hook(note, with_kwargs=True) for module in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def at_sites(
    modules: Mapping[str, nn.Module], sites: Sequence[str], give: Callable[[str, Tensor], None]
) -> list[Shown]:
    """The modules of those sites that are asked for, each with what hands its states and its name over."""
    return [(module, partial(give, site)) for site, module in modules.items() if site in sites]


@contextmanager
def showing(inputs: Sequence[Shown], outputs: Sequence[Shown]) -> Iterator[None]:
    """Hands over the hidden states at inputs and at outputs of modules, for passes within the context.

    Existing hooks can change what enters a module and what leaves it: at an input the states are taken
    before them, at an output after them.
    """
    handles = [
        module.register_forward_pre_hook(
            lambda _, args, kwargs, show=show: show(entering(args, kwargs)), with_kwargs=True, prepend=True
        )
        for module, show in inputs
    ]
    handles += [
        module.register_forward_hook(lambda _, __, out, show=show: show(leaving(out)))
        for module, show in outputs
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
