"""Passes side by side give the states and sums of passes one after another, whichever lane is faster."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from softprior.activations import turns
from softprior.activations.collector import batch_of
from softprior.activations.passes import TextPass, passes
from softprior.activations.reader import Reader
from softprior.activations.shards import Reading, Shard
from softprior.activations.state import TaskState
from softprior.activations.turns import divided, in_turns
from softprior.errors import UserError
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.protocol import Where
from softprior.prompt import Place
from softprior.statistics import moments
from softprior.testing.families import random_model
from softprior.testing.hosts import Recorder, example_prompts
from softprior.testing.hosts.behind import FIRST
from tests.activations.test_collector import texts
from tests.activations.test_worker import spec
from tests.builders import tiny
from tests.distances import apart
from tests.models.test_lanes import EACH_TIME, met, others


class Own:
    """Has a recorder of its own for every pass."""

    def __init__(self) -> None:
        self.passes: list[tuple[TextPass, Recorder]] = []

    def begin(self, at: TextPass) -> None:
        self.passes.append((at, Recorder()))

    def update(self, site, states, where) -> None:
        self.passes[-1][1].update(site, states, where)


def of_lengths(lengths):
    (text,) = texts(1)
    return [text._replace(id=f"{i}", tokens=[1] * n, parts=[0] * n) for i, n in enumerate(lengths)]


@given(st.lists(st.integers(1, 3000), max_size=40), st.sampled_from([1, 2, 4, 6]))
def test_no_more_tokens_are_in_memory_with_lanes(lengths, lanes):
    cut = partial(passes, of_lengths(lengths), [], seed=0)
    made, count = divided(cut, 4096, lanes)
    assert lanes % count == 0
    if count == 1:
        assert made == list(cut(4096))
    else:
        assert max(sum(len(text.tokens) for text in at.texts) for at in made) <= 4096 // count
        assert sorted(len(text.tokens) for at in made for text in at.texts) == sorted(lengths)


def test_a_shard_is_in_lanes_where_these_are_worth_it():
    given = of_lengths([100] * 200)
    assert divided(partial(passes, given, [], seed=0), 4096, 2)[1] == 2
    assert divided(partial(passes, given, [], seed=0), 4096, 1)[1] == 1
    assert divided(partial(passes, given, [], seed=0), 500, 2)[1] == 1, "passes are small"
    assert divided(partial(passes, given[:60], [], seed=0), 4096, 2)[1] == 1, "there are three passes"
    assert divided(partial(passes, [], [], seed=0), 4096, 2) == ([], 1)


@pytest.mark.parametrize("family", [*EACH_TIME, *others])
def test_each_pass_sees_its_own_states(family):
    host = LocalLM(random_model(family, ATTENTION), "weights")
    vocabulary = host.info().vocabulary
    given = [text._replace(tokens=[FIRST, *(t % vocabulary for t in text.tokens[1:])]) for text in texts(8)]
    made = list(passes(given, given[:4], 24, 0))
    made = made[: len(made) // 2 * 2]
    prompts = [
        None,
        *(prompt for name, prompt in example_prompts(host).items() if name in ("deep", "prefix")),
    ]
    if host.info().stack != "encoder":
        prompts.append({Place(0, placement="after_bos"): torch.ones(3, host.info().hidden)})
    for prompt in prompts:
        lanes = [Own(), Own()]
        torch.set_num_threads(2)
        with met(host._blocks.layers[1], 2):
            in_turns(
                made,
                lanes,
                lambda some, own, prompt=prompt: host.observe(prompt, batch_of(some), host.sites(), own),
            )
        torch.set_num_threads(1)
        assert min(len(lane.passes) for lane in lanes) > 0
        for at, found in (pair for lane in lanes for pair in lane.passes):
            right = host.observe(prompt, batch_of(at.texts), host.sites(), Recorder())
            assert set(found.updates) == set(right.updates) == set(host.sites())
            for site in host.sites():
                (one,), (other,) = found.updates[site], right.updates[site]
                assert torch.equal(one[0], other[0]), site
                assert torch.equal(one[1].tokens, other[1].tokens)


def read(path, threads, told=None, **changes):
    """The tensors of what a reader adds up of 23 texts, through a file."""
    loaded, given = tiny(), texts()
    state = TaskState("task", 50, True, ("a", "b"))
    torch.set_num_threads(threads)
    try:
        reader = Reader(spec(batch_tokens=64, sites="all", **changes), loaded, lambda _, n: told.append(n))
        shard = Shard("task-0", "task", "", 0, 23, 250, 11, sequences=9, paths=2)
        medians = dict.fromkeys(loaded.host.sites(), 5.0)
        reader.read(shard, Reading(given, [], []), state, medians, time.monotonic())
    finally:
        torch.set_num_threads(1)
    state.save(path)
    return load_file(path)


def test_sums_are_those_of_one_lane_and_the_same_bits_whichever_lane_is_faster(monkeypatch, tmp_path):
    monkeypatch.setattr(turns, "LEAST", 1)
    layer, seen, told, again = tiny().host._blocks.layers[1], [], [], []

    def slow(*_):
        seen.append(threading.current_thread().name)
        time.sleep(0.01 * (len(seen) % 3 == 0))

    one = read(tmp_path / "one", 1, told)
    found = read(tmp_path / "two", 2, again)
    handle = layer.register_forward_pre_hook(slow)
    try:
        slowed = read(tmp_path / "slow", 2, again)
    finally:
        handle.remove()
    assert len({name for name in seen if name.startswith("lane")}) == 2
    assert 2 * sum(told) == sum(again)
    assert set(one) == set(found) == set(slowed)
    assert all(torch.equal(found[name].nan_to_num(), slowed[name].nan_to_num()) for name in found)
    for name, tensor in one.items():
        if "/norms/" in name:
            continue  # a norm at the edge of a bin may change sides
        if tensor.is_floating_point():
            # float32, sums in another order.
            assert apart(found[name].nan_to_num(), tensor.nan_to_num()) <= 1e-5, name
        else:
            assert torch.equal(found[name], tensor), name


def test_one_lane_is_this_thread(tmp_path):
    seen = set()
    handle = (
        tiny()
        .host._blocks.layers[1]
        .register_forward_pre_hook(lambda *_: seen.add(threading.current_thread()))
    )
    try:
        read(tmp_path / "one", 1, [])
    finally:
        handle.remove()
    assert seen == {threading.current_thread()}


def test_the_first_pass_that_fails_says_why_and_no_other_begins():
    torch.set_num_threads(2)
    made = [TextPass([text], collected=True, in_sequence=False) for text in texts(6)]
    both, ended, lanes = threading.Barrier(2), [], [Own(), Own()]

    def fails(some, statistic):
        number = int(some[0].id.removeprefix("text-"))
        both.wait(60)
        if number == 0:
            time.sleep(0.05)
            raise UserError("the first")
        where = Where(*torch.zeros(3, 1, dtype=torch.long))
        statistic.update("resid.0", torch.zeros(1, 1), where)  # waits for the first, which is never there
        ended.append(number)
        raise UserError("the second")

    with pytest.raises(UserError, match="the first"):
        in_turns(made, lanes, fails)
    assert ended == [1]
    assert sum(len(lane.passes) for lane in lanes) == 2
    assert torch.get_num_threads() == 2


def test_products_in_lanes_have_one_thread_each_and_leave_those_of_others_as_they_were():
    torch.set_num_threads(2)
    made = [TextPass([text], collected=True, in_sequence=False) for text in texts(6)]
    libraries, seen = moments._libraries(), []

    def multiplies(*_):
        moments.RunningMoments(3).add(torch.ones(moments.GATHERED, 3))
        seen.extend(library["num_threads"] for library in libraries.info())

    with libraries.limit(limits=2):
        in_turns(made, [Own(), Own()], multiplies)
        assert {library["num_threads"] for library in libraries.info()} == {2}
    assert set(seen) == {1}
