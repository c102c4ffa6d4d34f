"""Turns between clients, shared passes, and clients that leave or err."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import CancelledError

import pytest
import torch

from softprior.errors import UserError
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.passes import positions
from softprior.models.protocol import Request
from softprior.models.schedule import Call, Scheduler, Waiting
from softprior.prompt import Place
from softprior.testing.families import random_model
from softprior.testing.hosts import CLOSE, example_batch, example_prompts

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
