"""The hosted model through real Ray: the contract of hosts, equality with a local one, and what dies."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from softprior.errors import UserError
from softprior.models import hosted
from softprior.models.encoder_decoder import EncoderDecoderLM
from softprior.models.hosted import HostedLM
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.protocol import Comparison, FrozenLM
from softprior.models.replica import start_replica, wait_for
from softprior.prompt import Batch
from softprior.studies.cluster import NICENESS
from softprior.studies.ray_private import bare_cluster
from softprior.studies.watchdog import stalls, watched
from softprior.testing.families import random_model
from softprior.testing.hosts import CLOSE, PASSED_ON, example_batch, example_prompts

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

NO_THREADS = {"env_vars": {"OMP_NUM_THREADS": "1"}}


def random_host(family: str) -> FrozenLM:
    return LocalLM(random_model(family, ATTENTION), "weights")


def random_t5() -> FrozenLM:
    return EncoderDecoderLM(random_model("t5", None), "weights")


def unloadable() -> FrozenLM:
    raise UserError("there is no such model; choose another")


def deadly() -> FrozenLM:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


LLAMA = partial(random_host, "llama")


def replica(load: Any = LLAMA, tokens: int | None = 500) -> Any:
    return start_replica(load, tokens, num_cpus=0, runtime_env=NO_THREADS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    # Workers cannot import a test module, so what is in it travels as it is.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as patch, bare_cluster():
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv(NICENESS, "0")  # at Ray's own, replicas wait for all other tests
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=128 * 2**20,
            _system_config={"prestart_worker_first_driver": False},
        )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def replicas(cluster: None) -> list[Any]:
    started = [replica(), replica()]
    wait_for(started)
    return started


@pytest.fixture(scope="module")
def local() -> FrozenLM:
    return random_host("llama")


@pytest.mark.parametrize(
    "check", PASSED_ON["decoder"], ids=lambda check: check.__name__.removeprefix("check_")
)
def test_contract(replicas, check):
    with HostedLM(replicas[:1]).joined() as host:
        check(host, random_model("llama"))


@pytest.mark.faults  # not for what it kills: for the process and the whole contract
def test_a_host_of_one_prompt_at_a_time_keeps_the_contract_too(cluster):
    one = replica(random_t5)
    for check in PASSED_ON["encoder"]:
        check(HostedLM([one]), random_model("t5"))
    ray.kill(one)


def test_it_answers_as_the_local_host_does(replicas, local):
    host = HostedLM(replicas)
    batch = example_batch(local.info())
    assert host.info()._replace(computing=local.info().computing) == local.info()
    assert "threads" in host.info().computing
    assert host.sites() == local.sites()
    for prompt in example_prompts(local).values():
        found, expected = host.loss(prompt, batch, grad=True), local.loss(prompt, batch, grad=True)
        # The same arithmetic in another process: nothing else was in the pass.
        assert torch.equal(found.nll, expected.nll)
        for place, gradient in expected.gradient.items():
            assert torch.equal(found.gradient[place], gradient)
        answers = (h.generate(prompt, batch, max_new=5, stop=frozenset({3})) for h in (host, local))
        assert next(answers) == next(answers)
    host.leave()


def test_trials_that_ask_at_the_same_time_share_passes_and_get_their_own_answers(replicas, local):
    before = ray.get(replicas[0].served.remote())
    cases = [(example_prompts(local, seed)["soft"], example_batch(local.info(), seed)) for seed in range(4)]
    worst: list[float] = []

    def trial(prompt: Any, batch: Any) -> None:
        expected = local.loss(prompt, batch, grad=True)
        with HostedLM(replicas[:1]).joined() as host:
            for _ in range(15):
                found = host.loss(prompt, batch, grad=True)
                for one, other in [(found.nll, expected.nll), *pairs(found, expected)]:
                    worst.append(float((one - other).abs().max() / other.abs().max()))

    def pairs(found: Any, expected: Any) -> list[tuple[Any, Any]]:
        return [(found.gradient[place], expected.gradient[place]) for place in expected.gradient]

    threads = [threading.Thread(target=trial, args=case) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = ray.get(replicas[0].served.remote())
    assert len(worst) == 4 * 15 * 2
    assert max(worst) <= CLOSE
    assert after.calls - before.calls == 60
    assert after.turns - before.turns < 50, "hardly any pass was shared"


def test_the_table_of_embeddings_is_shared_in_memory(replicas, local, monkeypatch):
    monkeypatch.setattr(hosted, "CHUNK", 50)
    before = [ray.get(each.served.remote()).calls for each in replicas]
    ids = torch.arange(97)
    first, second = HostedLM(replicas), HostedLM(replicas)
    found = [first.embed(ids), second.embed(ids)]
    assert torch.equal(found[0], local.embed(ids))
    assert found[0].data_ptr() == found[1].data_ptr()
    assert torch.equal(first.embed(ids[5:70]), local.embed(ids[5:70]))
    assert {client._seat for client in (first, second)} == {0, 1}
    calls = [ray.get(each.served.remote()).calls - b for each, b in zip(replicas, before, strict=True)]
    assert sorted(calls) == [0, 2]
    first.leave()
    second.leave()


def test_clients_are_seated_evenly_and_keep_their_seats(replicas):
    clients = [HostedLM(replicas) for _ in range(4)]
    before = [ray.get(one.served.remote()).calls for one in replicas]
    for client in clients * 3:
        client.embed(torch.arange(2))
    calls = [ray.get(one.served.remote()).calls - b for one, b in zip(replicas, before, strict=True)]
    assert calls == [6, 6]
    left = clients[0]._asked()._actor_id
    for client in clients[::2]:
        client.leave()
    more = [HostedLM(replicas) for _ in range(2)]
    assert {client._asked()._actor_id for client in more} == {left}
    for client in [*clients[1::2], *more]:
        client.leave()


def test_a_client_travels_without_weights(replicas, local):
    """Trials that are clients in processes of their own are in tests/studies/search/test_search_runs.py."""
    text = ray.cloudpickle.dumps(HostedLM(replicas))
    assert len(text) < 10_000
    batch = example_batch(local.info())
    with ray.cloudpickle.loads(text).joined() as own:
        assert torch.equal(own.loss(None, batch).nll, local.loss(None, batch).nll)
    assert pickle.loads(pickle.dumps(local.info())) == local.info()


@pytest.mark.faults
def test_a_replica_that_is_killed_comes_back_and_the_question_is_repeated(cluster, local):
    one = replica(tokens=1)
    host = HostedLM([one])
    prompt, batch = example_prompts(local)["soft"], example_batch(local.info())
    expected = local.loss(prompt, batch, grad=True)
    host.info()
    first = process(one)
    threading.Timer(0.3, os.kill, (first, signal.SIGKILL)).start()
    deadline = time.monotonic() + 120
    while (now := process(one)) == first:
        found = host.loss(prompt, batch, grad=True)
        assert time.monotonic() < deadline
    assert now != first
    found = host.loss(prompt, batch, grad=True)
    torch.testing.assert_close(found.nll, expected.nll, rtol=1e-4, atol=1e-4)
    ray.kill(one)
    with pytest.raises(UserError, match=r"the model's process died") as lost:
        host.loss(prompt, batch)
    assert "\n" not in str(lost.value)


def fails_once(mark: Path) -> FrozenLM:
    """Loads the first time and the third."""
    count = len(mark.read_text()) if mark.exists() else 0
    mark.write_text("." * (count + 1))
    if count == 1:
        raise RuntimeError("the disk is away")
    return random_host("llama")


@pytest.mark.faults
def test_a_replica_that_cannot_load_its_model_again_is_given_another_try(cluster, local, tmp_path):
    one = replica(partial(fails_once, tmp_path / "mark"))
    host, batch = HostedLM([one]), example_batch(local.info())
    host.info()
    os.kill(process(one), signal.SIGKILL)
    torch.testing.assert_close(host.loss(None, batch).nll, local.loss(None, batch).nll, rtol=1e-4, atol=1e-4)
    assert len((tmp_path / "mark").read_text()) == 3
    ray.kill(one)
    with pytest.raises(UserError, match=r"a replica of the model died .*; lower placement\.replicas") as lost:
        wait_for([one])
    assert "\n" not in str(lost.value)


def process(one: Any) -> int:
    return ray.get(one.__ray_call__.remote(lambda _: os.getpid()))


class HangsOnce(LocalLM):
    """A host whose first comparison never ends."""

    def __init__(self, mark: Path) -> None:
        super().__init__(random_model("llama", ATTENTION), "weights")
        self._mark = mark

    def compare(self, a: Any, b: Any, batch: Batch) -> Comparison:
        if not self._mark.exists():
            self._mark.touch()
            threading.Event().wait()
        return super().compare(a, b, batch)


@pytest.mark.faults
def test_a_replica_that_hangs_is_ended_and_comes_back(cluster, local, tmp_path):
    file = tmp_path / "replica-stalls.txt"
    guard = partial(watched, 0.05, file, lambda: "answering")
    one = start_replica(partial(HangsOnce, tmp_path / "mark"), 500, guard, num_cpus=0, runtime_env=NO_THREADS)
    host = HostedLM([one])
    prompt, batch = example_prompts(local)["soft"], example_batch(local.info())
    host.info()
    time.sleep(4)  # nobody asks anything for longer than the limit
    found = host.compare(prompt, None, batch)
    assert stalls(file) == ["answering"]
    for got, expected in zip(found, local.compare(prompt, None, batch), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    ray.kill(one)


@pytest.mark.faults
def test_what_a_dead_trial_waits_for_is_dropped(replicas, local):
    one = replicas[0]
    first = ray.get(one.served.remote()).calls
    prompt, batch = example_prompts(local)["soft"], example_batch(local.info())

    @ray.remote(num_cpus=0, max_concurrency=8)
    class Trial:
        def ask(self, client: HostedLM) -> None:
            with client.joined() as own:
                own.loss(prompt, batch)
                for _ in range(10_000):
                    own.loss(prompt, batch, grad=True)

        def there(self) -> bool:
            return True

    trial = Trial.remote()
    asked = trial.ask.remote(HostedLM([one]))
    assert ray.get(trial.there.remote())
    deadline = time.monotonic() + 60
    while ray.get(one.served.remote()).calls < first + 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ray.get(one.followed.remote()) == 1
    ray.kill(trial)
    while ray.get(one.followed.remote()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(asked)
    before = ray.get(one.served.remote()).calls
    time.sleep(0.5)
    assert ray.get(one.served.remote()).calls <= before + 1
    assert torch.equal(HostedLM([one]).loss(None, batch).tokens, batch.labels.sum(1))


@pytest.mark.faults
def test_a_model_that_cannot_be_had_is_said_in_its_own_sentence(cluster):
    one = replica(unloadable)
    with pytest.raises(UserError, match=r"^there is no such model; choose another$"):
        wait_for([one])
    with pytest.raises(UserError, match=r"^there is no such model; choose another$"):
        HostedLM([one]).loss(None, example_batch(random_host("llama").info()))
    assert ray.get(one.served.remote()).calls == 0
    ray.get(one.leave.remote(HostedLM([one])._client))
    ray.kill(one)


@pytest.mark.faults
def test_a_replica_that_dies_of_loading_is_told_and_not_started_for_ever(cluster, tmp_path):
    one = replica(deadly)
    with pytest.raises(UserError, match="died before it had loaded the weights"):
        wait_for([one])
    ray.kill(one)
