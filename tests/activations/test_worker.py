"""One worker on the tiny model, without Ray: what it writes, and what a failure leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Digits, Sequence, Whitespace
from transformers import PreTrainedTokenizerFast

from softprior.activations.folder import RunFolder
from softprior.activations.merging import Summary, finish, saved_shards
from softprior.activations.outcome import Outcome
from softprior.activations.plan import RunPlan, plan_activations
from softprior.activations.run import _full_disk_told, _missing, require_whole
from softprior.activations.spec import ActivationsSpec
from softprior.activations.task_texts import TaskTexts
from softprior.activations.worker import Worker
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.models.load import load_local
from softprior.priors.fitted import Fitted
from softprior.prompt import Place
from softprior.results.digested import read_header, write_digested
from softprior.results.posteriors import Posterior, save_posterior
from softprior.results.tensor_files import open_tensors
from softprior.seeding import torch_generator
from softprior.statistics.store import KEY, load_statistics, load_tables, stored, token_classes
from softprior.statistics.units import VOCABULARY
from softprior.testing.families import random_model
from softprior.training.source import PlaceSource
from tests.disk import disk_of

SITES = ["resid.0", "resid.3", "final", "key.2"]


@pytest.fixture(scope="module")
def plan() -> RunPlan:
    return plan_activations(spec())


def spec(**changes) -> ActivationsSpec:
    given = {
        "name": "small",
        "model": "tiny",
        "tasks": [{"arithmetic": {"train_examples": 45, "validation_examples": 9, "test_examples": 9}}],
        "sites": SITES,
        "sample": 40,
        "sequences": 12,
        "shard_tokens": 400,
        "resources": {"cpus": 1},
    }
    return ActivationsSpec.model_validate(given | changes)


def worker(plan: RunPlan, folder: RunFolder, **identity: str) -> Worker:
    return Worker(plan.spec.model_dump_json(), {**plan.identity, **identity}, str(folder.root))


def read(one: Worker, plan: RunPlan, *numbers: int) -> list[Outcome]:
    facts = [plan.shard_facts()[number] for number in numbers]
    batch = {"shard": np.array([json.dumps(fact) for fact in facts])}
    return [Outcome.of(text) for text in one(batch)["result"]]


def everything(folder: RunFolder) -> tuple[dict[str, torch.Tensor], dict[str, dict]]:
    """All tensors of a store by file and name, and every file's header."""
    tensors, headers = {}, {}
    for path in folder.store.rglob("*.safetensors"):
        name = str(path.relative_to(folder.store))
        with open_tensors(path) as file:
            tensors |= {f"{name}:{key}": file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            headers[name] = json.loads(file.metadata()[KEY])
    return tensors, headers


def assert_same_store(one: RunFolder, other: RunFolder) -> None:
    """Headers, samples, tables and counts bit for bit, moments to 1e-12 of the largest."""
    (a, headers), (b, others) = everything(one), everything(other)
    assert headers == others
    assert set(a) == set(b)
    for name, tensor in a.items():
        if name.rpartition("/")[2] in ("mean", "scatter", "m3", "m4") or "//groups/" in name:
            assert float((tensor - b[name]).abs().max()) <= 1e-12 * float(tensor.abs().max()), name
        else:
            torch.testing.assert_close(b[name], tensor, rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.fixture(scope="module")
def undisturbed(plan, tmp_path_factory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("undisturbed"))
    outcomes = read(worker(plan, folder), plan, *range(len(plan.shards)))
    assert not any(outcome.error for outcome in outcomes)
    finish(plan, folder, {})
    return folder


def test_the_store_has_every_site_and_the_vocabulary(plan, undisturbed):
    assert stored(undisturbed.store) == {
        "arithmetic": ["resid.0", "resid.3", "final", "key.2"],
        VOCABULARY: ["resid.0"],
    }
    summary = json.loads(undisturbed.summary.read_text())
    assert summary["tasks"]["arithmetic"]["texts"] == 45
    assert summary["tasks"]["arithmetic"]["documents"] == 45
    assert summary["failed"] == {}
    assert not undisturbed.parts.exists()
    both = load_statistics(undisturbed.store, "arithmetic", "resid.3", "all+template+sinks", None)
    assert both.moments.count == summary["tasks"]["arithmetic"]["tokens"]
    alone = load_statistics(undisturbed.store, "arithmetic", "resid.3", "all", None)
    sinks = load_statistics(undisturbed.store, "arithmetic", "resid.3", "sinks", None)
    assert alone.sinks == sinks.moments.count >= 45
    template = load_statistics(undisturbed.store, "arithmetic", "resid.3", "template", None)
    assert both.moments.count == alone.moments.count + template.moments.count + sinks.moments.count
    assert template.moments.count > 0
    tables = load_tables(undisturbed.store, "arithmetic", "resid.3")
    assert len(tables.groups) == 9
    assert sum(count for count, _ in tables.groups.values()) == alone.moments.count
    assert tables.sequences["shuffled"].tolist().count(1) == 12
    with pytest.raises(UserError, match="adds token classes that share tokens"):
        load_statistics(undisturbed.store, "arithmetic", "resid.3", "all+last", None)


def test_two_workers_in_any_order_make_the_same_store(plan, undisturbed, tmp_path):
    folder = RunFolder(tmp_path)
    last = len(plan.shards) - 1
    first, second = worker(plan, folder), worker(plan, folder)
    assert last >= 3
    read(second, plan, last, 1)
    read(first, plan, *[number for number in range(last, -1, -1) if number not in (last, 1)])
    finish(plan, folder, {})
    assert_same_store(undisturbed, folder)


def test_documents_in_files_of_any_kind_are_the_same_to_two_workers(tmp_path):
    words = ["river", "stone", "a", "the"] * 15
    documents = [" ".join([word] * (3 + 7 * i % 50)) for i, word in enumerate(words)]
    (tmp_path / "lines.txt").write_text("".join(f"{text}\n" for text in documents))
    rows = [json.dumps({"text": text}) for text in documents]
    (tmp_path / "rows.jsonl").write_text("\n".join([*rows[:7], '{"text": 3}', "no JSON", *rows[7:]]) + "\n")
    parquet.write_table(pa.table({"text": documents}), tmp_path / "table.parquet", row_group_size=9)
    files = [{"name": path.stem, "path": str(path)} for path in tmp_path.iterdir()]
    plan = plan_activations(spec(tasks=[], files=files, shard_tokens=200))
    folder = RunFolder(tmp_path / "read")
    first, second = worker(plan, folder), worker(plan, folder)
    outcomes = read(first, plan, *range(0, len(plan.shards), 2))
    outcomes += read(second, plan, *range(1, len(plan.shards), 2))
    assert not any(outcome.error for outcome in outcomes)
    for name, found in finish(plan, folder, {})["tasks"].items():
        if name != "vocabulary":
            skipped = 2 * (name == "rows")
            assert (found["texts"], found["documents"], found["skipped"]) == (60, 60, skipped), name
    for site in ("resid.0", "resid.3", "final", "key.2"):
        one, *others = (
            load_statistics(folder.store, name, site, "all", None).moments
            for name in ("lines", "rows", "table")
        )
        for other in others:
            assert other.count == one.count
            torch.testing.assert_close(other.mean, one.mean, rtol=1e-6, atol=1e-6)
            # Products are float32, and other documents share a batch.
            torch.testing.assert_close(other.covariance(), one.covariance(), rtol=1e-5, atol=1e-5)


def test_a_shard_on_disk_is_never_counted_again(plan, undisturbed, tmp_path):
    """A worker that died after writing: Ray gives its shard out again, to another one."""
    folder = RunFolder(tmp_path)
    read(worker(plan, folder), plan, 1, 2)
    again = worker(plan, folder)
    outcomes = read(again, plan, *range(len(plan.shards)))
    assert not any(outcome.error for outcome in outcomes)
    finish(plan, folder, {})
    assert_same_store(undisturbed, folder)


def test_shards_that_two_workers_have_count_once(plan, undisturbed, tmp_path):
    """A worker that was thought dead and was not: the partial with fewer shards goes, and is made up for."""
    folder, elsewhere = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "other")
    read(worker(plan, folder), plan, 1, 2, 3)
    read(worker(plan, elsewhere), plan, 3, 4)
    (late,) = elsewhere.partials("arithmetic")
    shutil.copy(late.path, folder.parts)
    assert len(folder.partials("arithmetic")) == 2
    missing = [shard.name for shard in _missing(plan, folder)]
    assert missing == [plan.shards[0].name, *(shard.name for shard in plan.shards[4:])]
    assert len(folder.partials("arithmetic")) == 1
    read(worker(plan, folder), plan, 0, *range(4, len(plan.shards)))
    finish(plan, folder, {})
    assert_same_store(undisturbed, folder)


def test_sums_and_norms_of_another_task_are_refused(plan, tmp_path):
    folder = RunFolder(tmp_path)
    read(worker(plan, folder), plan, 1)
    (own,) = folder.partials("arithmetic")
    shutil.copy(own.path, folder.partial("other", "worker"))
    with pytest.raises(UserError, match="has sums of arithmetic, not of other; remove it"):
        folder.partials("other")
    write_digested(folder.calibration("arithmetic"), {"task": "other", "medians": {}})
    (outcome,) = read(worker(plan, folder), plan, 2)
    assert "has norms of other, not of arithmetic; remove it" in outcome.error


def test_a_store_that_lacks_a_file_or_has_another_runs_is_told(undisturbed, tmp_path):
    shutil.copytree(undisturbed.root, tmp_path / "copy")
    store = tmp_path / "copy" / "store"
    summary = cast(Summary, read_header(RunFolder(tmp_path / "copy").summary))
    require_whole(store, summary)
    for name, said in (
        ("data.arithmetic", "other data"),
        ("model", "another model"),
        ("prompt", "another prompt"),
    ):
        with pytest.raises(UserError, match=f"is of {said} than the run; put it back, or remove"):
            require_whole(store, {**summary, "identity": summary["identity"] | {name: "another"}})
    one, other, *_ = summary["tasks"]["arithmetic"]["sites"]
    path = store / "arithmetic" / f"{other}.safetensors"
    shutil.copy(store / "arithmetic" / f"{one}.safetensors", path)
    with pytest.raises(UserError, match=f"activations of arithmetic at {one}; put it back"):
        require_whole(store, summary)
    path.unlink()
    with pytest.raises(UserError, match=f"arithmetic lacks {other}.safetensors, which the run has"):
        require_whole(store, summary)


def test_a_full_disk_loses_nothing(plan, undisturbed, tmp_path):
    folder = RunFolder(tmp_path)
    one = worker(plan, folder)
    read(one, plan, 1)
    before = {path: path.read_bytes() for path in folder.parts.glob("*.safetensors")}
    with disk_of(20_000):
        (outcome,) = read(one, plan, 2)
    assert outcome.ends == "unwritable"
    assert {path: path.read_bytes() for path in folder.parts.glob("*.safetensors")} == before
    assert not list(folder.parts.glob("*.part"))
    read(one, plan, *range(len(plan.shards)))
    finish(plan, folder, {})
    assert_same_store(undisturbed, folder)


def test_a_disk_that_is_full_from_the_start_is_no_failed_shard(plan, undisturbed, tmp_path):
    folder = RunFolder(tmp_path)
    one = worker(plan, folder)
    with disk_of(10):
        (outcome,) = read(one, plan, 1)
    assert outcome.ends == "unwritable"
    assert "medians.json" in outcome.error or "File too large" in outcome.error
    read(one, plan, 1)
    one._beat = 0.0
    with disk_of(10):  # a beat says how far it is and no more
        one._tell(plan.shards[1], 7)


def test_a_disk_that_is_full_at_the_end_leaves_the_old_store_and_the_sums(plan, undisturbed, tmp_path):
    folder = RunFolder(tmp_path)
    read(worker(plan, folder), plan, *range(len(plan.shards)))
    shutil.copytree(undisturbed.store, folder.store)
    sentence = (
        rf"{tmp_path} cannot be written \(.*\); {len(plan.shards)} of {len(plan.shards)} shards are kept"
    )
    with (
        disk_of(20_000),
        pytest.raises(UserError, match=sentence),
        _full_disk_told(plan, folder),
    ):
        finish(plan, folder, {})
    assert_same_store(undisturbed, folder)
    shutil.rmtree(folder.store)
    finish(plan, folder, {})
    assert_same_store(undisturbed, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["activations.json", "store"]


def test_a_task_of_which_nothing_is_left_is_told(tmp_path, plan):
    folder = RunFolder(tmp_path / "a")
    read(worker(plan, folder), plan, 0)
    # The task that is told is the one that failed, though another's name begins with its own.
    failed = {"arithmetic-b-00000": "another", **{shard.name: "why" for shard in plan.shards[1:]}}
    with pytest.raises(UserError, match="nothing of arithmetic could be read: why"):
        finish(plan, folder, failed)


def damaged_table(path):
    """A Parquet file whose footer is whole and whose rows are not."""
    parquet.write_table(pa.table({"text": [f"Line {i} of many." for i in range(500)]}), path)
    whole = bytearray(path.read_bytes())
    whole[4:2000] = bytes(1996)
    path.write_bytes(whole)
    return path


def test_a_task_of_which_nothing_could_be_read_costs_the_others_nothing(tmp_path):
    path = damaged_table(tmp_path / "rows.parquet")
    both = plan_activations(spec(files=[{"name": "rows", "path": str(path)}]))
    folder = RunFolder(tmp_path / "run")
    outcomes = read(worker(both, folder), both, *range(len(both.shards)))
    failed = {outcome.shard: outcome.error for outcome in outcomes if outcome.error}
    assert list(failed) == ["rows-00000"]
    summary = finish(both, folder, failed)
    assert list(summary["tasks"]) == [VOCABULARY, "arithmetic"]
    assert summary["failed"] == failed
    assert list(stored(folder.store)) == ["arithmetic", VOCABULARY]
    assert len(saved_shards(both, folder)) == len(both.shards) - 1  # what there is stays, to go on from


def test_a_prior_of_fewer_tokens_than_dimensions_shrinks_and_says_so(tmp_path):
    (tmp_path / "few.txt").write_text("A short line of a few tokens, and no more.\n")
    files = [{"name": "few", "path": str(tmp_path / "few.txt")}]
    small = plan_activations(spec(tasks=[], files=files))
    folder = RunFolder(tmp_path / "run")
    read(worker(small, folder), small, 0, 1)
    finish(small, folder, {})
    moments = load_statistics(folder.store, "few", "resid.3", "all", None).moments
    assert 1 < moments.count < 128
    loaded = load_local(ModelSpec(id="tiny"))
    source = PlaceSource(loaded.host, loaded.tokenizer, Place(3, after="cut"), 5)
    prior = Fitted(statistics=folder.store, task="few").fit(source)
    assert prior.sample(torch_generator(0), 5).isfinite().all()
    assert 0 < prior.record()["shrinkage"] <= 1
    assert prior.record()["condition"] < 1e6  # of the sample alone it is infinite


def test_a_shard_that_fails_leaves_nothing_and_is_told(plan, undisturbed, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    one = worker(plan, folder)
    read(one, plan, 0, 1)
    whole, calls = TaskTexts.read, []

    def once(self, shard):
        calls.append(shard.name)
        reading = whole(self, shard)
        # Half of the shard goes through before a token that the model does not have.
        reading.texts[-1] = reading.texts[-1]._replace(tokens=[10**6] * len(reading.texts[-1].tokens))
        return reading

    monkeypatch.setattr(TaskTexts, "read", once)
    (outcome,) = read(one, plan, 2)
    assert outcome.error.startswith("the texts of arithmetic have token 1000000")
    assert calls.count(plan.shards[2].name) == 2  # it was tried again
    monkeypatch.undo()
    read(one, plan, *range(len(plan.shards)))
    finish(plan, folder, {})
    assert_same_store(undisturbed, folder)


def test_other_data_or_weights_than_planned_are_refused(plan, tmp_path):
    for name in ("model", "data.arithmetic"):
        with pytest.raises(UserError, match=f"{name} changed after the run was planned"):
            worker(plan, RunFolder(tmp_path), **{name: "other"})


def test_a_prompt_in_front_changes_what_is_seen(plan, undisturbed, tmp_path):
    vectors = {Place(0): torch.randn(4, 128, generator=torch.Generator().manual_seed(0))}
    path = tmp_path / "prompt.safetensors"
    save_posterior(path, Posterior({}, vectors, vectors, {}))
    prompted = plan_activations(spec(prompt=str(path)))
    assert prompted.key != plan.key
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(UserError, match="prompt changed after the run was planned"):
        worker(prompted, folder, prompt="other")
    read(worker(prompted, folder), prompted, *range(len(prompted.shards)))
    finish(prompted, folder, {})
    bare, steered = (
        [
            load_statistics(f.store, "arithmetic", site, "all+sinks", None).moments
            for site in ("resid.0", "resid.3")
        ]
        for f in (undisturbed, folder)
    )
    assert bare[0].count == steered[0].count  # the prompt's own vectors do not count
    torch.testing.assert_close(bare[0].mean, steered[0].mean, rtol=1e-5, atol=1e-6)
    assert float((bare[1].mean - steered[1].mean).abs().max()) > 1e-2
    save_posterior(path, Posterior({"model": {"fingerprint": "other" * 4}}, vectors, vectors, {}))
    with pytest.raises(UserError, match="was trained for another model"):
        plan_activations(spec(prompt=str(path)))
    save_posterior(path, Posterior({}, {Place(0): torch.zeros(4, 7)}, {Place(0): torch.zeros(4, 7)}, {}))
    with pytest.raises(UserError, match=r"has vectors of 7 dimensions at decoder\.0\.residual\.keep"):
        plan_activations(spec(prompt=str(path)))


def test_a_study_starts_a_prompt_from_the_store(undisturbed):
    """A prior fitted on the store, at the place's own site, priors of keys among them."""
    loaded = load_local(ModelSpec(id="tiny"))
    place, keys = Place(3, after="cut"), Place(2, kind="key")
    prior = Fitted(statistics=undisturbed.store, task="arithmetic")
    drawn = prior.fit(PlaceSource(loaded.host, loaded.tokenizer, place, 5)).sample(torch_generator(0), 500)
    moments = load_statistics(undisturbed.store, "arithmetic", "resid.3", "all", None).moments
    spread = moments.covariance().diagonal().sqrt()
    # Shrinkage widens narrow directions, of which a diagonal has little: 5 standard errors are ample.
    assert float(((drawn.mean(0) - moments.mean) / spread).abs().max()) < 5 / 500**0.5
    questions = Fitted(statistics=undisturbed.store, task="arithmetic", tokens="question")
    found = questions.fit(PlaceSource(loaded.host, loaded.tokenizer, keys, 5))
    assert found.record()["source"] == "arithmetic question at key.2"
    with pytest.raises(UserError, match=r"have no site 'resid\.1'"):
        prior.fit(PlaceSource(loaded.host, loaded.tokenizer, Place(1, after="cut"), 5))


def encoder_decoder(folder: Path) -> Path:
    """A small random T5 with a tokenizer of digits and words, saved."""
    random_model("t5").save_pretrained(folder)
    names = ["<unk>", "w1", *"0123456789", *(f"w{i}" for i in range(12, 97))]
    words = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = Sequence([Whitespace(), Digits(individual_digits=True)])
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="w1").save_pretrained(folder)
    return folder


def test_an_encoder_decoder_has_sites_of_both_stacks(tmp_path):
    plan = plan_activations(spec(model=str(encoder_decoder(tmp_path / "t5")), sites="residual"))
    folder = RunFolder(tmp_path / "run")
    outcomes = read(worker(plan, folder), plan, *range(len(plan.shards)))
    assert not any(outcome.error for outcome in outcomes), outcomes
    finish(plan, folder, {})
    sites = stored(folder.store)["arithmetic"]
    assert sites[0] == "encoder.resid.0"
    assert sites[-1] == "decoder.final"
    encoder, decoder = (
        token_classes(folder.store, "arithmetic", f"{stack}.resid.1") for stack in ("encoder", "decoder")
    )
    assert "answer" not in encoder
    assert encoder["question"] > 0
    assert set(decoder) <= {"answer", "last", "mean", "sinks"}
    assert stored(folder.store)[VOCABULARY] == ["encoder.resid.0"]


def test_a_damaged_first_shard_costs_the_others_nothing(tmp_path):
    damaged_table(tmp_path / "a.parquet")
    lines = (f'{{"text": "there are {n} apples and {n + 1} pears on the table"}}\n' for n in range(300))
    (tmp_path / "b.jsonl").write_text("".join(lines))
    files = [{"name": "fruit", "path": str(tmp_path / "*.*")}]
    damaged = plan_activations(spec(tasks=[], files=files, sites=["resid.2"], shard_tokens=2000))
    folder = RunFolder(tmp_path / "run")
    outcomes = read(worker(damaged, folder), damaged, *range(len(damaged.shards)))
    failed = [outcome for outcome in outcomes if outcome.error]
    assert [outcome.shard for outcome in failed] == ["fruit-00000"]
    assert len(outcomes) > 3
