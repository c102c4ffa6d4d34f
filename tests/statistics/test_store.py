"""The statistics store: what goes in comes out, and everything else is refused in one sentence."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from softprior.errors import UserError
from softprior.seeding import torch_generator
from softprior.statistics import store as module
from softprior.statistics.moments import Moments
from softprior.statistics.store import (
    FORMAT,
    KEY,
    SiteStatistics,
    find_statistics,
    load_statistics,
    load_tables,
    sample_size,
    save_statistics,
    site_path,
    statistics_width,
    token_classes,
)


def vectors(count: int, name: str = "vectors") -> torch.Tensor:
    return 2 + torch.randn(count, 3, generator=torch_generator(0, name, count))


CLASSES = {
    "all": SiteStatistics(Moments.empty(3).update(vectors(500)), 20, 4, vectors(500)[:100]),
    "answer": SiteStatistics.of(vectors(30, "answer"), documents=12),
}


def save(folder: Path, model: str = "0123456789abcdef") -> Path:
    return save_statistics(folder, "squad", "resid.3", model, CLASSES)


def load(folder: Path, tokens: str = "all", model: str | None = "0123456789abcdef") -> SiteStatistics:
    return load_statistics(folder, "squad", "resid.3", tokens, model)


@pytest.mark.parametrize("tokens", CLASSES)
@pytest.mark.parametrize("model", ["0123456789abcdef", None])
def test_what_is_saved_is_loaded(tmp_path, tokens, model):
    path = save(tmp_path / "deep" / "store")
    assert path == tmp_path / "deep" / "store" / "squad" / "resid.3.safetensors"
    found, given_ = load(tmp_path / "deep" / "store", tokens, model), CLASSES[tokens]
    assert (found.documents, found.sinks) == (given_.documents, given_.sinks)
    assert found.moments.count == given_.moments.count
    for one, other in (
        (found.moments.mean, given_.moments.mean),
        (found.moments.scatter.tril(), given_.moments.scatter.tril()),  # products are symmetric to rounding
        (found.moments.scatter.mT, found.moments.scatter),
        (found.sample, given_.sample),
    ):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert [file.name for file in path.parent.iterdir()] == ["resid.3.safetensors"]


def test_the_layout_is_frozen(tmp_path):
    """Other programs read and write these names."""
    with safe_open(save(tmp_path), framework="pt") as file:
        assert set(file.keys()) == {
            f"{tokens}/{part}" for tokens in ("all", "answer") for part in ("mean", "scatter", "sample")
        }
        header = json.loads(file.metadata()["softprior-statistics"])
        assert len(header.pop("digests")) == 1 + 6
        assert header.pop("digested") is True
        assert header == {
            "format": 2,
            "merged": {},
            "groups": {},
            "model": "0123456789abcdef",
            "task": "squad",
            "site": "resid.3",
            "classes": {
                "all": {"tokens": 500, "documents": 20, "sinks": 4},
                "answer": {"tokens": 30, "documents": 12, "sinks": 0},
            },
        }
        dtypes = {part: file.get_tensor(f"all/{part}").dtype for part in ("mean", "scatter", "sample")}
    assert dtypes == {"mean": torch.float64, "scatter": torch.float64, "sample": torch.float32}


@pytest.mark.parametrize("name", ["squad/resid.4", "drop/resid.3"])
def test_a_file_of_another_task_or_site_is_refused(tmp_path, name):
    task, site = name.split("/")
    path = site_path(tmp_path, task, site)
    path.parent.mkdir(exist_ok=True, parents=True)
    shutil.copy(save(tmp_path), path)
    for read in (
        partial(load_statistics, tokens="all", model=None),
        partial(statistics_width, tokens="all", model=None),
        partial(sample_size, tokens="all", model=None),
        load_tables,
        token_classes,
    ):
        with pytest.raises(UserError, match=f"{path} contains activations of squad at resid.3; put it back"):
            read(tmp_path, task, site)


def test_files_of_older_versions_name_neither_task_nor_site(tmp_path):
    path = save(tmp_path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["softprior-statistics"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    old = {key: header[key] for key in ("format", "model", "classes", "merged", "groups")}
    save_file(tensors, path, {"softprior-statistics": json.dumps(old)})
    assert load(tmp_path).moments.count == 500


def test_vectors_in_memory_are_their_own_statistics():
    found = SiteStatistics.of(vectors(40).half())
    assert (found.moments.count, found.documents, found.sinks) == (40, 40, 0)
    assert found.sample.dtype == torch.float32
    assert torch.equal(found.sample, vectors(40).half().float())


@given(st.integers(1, 400), st.integers(1, 400))
@settings(max_examples=30)
def test_moments_of_two_halves_are_those_of_the_whole(first, second):
    data = vectors(first + second)
    halves = [SiteStatistics.of(part).moments for part in data.split([first, second])]
    merged, whole = halves[0].merge(halves[1]), SiteStatistics.of(data).moments
    assert merged.count == whole.count
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(merged.scatter, whole.scatter, rtol=1e-10, atol=1e-10)


def test_stored_halves_merge_to_the_whole(tmp_path):
    data = vectors(501)
    for site, part in zip(("resid.0", "resid.1"), data.split([200, 301]), strict=True):
        save_statistics(tmp_path, "squad", site, "m", {"all": SiteStatistics.of(part)})
    one, two = (load_statistics(tmp_path, "squad", site, "all", "m") for site in ("resid.0", "resid.1"))
    whole = Moments.empty(3).update(data)
    torch.testing.assert_close(one.moments.merge(two.moments).scatter, whole.scatter, rtol=1e-11, atol=1e-11)


UNSAFE = ["../x", "..", "a/b", "/a", "", ".hidden", "a..b", "a b", "a\n", "-a", "a" * 65, "é"]


@pytest.mark.parametrize("name", UNSAFE)
def test_names_that_are_not_names_are_refused(tmp_path, name):
    shown = name.replace("\n", " ")  # no control character reaches a sentence
    sentence = re.escape(f"'{shown}' is not the name of a task, site or token class")
    for task, site in ((name, "resid.0"), ("squad", name)):
        with pytest.raises(UserError, match=sentence):
            site_path(tmp_path, task, site)
        with pytest.raises(UserError, match=sentence):
            find_statistics(tmp_path, task, site)
        with pytest.raises(UserError, match=sentence):
            save_statistics(tmp_path / "store", task, site, "m", CLASSES)
    with pytest.raises(UserError, match=sentence):
        save_statistics(
            tmp_path / "store", "squad", "resid.0", "m", {"all": CLASSES["all"], name: CLASSES["all"]}
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["resid.0", "encoder.resid.0", "SQuAD", "_a-b.c", "a" * 64, "7"])
def test_names_that_are(tmp_path, name):
    save_statistics(tmp_path, name, name, "m", {name: CLASSES["all"]})
    assert load_statistics(tmp_path, name, name, name, "m").documents == 20


def test_what_is_not_there_is_said_with_what_is(tmp_path):
    with pytest.raises(
        UserError, match=r"^there is no statistics store .*/none; it is a folder of TASK/SITE"
    ):
        load(tmp_path / "none")
    with pytest.raises(UserError, match=r"^the folder .* holds no statistics; give one of TASK/SITE"):
        load(tmp_path)
    save(tmp_path)
    for task, site, tokens, sentence in (
        ("squat", "resid.3", "all", r"have no task 'squat'; did you mean 'squad'\? Known: squad$"),
        ("squad", "resid.4", "all", r"have no site 'resid\.4'; did you mean 'resid\.3'\? Known: resid\.3$"),
        (
            "squad",
            "resid.3",
            "answers",
            r"no token class 'answers'; did you mean 'answer'\? Known: all, answer$",
        ),
    ):
        with pytest.raises(UserError, match=sentence):
            load_statistics(tmp_path, task, site, tokens, None)
    save(tmp_path / "run" / "store")
    sentence = r"run is the folder of a run; its statistics are in .*/run/store, so give that$"
    with pytest.raises(UserError, match=sentence):
        load(tmp_path / "run")


def test_another_model_is_refused(tmp_path):
    save(tmp_path)
    sentence = (
        r"contains activations of another model \(0123456789ab instead of fedcba987654\); make statistics"
    )
    with pytest.raises(UserError, match=sentence):
        load(tmp_path, model="fedcba9876543210")


def test_a_damaged_file_is_named(tmp_path):
    path = save(tmp_path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:5], whole[:100], whole[:-1], b"\xff" * 64, bytes(len(whole))):
        path.write_bytes(damaged)
        with pytest.raises(
            UserError, match=r"^.*resid\.3\.safetensors is damaged or not a statistics file: "
        ):
            load(tmp_path)


COUNTS = {"tokens": 500, "documents": 20, "sinks": 4}
GOOD = {"format": FORMAT, "model": "0123456789abcdef", "classes": {"all": COUNTS}, "merged": {}}


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (None, "is damaged or not a statistics file"),
        ("{", "is damaged or not a statistics file"),
        ("null", "is damaged or not a statistics file"),
        ("[]", "is damaged or not a statistics file"),
        ("{}", "is damaged or not a statistics file"),
        (GOOD | {"format": 1}, r"is not a statistics file of format 2 \(found: 1\)"),
        (GOOD | {"model": None}, "is damaged or not a statistics file"),
        (GOOD | {"classes": {}}, "has no token class 'all'"),
        (GOOD | {"classes": {"all": {}}}, "is damaged or not a statistics file"),
        (GOOD | {"classes": {"all": COUNTS | {"tokens": "many"}}}, "is damaged or not a statistics file"),
        (GOOD | {"classes": {"all": COUNTS | {"sinks": None}}}, "is damaged or not a statistics file"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path, header, sentence):
    path = save(tmp_path)
    text = header if header is None or isinstance(header, str) else json.dumps(header)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    save_file(tensors, path, metadata=None if text is None else {KEY: text})
    with pytest.raises(UserError, match=rf"resid\.3\.safetensors {sentence}"):
        load(tmp_path)


@pytest.mark.parametrize("part", ["mean", "scatter", "sample"])
def test_a_missing_part_is_refused(tmp_path, part):
    path = save(tmp_path)
    tensors = {f"all/{name}": torch.zeros(3) for name in ("mean", "scatter", "sample") if name != part}
    save_file(tensors, path, metadata={KEY: json.dumps(GOOD)})
    with pytest.raises(UserError, match="is damaged or not a statistics file: "):
        load(tmp_path)


def test_a_failing_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = save(tmp_path)
    before = path.read_bytes()

    def fail(tensors, target, metadata):
        Path(target).write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "save_tensors", fail)
    with pytest.raises(OSError, match="no space left"):
        save(tmp_path, model="another")
    with pytest.raises(OSError, match="no space left"):
        save_statistics(tmp_path, "squad", "resid.4", "m", CLASSES)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["resid.3.safetensors"]


def test_saving_again_replaces_the_file(tmp_path):
    save(tmp_path)
    save(tmp_path, model="fedcba9876543210")
    assert load(tmp_path, model="fedcba9876543210").documents == 20
