"""Results in a bucket are read and written as those in a folder are."""

from __future__ import annotations

import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from jobs.support.stopping import stoppable
from softprior.assets.cache import VARIABLE, cache_root, ensure
from softprior.assets.models import resolve_model
from softprior.assets.named import here
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec, TrackingSpec
from softprior.prompt import Place
from softprior.results import lease
from softprior.results.digested import read_header
from softprior.results.examples import ExampleRow, load_examples, rows_of, save_examples
from softprior.results.files import write_atomically, write_json
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Posterior, load_posterior, save_posterior
from softprior.results.records import load_records, save_record
from softprior.results.storage import (
    JOB,
    RemotePath,
    local_copy,
    local_folder,
    location,
    remove_folder,
    replaced_folder,
    results_folder,
)
from softprior.studies.failures import failed
from softprior.studies.search.storage import _storage
from softprior.tracking.client import tracking_uri
from softprior.training.checkpoint import TrialState, load_checkpoint, load_header, save_checkpoint
from tests.builders import trial
from tests.google_store import google_store
from tests.object_store import object_store


@pytest.fixture(scope="module", params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("store")
        with object_store(patch) if request.param == "s3" else google_store(patch, folder) as found:
            yield found


def test_a_folder_stays_a_path_and_an_address_keeps_no_credentials(tmp_path: Path) -> None:
    assert location(str(tmp_path)) == tmp_path
    found = location("s3://bucket/results/") / "study" / "records" / "abc.json"
    assert isinstance(found, RemotePath)
    assert str(found) == "s3://bucket/results/study/records/abc.json"
    assert (found.name, found.stem, found.parent.name) == ("abc.json", "abc", "records")
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    "wrong",
    ["http://host/results", "s3://", "s3://bucket?endpoint=x", "s3:///results", "s3:/bucket", "gs://b/../c"],
)
def test_other_addresses_are_refused(wrong: str) -> None:
    with pytest.raises(UserError, match="is not a valid location; give a folder, s3://BUCKET/FOLDER"):
        location(wrong)


@pytest.mark.parametrize(
    "read",
    [location, results_folder, lambda path: here(Path(path)), lambda path: resolve_model(ModelSpec(id=path))],
)
def test_the_home_of_nobody_is_refused(read: Callable[[str], object]) -> None:
    with pytest.raises(UserError, match="no home folder for '~no-such-user/a'; write out the path"):
        read("~no-such-user/a")


def test_a_job_has_no_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert results_folder("results") == Path("results").resolve()
    monkeypatch.setenv(JOB, "{}")
    assert results_folder(str(tmp_path)) == tmp_path
    assert results_folder("s3://bucket/results") == RemotePath("s3://bucket/results")
    with pytest.raises(UserError, match="is in the working folder of a Ray job, which is deleted"):
        results_folder("results")


def test_objects_are_written_read_listed_and_removed(bucket: str, tmp_path: Path) -> None:
    folder = location(f"{bucket}/files")
    path = folder / "one.json"
    assert isinstance(path, RemotePath)
    assert not path.exists()
    assert not folder.exists()
    assert path.modified() is None
    assert list(folder.glob("*.json")) == []
    with pytest.raises(FileNotFoundError):
        path.read_bytes()
    with pytest.raises(FileNotFoundError), local_copy(path):
        pytest.fail("there is nothing")
    path.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        path.download(tmp_path / "copy")

    write_json(path, {"a": 1})
    write_json(folder / "below" / "two.json", {})
    write_atomically(folder / "text", lambda temporary: temporary.write_text("words"))
    assert read_header(path) == {"a": 1}
    assert list(folder.glob("*.json")) == [path]
    assert sorted(found.name for found in folder.glob("*")) == ["one.json", "text"]
    assert folder.exists()
    assert path.modified() is not None
    with local_copy(path) as here:
        assert here.name == "one.json"
        assert here.read_text() == path.read_text()
    assert not here.exists()
    path.unlink()
    assert not path.exists()


