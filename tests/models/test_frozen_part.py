"""Losses that start at the first block with vectors: those of whole passes, however rows are kept."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from softprior.assets.cache import cache_root
from softprior.errors import UserError
from softprior.inputs.specs import FrozenCache, ModelSpec, StudySpec
from softprior.inputs.validation import validate
from softprior.methods import METHODS
from softprior.models import identity as identities
from softprior.models.identity import identity
from softprior.models.kept_rows import KeptRows
from softprior.models.load import load_local
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.passes import some_rows
from softprior.models.protocol import Request
from softprior.priors import PRIORS
from softprior.prompt import Place
from softprior.results.folder import StudyFolder
from softprior.studies.plan import plan_study
from softprior.testing.families import FAMILIES, OTHER_FAMILIES, random_model
from softprior.testing.hosts import example_batch
from softprior.training.environment import environment
from softprior.training.setup import Setup
from softprior.training.trial import Trial
from tests.builders import trial
from tests.distances import apart

TOLERANCE = 1e-5
"""Rows that go through the lower blocks alone are rounded differently from rows in a batch."""

IN_MEMORY = FrozenCache(disk=0)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTPRIOR_CACHE", str(tmp_path))


def prompts_of(host: LocalLM, count: int = 3) -> dict[str, dict[Place, torch.Tensor]]:
    """Prompts of the last two blocks."""
    generator = torch.Generator().manual_seed(0)
    blocks = range(host.info().blocks)[-2:]
    places = {
        "deep": [Place(block, after="cut") for block in blocks],
        "prefix": [Place(block, kind) for block in blocks for kind in ("key", "value")],
    }
    return {
        name: {place: torch.randn(count, host.width(place), generator=generator) for place in found}
        for name, found in places.items()
    }


def made(family: str, limits: FrozenCache = IN_MEMORY) -> LocalLM:
    host = LocalLM(random_model(family, ATTENTION), "weights")
    host.keep_rows(KeptRows(limits))
    return host


@pytest.mark.parametrize("family", sorted({*FAMILIES, *OTHER_FAMILIES} - {"falcon"}))
def test_losses_and_gradients_are_those_of_whole_passes(family):
    host = made(family)
    frozen = host.frozen
    batch = example_batch(host.info())
    for name, prompt in prompts_of(host).items():
        other = {place: 0.5 + vectors for place, vectors in prompt.items()}
        requests = [Request(each, batch, grad=True) for each in (prompt, other)]
        host.frozen = None
        whole = host.loss_many(requests)
        host.frozen = frozen
        for one, right in zip(host.loss_many(requests), whole, strict=True):
            assert apart(one.nll, right.nll) <= TOLERANCE, name
            for place, gradient in right.gradient.items():
                assert apart(one.gradient[place], gradient) <= 1e-4, f"{name}, {place.name}"


def test_what_was_kept_changes_no_bit(own_cache):
    """However a row came to be kept: in which batch, in which order, forgotten in between, or in a file."""
    batch = example_batch(made("llama").info())
    row = batch.lengths.max() * 32 * 4
    right = {}
    for limits in (IN_MEMORY, FrozenCache(memory=float(row) * 1.5e-9, disk=0), FrozenCache(memory=0)):
        host = made("llama", limits)
        for name, prompt in prompts_of(host).items():
            host.loss(prompt, some_rows(batch, (1, 2)))  # alone, and before the others
            for _ in range(2):
                found = host.loss(prompt, batch, grad=True)
                expected = right.setdefault(name, found)
                assert torch.equal(found.nll, expected.nll)
                assert all(torch.equal(found.gradient[at], expected.gradient[at]) for at in prompt)


def test_another_process_starts_with_what_is_in_files(own_cache, count_rows):
    limits = FrozenCache(disk=0.001)
    host, batch = made("llama", limits), example_batch(made("llama").info())
    prompt = prompts_of(host)["prefix"]
    first = host.loss(prompt, batch)
    computed = len(count_rows)
    assert computed > 0
    count_rows.clear()
    assert torch.equal(made("llama", limits).loss(prompt, batch).nll, first.nll)
    # What the check of the new host reads is in files, too.
    assert not count_rows


def test_a_trial_that_goes_on_equals_one_that_was_not_stopped(tmp_path):
    method = METHODS["prefix"](tokens=4, blocks=(2, 3))
    short, long = (trial(method, PRIORS["zeros"](), steps=n, keep_checkpoint=True) for n in (1, 2))
    loaded, records = load_local(ModelSpec(id="tiny", device="cpu", **KEPT)), {}
    for root, specs in ("whole", [long]), ("parts", [short, long]):
        for spec in specs:
            loaded.host.keep_rows(KeptRows(IN_MEMORY))  # as in a process of its own
            setup = Setup(spec, loaded.host, loaded.tokenizer, loaded.fingerprint)
            records[root] = Trial(setup, StudyFolder(tmp_path / root), lambda _: None).run()
    parts, whole = records["parts"], records["whole"]
    assert parts.continued is not None
    assert (parts.steps, parts.test, parts.untrained) == (whole.steps, whole.test, whole.untrained)
    assert parts.geometry == whole.geometry
    assert parts.environment["frozen_cache"] is True


@pytest.fixture
def count_rows(monkeypatch):
    """Keys of the rows that go through the lower blocks."""
    put, keys = KeptRows.put, []
    monkeypatch.setattr(KeptRows, "put", lambda self, key, states: (keys.append(key), put(self, key, states)))
    return keys


def test_files_are_taken_as_lost_where_they_are_damaged(own_cache):
    kept, states = KeptRows(FrozenCache(memory=0)), torch.randn(3, 4)
    kept.put("ab", states)
    kept.put("abc", -states)
    one, other = sorted((cache_root() / "frozen").glob("*/*"))
    assert torch.equal(kept.get("ab"), states)
    one.write_bytes(other.read_bytes())
    assert kept.get("ab") is None, "a file with another name"
    one.write_bytes(other.read_bytes()[:-5])
    assert kept.get("ab") is None
    torn = bytearray(other.read_bytes())
    torn[-40:] = bytes(40)
    other.write_bytes(bytes(torn))
    assert kept.get("abc") is None, "zeros where a power cut left them"
    kept.put("ab", states)
    assert torch.equal(kept.get("ab"), states)
    assert len(list((cache_root() / "frozen").glob("*/*"))) == 2, "no file is left under another name"


def test_files_used_the_longest_ago_go_first(own_cache):
    states = torch.randn(10, 25)
    limits = FrozenCache(memory=0, disk=3.5e-6)  # three files of 1,000 bytes and their headers
    kept = KeptRows(limits)
    for age, key in enumerate(("cc", "bb", "aa")):
        kept.put(key, states)
        long_ago = time.time() - 1000 - age
        os.utime(cache_root() / "frozen" / key / f"{key}.safetensors", (long_ago, long_ago))
    assert kept.get("aa") is not None, "which is used now"
    kept.put("dd", states)
    assert [key for key in ("aa", "bb", "cc", "dd") if kept.get(key) is not None] == ["aa", "dd"]


def test_two_writers_at_once_get_right_states_or_none(own_cache):
    """Two trials that keep the same rows in a folder that is too small for them, which both trim."""
    rows = {f"{i:02x}": torch.full((10, 25), float(i)) for i in range(8)}
    limits = FrozenCache(memory=0, disk=5e-6)  # four files

    def work(keys):
        kept, found = KeptRows(limits), []
        for key in keys * 2:
            found.append((key, kept.get(key)))
            kept.put(key, rows[key])
        return found

    with ThreadPoolExecutor(2) as pool:
        both = [*pool.map(work, (list(rows), list(reversed(rows))))]
    assert all(states is None or torch.equal(states, rows[key]) for found in both for key, states in found)
    KeptRows(limits).put("08", torch.ones(10, 25))  # trims once more, with nobody beside it
    left = list((cache_root() / "frozen").glob("*/*"))
    assert not [path for path in left if path.name.startswith(".")]
    assert 0 < sum(path.stat().st_size for path in left) <= limits.disk * 1e9


def test_what_a_killed_writer_leaves_goes_when_room_is_needed(own_cache):
    kept, states = KeptRows(FrozenCache(memory=0, disk=4e-6)), torch.randn(10, 25)
    kept.put("aa", states)
    killed, writing = (cache_root() / "frozen" / "aa" / f".aa.{i}" for i in range(2))
    for path, age in ((killed, 7200), (writing, 60)):
        path.write_bytes(bytes(1000))
        os.utime(path, (time.time() - age,) * 2)
    kept.put("bb", states)
    assert (killed.exists(), writing.exists()) == (False, True)
    assert kept.get("aa") is not None


def test_a_row_is_kept_under_all_that_decides_its_states(count_rows, monkeypatch):
    host = made("llama")
    batch = example_batch(host.info())

    def key(prompt, rows=(0, 1)):
        count_rows.clear()
        host.keep_rows(KeptRows(IN_MEMORY))
        host.loss(prompt, some_rows(batch, rows))
        return count_rows[0]

    deep, prefix = prompts_of(host).values()
    own = key(deep)
    assert key(prompts_of(host, count=5)["deep"]) == own, "cut vectors are at the block's own positions"
    others = {key(prefix), key(prompts_of(host, count=5)["prefix"]), key(deep, rows=(1, 2))}
    others.add(key({Place(1, after="cut"): torch.ones(3, 32)}))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    others.add(key(deep))
    assert len(others - {own}) == 5


def test_model_machine_and_versions_are_in_every_key(monkeypatch):
    info, cpu = made("llama").info(), torch.device("cpu")
    found = [identity(info, cpu)]
    for part in ("fingerprint", "dtype", "device", "kernels"):
        found.append(identity(info._replace(**{part: "other"}), cpu))
    for of, name, other in (
        (identities, "_versions", lambda: ("other",)),
        (identities, "SOURCES", "other"),
        (identities.platform, "node", lambda: "other"),
        (identities.platform, "machine", lambda: "other"),
        (torch.backends.cpu, "get_cpu_capability", lambda: "other"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(of, name, other)
            found.append(identity(info, cpu))
    assert len({str(one) for one in found}) == len(found)


def test_a_full_disk_changes_nothing(own_cache, tmp_path):
    kept, states = KeptRows(FrozenCache()), torch.randn(3, 4)
    (tmp_path / "frozen" / "ab").write_text("in the way of a folder")
    kept.put("ab", states)
    assert torch.equal(kept.get("ab"), states)
    kept.put("cd", states)
    assert KeptRows(FrozenCache()).get("cd") is None, "it is not asked again"


def test_a_family_that_carries_more_from_block_to_block_is_refused():
    host, carried = made("llama"), []
    layers = host._blocks.layers
    layers[0].register_forward_hook(lambda _, __, out: carried.append(out))
    layers[-1].register_forward_hook(lambda _, __, out: out + carried[-1])
    batch = example_batch(host.info())
    with pytest.raises(UserError, match="this model's family gives other results there; leave frozen_cache"):
        host.loss(prompts_of(host)["prefix"], batch)


def test_it_decides_how_a_model_is_loaded_and_no_trials_identity():
    plans = {kept: planned({"frozen_cache": kept}) for kept in (None, True)}
    assert [one.id for one in plans[None].trials] == [one.id for one in plans[True].trials]
    assert [note for plan in plans.values() for note in plan.notes if "frozen_cache" in note] == [
        "model.frozen_cache: losses of prefix start at block 2 of 4; no effect on soft, whose vectors begin "
        "at block 0 or behind the first token"
    ]
    plain, host = (load_local(ModelSpec(id="tiny", device="cpu", **kept)).host for kept in ({}, KEPT))
    assert not plain.info().frozen_cache
    assert host.info().frozen_cache
    assert environment(1.0, host.info())["frozen_cache"] is True
    assert "frozen_cache" not in environment(1.0, plain.info())
    batch = example_batch(host.info())
    for prompt in prompts_of(host).values():
        assert apart(host.loss(prompt, batch).nll, plain.loss(prompt, batch).nll) <= TOLERANCE


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"methods": ["soft", "deep"]}, "the vectors of every method begin at block 0"),
        ({"placement": {"hosts": "shared", "ranks": 2, "cpus": 2}}, "with placement.ranks = 2"),
    ],
)
def test_a_plan_says_where_it_has_no_effect(changed, why):
    notes = [note for note in planned(KEPT, **changed).notes if "frozen_cache has no effect" in note]
    assert len(notes) == 1
    assert why in notes[0]


def test_keeping_nothing_is_refused():
    with pytest.raises(UserError, match="keeps nothing, as memory and disk are both 0; write frozen_cache"):
        planned({"frozen_cache": {"memory": 0, "disk": 0}})


KEPT = {"frozen_cache": True}


def planned(model, **changed):
    study = {
        "name": "frozen",
        "model": {"id": "tiny", **model},
        "priors": ["isotropic"],
        "methods": [{"prefix": {"blocks": [2, 3]}}, "soft"],
        "tasks": ["arithmetic"],
        "rates": [0.1],
        "seeds": [0],
        "training": {"steps": 1, "batch": 2},
    }
    return plan_study(validate(StudySpec, {**study, **changed}, "the study"))
