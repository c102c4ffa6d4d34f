"""A group of processes: whatever happens to one of them, the caller hears of it in time and can go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from softprior.errors import UserError
from softprior.models.rank_group import Call, Limits, Processes, Ranks, RanksLostError, Reply, put, take


def serve(descriptor: int) -> None:
    """What a rank of these tests does: the name of a call says it. A job is the first call."""
    link = Connection(descriptor)
    member, job = take(link)
    call = job
    while True:
        if call.args and call.args[0] != member.rank:
            call = Call("echo", call.args)
        if call.name == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if call.name == "leave":
            raise SystemExit("out of luck")
        if call.name == "hang":
            time.sleep(600)
        kind = {"fail": "failed", "refuse": "refused"}.get(call.name, "done")
        put(link, Reply(kind, (member.rank, os.getpid()) if kind == "done" else "the reason"))
        try:
            call = take(link)
        except EOFError:
            break


def group(job: Call = Call("echo"), request: float = 60.0, loading: float = 60.0) -> Ranks:  # noqa: B008
    transport = Processes(2, "tests.models.test_ranks:serve", job, {}, ["", ""])
    return Ranks(2, transport, Limits(request, loading))


def both(name: str, *args: int) -> list[Call]:
    return [Call(name, args)] * 2


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.fixture
def ranks():
    ranks = group()
    yield ranks
    ranks.end()


def test_each_rank_gets_its_request_and_answers(ranks):
    first = ranks.ask(both("echo"))
    assert [rank for rank, _ in first] == [0, 1]
    assert ranks.ask(both("echo")) == first
    ranks.end()
    assert all(gone(pid) for _, pid in first)
    assert not {pid for _, pid in ranks.ask(both("echo"))} & {pid for _, pid in first}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("die", "rank 1 of the sharded model was killed by SIGKILL, so all were ended"),
        ("leave", r"rank 1 of the sharded model exited with status 1 \(out of luck\), so all were ended"),
        ("fail", r"rank 1 of the sharded model failed \(the reason\), so all were ended"),
        ("hang", "rank 1 of the sharded model did not answer within 1 s, so all were ended"),
    ],
)
def test_a_lost_rank_ends_all_and_the_next_request_starts_them(name, said):
    ranks = group(request=1.0 if name == "hang" else 60.0)
    old = [pid for _, pid in ranks.ask(both("echo"))]
    with pytest.raises(RanksLostError, match=said) as lost:
        ranks.ask(both(name, 1))
    assert "\n" not in str(lost.value)
    assert all(gone(pid) for pid in old)
    assert [rank for rank, _ in ranks.ask(both("echo"))] == [0, 1]
    ranks.end()


def test_a_frozen_rank_that_takes_no_request_is_ended_in_time():
    ranks = group(request=1.0)
    old = [pid for _, pid in ranks.ask(both("echo"))]
    os.kill(old[1], signal.SIGSTOP)
    more_than_a_pipe_holds = Call("echo", (1, bytes(10_000_000)))
    with pytest.raises(RanksLostError, match="rank 1 of the sharded model did not take a request within 1 s"):
        ranks.ask([Call("echo", (1,)), more_than_a_pipe_holds])
    assert all(gone(pid) for pid in old)
    assert [rank for rank, _ in ranks.ask(both("echo"))] == [0, 1]
    ranks.end()


@pytest.mark.parametrize("name", ["die", "leave", "fail", "hang"])
def test_a_rank_lost_while_loading(name):
    ranks = group(Call(name, (0,)), loading=1.0 if name == "hang" else 60.0)
    with pytest.raises(RanksLostError, match=r"ranks? 0.* of the sharded model"):
        ranks.ask(both("echo"))


def test_nothing_lies_on_the_disk_that_a_killed_caller_could_leave(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ranks = group()
    ranks.ask(both("echo"))
    assert not list(tmp_path.iterdir())
    ranks.end()


def test_the_others_are_not_waited_for(ranks):
    """One that died is found while another, which waits for it, does not answer."""
    ranks.ask(both("echo"))
    begun = time.monotonic()
    with pytest.raises(RanksLostError, match="SIGKILL"):
        ranks.ask([Call("hang"), Call("die")])
    assert time.monotonic() - begun < 30


def test_a_refusal_leaves_the_ranks_running(ranks):
    first = ranks.ask(both("echo"))
    with pytest.raises(UserError, match="the reason"):
        ranks.ask(both("refuse"))
    assert ranks.ask(both("echo")) == first


def test_a_refusal_while_loading_leaves_none():
    ranks = group(Call("refuse", (0,)))
    with pytest.raises(UserError, match="the reason"):
        ranks.ask(both("echo"))
    with pytest.raises(UserError, match="the reason"):
        ranks.ask(both("echo"))


def test_an_interrupted_request_leaves_no_answer_behind(ranks):
    """The answer of the interrupted one would be taken for that of the next."""
    old = ranks.ask(both("echo"))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            ranks.ask(both("hang", 1))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert all(gone(pid) for _, pid in old)
    assert [rank for rank, _ in ranks.ask(both("echo"))] == [0, 1]


def test_ranks_end_with_their_caller(ranks):
    """An idle rank whose caller is gone has nobody to answer."""
    pids = [pid for _, pid in ranks.ask(both("echo"))]
    for link in ranks._transport._links:  # what the system does when the caller dies
        link.close()
    for process in ranks._transport._processes:
        assert process.wait(30) == 0
    assert all(gone(pid) for pid in pids)


def test_a_rank_that_hangs_ends_itself():
    """Should its caller be gone too: in a collective, that is a call which never comes back to Python."""
    code = "import threading; from softprior.models.rank_group import bounded\nwith bounded(0.5): "
    hanging = [sys.executable, "-c", code + "lock = threading.Lock(); lock.acquire(); lock.acquire()"]
    ended = subprocess.run(hanging, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