def test_rows_per_example_are_objects_too(bucket: str) -> None:
    path = location(f"{bucket}/study/examples/t.parquet")
    with pytest.raises(UserError, match="there is no file"):
        load_examples(path, "t", 1)
    row = ExampleRow("a", "b", 2, 0.5, 1, 1, None, None, "46", {"exact_match": 1.0})
    save_examples(path, "t", {"{}": [row]})
    assert rows_of(load_examples(path, "t", 1)) == {"{}": [row]}


@pytest.mark.parametrize("remote", [True, False])
def test_folders_are_replaced_copied_and_removed_whole(bucket: str, remote: bool, tmp_path: Path) -> None:
    folder = location(f"{bucket}/replaced" if remote else tmp_path / "replaced")
    remove_folder(folder)
    assert not (folder / "one").exists()
    for word in ("old", "new"):
        with replaced_folder(folder) as new:
            (new / "below").mkdir()
            (new / "one").write_text(word)
            (new / "below" / "two").write_text(word)
    half = replaced_folder(folder)
    (half.__enter__() / "one").write_text("half")
    assert not half.__exit__(OSError, OSError("the disk is full"), None)
    assert (folder / "one").exists()
    with local_folder(folder) as here:
        files = [path for path in here.rglob("*") if path.is_file()]
        found = {path.relative_to(here).as_posix(): path.read_text() for path in files}
    assert found == {"one": "new", "below/two": "new"}
    assert (folder / "one").read_text() == "new"
    remove_folder(folder)
    assert not folder.exists()


