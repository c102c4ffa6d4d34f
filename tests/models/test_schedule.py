"""Turns between clients, shared passes, and clients that leave or err."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from concurrent.futures import CancelledError

import pytest
import torch

from softprior.errors import HostLostError, UserError
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.passes import positions
from softprior.models.protocol import Request
from softprior.models.schedule import Call, Scheduler, Waiting
from softprior.prompt import Place
from softprior.testing.families import random_model
from softprior.testing.hosts import CLOSE, Recorder, example_batch, example_prompts

WAIT = 60


@pytest.fixture
def host():
    return LocalLM(random_model("llama", ATTENTION), "weights")


def loss(host: LocalLM, seed: int = 0, kind: str = "soft", grad: bool = True) -> Request:
    return Request(example_prompts(host, seed)[kind], example_batch(host.info(), seed), grad)


def taken(waiting: Waiting, tokens: int | None = None, together: bool = True) -> list[str]:
    turns = []
    while waiting:
        turns.append("".join(call.client for call in waiting.take(tokens, together)))
    return turns


def waiting(*calls: tuple[str, Request | str]) -> Waiting:
    queue = Waiting()
    for client, what in calls:
        queue.add(Call(client, what))
    return queue


def test_clients_take_turns_however_much_one_asks():
    many = [("a", "embed")] * 4
    assert taken(waiting(*many, ("b", "embed"), ("c", "embed"), ("c", "embed"))) == list("abcacaa")


def test_losses_of_several_clients_go_together_and_other_calls_between(host):
    soft, deep = loss(host), loss(host, kind="deep")
    queue = waiting(("a", soft), ("b", "embed"), ("c", soft), ("d", deep), ("a", soft), ("b", soft))
    # c overtakes b by riding along, which costs b nothing: the pass is a's turn.
    assert taken(queue) == ["ac", "b", "d", "ab"]
    queue = waiting(("a", soft), ("b", soft), ("c", soft))
    assert taken(queue, together=False) == ["a", "b", "c"]


def test_a_pass_is_filled_up_to_the_budget_and_whoever_is_left_out_is_next(host):
    soft = loss(host)
    calls = [(client, soft) for client in "abcabcabc"]
    assert taken(waiting(*calls), tokens=2 * positions(soft)) == ["ab", "ca", "bc", "ab", "c"]
    # A request beyond the budget still has its turn; the host splits its rows.
    assert taken(waiting(*calls[:3]), tokens=1) == ["a", "b", "c"]


def test_what_is_dropped_is_not_served():
    queue = waiting(("a", "embed"), ("b", "embed"), ("a", "embed"))
    calls = [call for q in queue._queues.values() for call in q]
    queue.drop("a")
    assert [call.answer.cancelled() for call in calls] == [call.client == "a" for call in calls]
    assert taken(queue) == ["b"]


def test_answers_are_those_of_the_host_and_passes_are_shared(host):
    scheduler = Scheduler(host, tokens=500)
    requests = [loss(host, seed) for seed in range(4)]
    alone = [host.loss(r.prompt, r.batch, grad=True) for r in requests]
    found: dict[int, list] = {}

    def trial(number: int) -> None:
        found[number] = [
            scheduler.submit(Call(f"{number}", requests[number])).result(WAIT) for _ in range(20)
        ]

    threads = [threading.Thread(target=trial, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, expected in enumerate(alone):
        for losses in found[number]:
            # Relative to the largest number; a shared pass adds in another order.
            torch.testing.assert_close(
                losses.nll, expected.nll, rtol=0, atol=CLOSE * float(expected.nll.abs().max())
            )
            for place, gradient in expected.gradient.items():
                scale = CLOSE * float(gradient.abs().max())
                torch.testing.assert_close(losses.gradient[place], gradient, rtol=0, atol=scale)
    assert scheduler.served.calls == 80
    assert scheduler.served.turns < 60, "hardly any pass was shared"


def test_a_mistake_of_one_client_is_not_that_of_others_in_its_pass(host):
    scheduler = Scheduler(host, tokens=None)
    good = loss(host)
    bad = Request({Place(99, after="cut"): torch.zeros(4, 32)}, good.batch, True)
    wide = Request({Place(0): torch.zeros(4, 7)}, good.batch, True)
    answers = [scheduler.submit(Call(c, r)) for c, r in (("a", good), ("b", bad), ("c", wide), ("d", good))]
    with pytest.raises(UserError, match="block 99 does not exist"):
        answers[1].result(WAIT)
    with pytest.raises(RuntimeError, match="size"):
        answers[2].result(WAIT)
    expected = host.loss(good.prompt, good.batch).nll
    for answer in (answers[0], answers[3]):
        torch.testing.assert_close(answer.result(WAIT).nll, expected, rtol=1e-4, atol=1e-4)
    assert len(scheduler.submit(Call("a", "sites")).result(WAIT)) > 4


class Loses:
    """A host that is lost a number of times, each time before it has done anything."""

    def __init__(self, host: LocalLM, times: int) -> None:
        self._host = host
        self.left = times

    def __getattr__(self, name: str):
        def asked(*arguments, **keywords):
            self.left -= 1
            if self.left >= 0:
                raise HostLostError("rank 1 was killed by SIGKILL")
            return getattr(self._host, name)(*arguments, **keywords)

        return asked


def test_what_a_lost_host_was_asked_is_repeated(host):
    loses = Loses(host, 0)
    scheduler = Scheduler(loses, tokens=None)
    request, batch, ids = loss(host), example_batch(host.info()), torch.arange(5)

    def asked(times: int, *call):
        loses.left = times
        return scheduler.submit(Call("a", *call)).result(WAIT)

    expected = host.loss(request.prompt, batch, grad=True)
    assert torch.equal(asked(1, request).nll, expected.nll)
    assert torch.equal(asked(3, "embed", (ids,)), host.embed(ids))
    keywords = {"max_new": 3, "stop": frozenset()}
    assert asked(1, "generate", (None, batch), keywords) == host.generate(None, batch, **keywords)
    once, twice = host.observe(None, batch, ["final"], Recorder()), Recorder()
    assert asked(1, "observe", (None, batch, ["final"], twice)) is twice
    assert len(twice.updates["final"]) == len(once.updates["final"]) == 1
    with pytest.raises(UserError, match=r"lost 4 times during one request.* SIGKILL; lower") as given_up:
        asked(4, request)
    assert "\n" not in str(given_up.value)
    assert torch.equal(asked(0, request).nll, expected.nll)


class TooLarge(LocalLM):
    """A host that has room for one request in a pass."""

    def __init__(self) -> None:
        super().__init__(random_model("llama", ATTENTION), "weights")
        self.failed = weakref.WeakSet()
        self.asked: list[tuple[int, int]] = []
        """Requests of each pass, and failed passes still in memory as it began."""

    def loss_many(self, requests, tokens=None):
        self.asked.append((len(requests), len(self.failed)))
        activations = torch.zeros(1000)
        if len(requests) > 1:
            self.failed.add(activations)
            raise torch.OutOfMemoryError("out of memory")
        return super().loss_many(requests, tokens)


def test_a_pass_that_was_too_large_is_let_go_before_its_requests_are_tried_alone():
    host = TooLarge()
    scheduler = Scheduler(host, tokens=None)
    calls = [Call(client, loss(host)) for client in "ab"]
    with scheduler._changed:  # so that both are there when it looks
        for call in calls:
            scheduler.submit(call)
    assert len(calls[0].answer.result(WAIT).nll) == len(calls[1].answer.result(WAIT).nll)
    assert host.asked == [(2, 0), (1, 0), (1, 0)]


def test_a_client_that_leaves_drops_its_rows_and_the_others_go_on(host):
    scheduler = Scheduler(host, tokens=1)  # a row at a time, so that much waits
    request = loss(host)
    calls = [Call(client, request) for _ in range(10) for client in "ab"]
    for call in calls:
        scheduler.submit(call)
    scheduler.drop("a")
    ends = Counter()
    for call in calls:
        try:
            call.answer.result(WAIT)
            ends[call.client, "answered"] += 1
        except CancelledError:
            ends[call.client, "dropped"] += 1
    assert ends["b", "answered"] == 10
    assert ends["a", "dropped"] >= 5
