"""Passes side by side on the CPUs of a worker, which add to its sums in the order of the passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from threading import Condition
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from softprior.activations.passes import TextPass
from softprior.models.lanes import UNEVEN, side_by_side
from softprior.models.protocol import SiteStatistic, Where
from softprior.statistics.moments import one_thread
from softprior.tasks.prepared import Text

LEAST = 1024
"""Tokens of a pass, at least: sums at every site cost as much for few tokens as for many."""


class Watcher(SiteStatistic, Protocol):
    """A statistic of one lane, which is told of its passes, such as a `Router`."""

    def begin(self, at: TextPass) -> None:
        """The pass that is observed next."""


def divided(cut: Callable[[int], Iterable[TextPass]], tokens: int, lanes: int) -> tuple[list[TextPass], int]:
    """The passes, and how many of them run side by side: one after another where lanes are not worth it.

    Args:
        cut: makes passes with at most a given number of tokens each.
        tokens: most tokens of all passes that run at a time, as their states are in memory together.
        lanes: see `ModelInfo`.
    """
    for count in range(min(lanes, tokens // LEAST), 1, -1):
        if lanes % count == 0:
            made = list(cut(tokens // count))
            sizes = [sum(len(text.tokens) for text in at.texts) for at in made]
            # A text that is longer has a pass of its own, and several of them would need more memory.
            if 0 < max(sizes, default=0) <= tokens // count and _evenly(sizes, count):
                return made, count
    return list(cut(tokens)), 1


def _evenly(sizes: Sequence[int], count: int) -> bool:
    """Whether lanes that take the next pass when they have ended one have about equally many tokens."""
    loads = [0] * count
    for size in sizes:
        loads[loads.index(min(loads))] += size
    return max(loads) * count <= UNEVEN * sum(loads)


def in_turns(
    passes: Iterable[TextPass],
    routers: Sequence[Watcher],
    observe: Callable[[list[Text], SiteStatistic], None],
) -> None:
    """Observes passes in as many lanes as there are routers, each of which hands on the states of its lane.

    At every site, a pass adds when all before it have added there or have ended. So sums do not depend on
    which lane is faster, and no two lanes change those of a site at once.

    Args:
        observe: runs texts through the model for a statistic, which sees every site once.

    Raises:
        Exception: what the first pass that failed raised. No lane uses the model by then.
    """
    turns = _Turns(passes)

    def lane(router: Watcher) -> None:
        while (taken := turns.take()) is not None:
            number, at = taken
            try:
                router.begin(at)
                observe(at.texts, _InTurn(router, turns, number))
            except Exception as error:
                turns.failed[number] = error
            finally:
                turns.end(number)

    with one_thread() if len(routers) > 1 else nullcontext():
        side_by_side(lane, list(routers))
    if turns.failed:
        raise turns.failed[min(turns.failed)]


class _Turns:
    """Whose turn it is at a site.

    Attributes:
        failed: errors of passes by their numbers; after one, no pass begins.
    """

    def __init__(self, passes: Iterable[TextPass]) -> None:
        self.failed: dict[int, Exception] = {}
        self._passes = enumerate(passes)
        self._added: dict[int, set[str]] = {}  # the sites at which each running pass has added
        self._changed = Condition()

    def take(self) -> tuple[int, TextPass] | None:
        """The next pass and its number; None where there is none."""
        with self._changed:
            taken = None if self.failed else next(self._passes, None)
            if taken is not None:
                self._added[taken[0]] = set()
            return taken

    def end(self, number: int) -> None:
        """Nobody waits for the pass any longer."""
        with self._changed:
            del self._added[number]
            self._changed.notify_all()

    @contextmanager
    def turn(self, number: int, site: str) -> Iterator[None]:
        """Waits until the passes before have added at a site, and lets those behind wait for the context."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_next(number, site))
        yield
        with self._changed:
            self._added[number].add(site)
            self._changed.notify_all()

    def _is_next(self, number: int, site: str) -> bool:
        return all(site in added for other, added in self._added.items() if other < number)


class _InTurn:
    """A statistic that hands on the states of a pass when it is its turn."""

    def __init__(self, inner: SiteStatistic, turns: _Turns, number: int) -> None:
        self._inner, self._turns, self._number = inner, turns, number

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        with self._turns.turn(self._number, site):
            self._inner.update(site, states, where)