def test_a_write_that_fails_leaves_what_was_there(bucket: str) -> None:
    path = location(f"{bucket}/kept")
    write_atomically(path, lambda temporary: temporary.write_text("old"))

    def fails(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        write_atomically(path, fails)
    assert path.read_text() == "old"


def test_records_posteriors_and_checkpoints_come_back(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StudyFolder(location(f"{bucket}/study"))
    specs = [trial(seed=seed) for seed in range(3)]
    for spec in specs:
        save_record(folder.record(spec.id), failed(spec, "a reason", {}))
    found = load_records(folder.records)
    assert found == {spec.id: failed(spec, "a reason", {}) for spec in specs}

    vectors = {Place(0): torch.arange(8.0).reshape(2, 4)}
    save_posterior(folder.posterior("a"), Posterior({"trial": "a"}, vectors, vectors, {3: vectors}))
    assert torch.equal(load_posterior(folder.posterior("a")).snapshots[3][Place(0)], vectors[Place(0)])
    with pytest.raises(UserError, match=f"there is no posterior file {bucket}/"):
        load_posterior(folder.posterior("b"))

    assert load_checkpoint(folder.checkpoint("a"), "a") is None
    save_checkpoint(folder.checkpoint("a"), "a", TrialState(step=2), {"m": vectors[Place(0)]})
    progress, tensors = load_checkpoint(folder.checkpoint("a"), "a") or pytest.fail("it is there")
    assert progress.step == 2
    assert torch.equal(tensors["m"], vectors[Place(0)])
    with monkeypatch.context() as no_more:
        no_more.delattr(RemotePath, "download")  # the header alone
        header = load_header(folder.checkpoint("a"), "a")
        assert load_header(folder.checkpoint("a"), "b") is None
        assert load_header(folder.checkpoint("b"), "b") is None
    assert header is not None
    assert header.step == 2


def test_a_bucket_that_is_not_there_is_one_sentence(bucket: str, tmp_path: Path) -> None:
    path = location(bucket.replace("softprior", "nobodys")) / "a.json"
    assert isinstance(path, RemotePath)
    said = f"the bucket of {path} does not exist; create it or correct the address"
    with pytest.raises(UserError, match=f"^{said}$"):
        write_json(path, {})
    (tmp_path / "here").write_text("words")
    with pytest.raises(UserError, match=f"^{said}$"):
        path.upload(tmp_path / "here")


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (FileNotFoundError("Path does not exist 'bucket/a'."), FileNotFoundError),
        (FileNotFoundError("google::cloud::Status(NOT_FOUND: No such object: bucket/a)"), FileNotFoundError),
        (FileNotFoundError("NOT_FOUND: The specified bucket does not exist."), UserError),
        (OSError("AWS Error NO_SUCH_BUCKET during PutObject operation"), UserError),
        (PermissionError("google::cloud::Status(PERMISSION_DENIED: no)"), UserError),
    ],
)
def test_only_an_object_that_is_not_there_stays_a_missing_file(error: OSError, raised: type) -> None:
    with pytest.raises(raised), RemotePath("gs://bucket/a")._explained():
        raise error


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)  # it takes seconds
def test_one_driver_at_a_time(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BEAT": 0.5, "STALE": 4.0, "SETTLED": 0.1}.items():
        monkeypatch.setattr(lease, name, value)
    path = location(f"{bucket}/study/.lock")
    with lease.leased(path):
        with (
            pytest.raises(UserError, match=r"process \d+ on .* is running in s3://"),
            lease.leased(path),
        ):
            pytest.fail("two at a time")
        assert path.exists(), "who is refused takes nothing away"
    assert not path.exists()
    path.write_bytes(b"left by a driver that was killed")
    started = time.monotonic()
    with lease.leased(path):
        assert time.monotonic() - started >= 4


def test_a_driver_whose_lease_another_took_over_stops_and_leaves_it(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"BEAT": 0.1, "SETTLED": 0.1}.items():
        monkeypatch.setattr(lease, name, value)
    path = location(f"{bucket}/taken/.lock")
    other = b'{"process": 7, "machine": "elsewhere"}'

    def take_over(done: threading.Event) -> None:
        while not done.wait(0.1):  # the first may fall between a look at the lease and the next sign of life
            path.write_bytes(other)

    def drive() -> None:
        with lease.leased(path) as lost:
            threading.Thread(target=take_over, args=(lost,), daemon=True).start()
            time.sleep(60)

    with stoppable("early", "late") as stop:
        stop.orderly = True
        with pytest.raises(UserError, match="process 7 on elsewhere is running in"):
            drive()
    assert stop.signal == signal.SIGTERM
    assert path.read_bytes() == other


def test_of_two_drivers_that_begin_together_one_goes_on(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SETTLED", 1.0)
    path = location(f"{bucket}/together/.lock")
    ran, refused, end = [], [], threading.Event()

    def drive() -> None:
        try:
            with lease.leased(path):
                ran.append(1)
                end.wait(10)
        except UserError:
            refused.append(1)
            end.set()

    drivers = [threading.Thread(target=drive) for _ in range(2)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert (len(ran), len(refused)) == (1, 1)


def test_a_bucket_needs_a_tracking_server() -> None:
    results = location("s3://bucket/results")
    server = TrackingSpec(uri="http://host:5000")
    assert tracking_uri(server, results) == "http://host:5000"
    assert tracking_uri(TrackingSpec(enabled=False), results) is None
    for wrong in (TrackingSpec(), TrackingSpec(uri="sqlite:////tmp/mlflow.db")):
        with pytest.raises(UserError, match="need a tracking server"):
            tracking_uri(wrong, results)


def test_machines_exchange_what_they_build(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def build(path: Path) -> None:
        built.append(path)
        path.mkdir()
        (path / "weights").write_text("numbers")

    monkeypatch.setenv(VARIABLE, f"{bucket}/cache")
    for machine in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        assert cache_root() == tmp_path / machine / "softprior"
        assert (ensure("models/some", build) / "weights").read_text() == "numbers"
        assert not [p for p in (cache_root() / "models").iterdir() if p.name != "some"]
    assert len(built) == 1
    assert [p.name for p in location(f"{bucket}/cache/models").glob("*")] == ["some.tar"]

    location(f"{bucket}/cache/models/some.tar").write_bytes(b"damaged")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "three"))
    ensure("models/some", build)
    assert len(built) == 2

    ensure("memo", lambda path: path.write_text("of this machine"), shared=False)
    assert [p.name for p in location(f"{bucket}/cache").glob("*")] == []


def test_a_search_with_results_in_a_bucket_needs_a_database() -> None:
    with pytest.raises(UserError, match=r"needs a database, but search\.storage is not set"):
        _storage(None, StudyFolder(location("s3://bucket/results/search")))
