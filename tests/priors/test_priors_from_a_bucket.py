"""Statistics and posteriors that a study names in a bucket give the priors that they give from a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from softprior.assets import named
from softprior.assets.cache import VARIABLE
from softprior.assets.named import here
from softprior.errors import UserError
from softprior.priors import domain
from softprior.prompt import Place
from softprior.results.storage import RemotePath, location
from softprior.seeding import torch_generator
from softprior.statistics.store import SiteStatistics
from softprior.testing.priors import TableSource, outline_of
from tests.object_store import bucket
from tests.priors import test_domain, test_posterior_prior

__all__ = ["bucket"]  # fixture


@pytest.fixture(autouse=True)
def _new_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty cache, and nothing known of what is in buckets."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    for remembered in (named._copied, domain._require_whole):
        remembered.cache_clear()
    yield
    for remembered in (named._copied, domain._require_whole):
        remembered.cache_clear()


def uploaded(folder: Path, address: str) -> str:
    remote = location(address)
    assert isinstance(remote, RemotePath)
    remote.upload_folder(folder)
    return address


def test_statistics(bucket: str, tmp_path: Path) -> None:
    local = tmp_path / "store"
    for task, site in (("squad", "resid.0"), ("squad", "key.3"), ("other", "resid.0")):
        test_domain.save(local, task, site)
    remote = uploaded(local, f"{bucket}/stores/one")
    given = {"task": "squad", "tokens": "all"}
    one, other = test_domain.domain(local, **given), test_domain.domain(None, statistics=remote, **given)
    assert other.model_dump(mode="json")["statistics"] == remote
    assert one.contents() == other.contents()
    for place in (Place(0), Place(3, "key")):
        source = test_domain.at(place)
        assert one.key(source) == other.key(source)
        assert torch.equal(one.load(source).sample, other.load(source).sample)
        other.check_outline(outline_of(source))
    assert not list(here(location(f"{remote}/squad")).parent.glob("other")), "what nobody asked for"
    run = location(f"{bucket}/stores")
    (run / "plan.json").write_bytes(b"{}")
    domain._require_whole.cache_clear()
    with pytest.raises(UserError, match=f"the activation run in {run} has not ended"):
        other.contents()
    (run / "activations.json").write_bytes(b"{}")
    assert other.contents() == one.contents()
    missing = test_domain.domain(None, statistics=remote, task="poems")
    with pytest.raises(UserError, match=f"there is nothing at {remote}/poems; known: other, squad"):
        missing.contents()


def test_statistics_of_before_are_refused_by_the_vocabulary_beside_them(bucket: str, tmp_path: Path) -> None:
    local, embedded = tmp_path / "store", torch.randn(40, 4, generator=torch_generator(0))
    for task, states in {"vocabulary": embedded, "granite": 12 * embedded, "same": embedded}.items():
        found = replace(SiteStatistics.of(states), facts={"token": torch.arange(40)})
        test_domain.save(local, task, "resid.0", all=found)
    remote = uploaded(local, f"{bucket}/stores/units")
    for task in ("granite", "same"):
        given = test_domain.domain(None, statistics=remote, task=task)
        source = test_domain.at(Place(0))
        for read in (given.load, lambda source, given=given: given.check_outline(outline_of(source))):
            with nullcontext() if task == "same" else pytest.raises(UserError, match="enters block 0"):
                read(source)


def test_posteriors(bucket: str, tmp_path: Path) -> None:
    study = tmp_path / "study"
    (study / "posteriors").mkdir(parents=True)
    path = test_posterior_prior.save(study / "posteriors" / "a.safetensors")
    test_posterior_prior.save(study / "posteriors" / "earlier.safetensors")
    (study / "study.json").write_text(json.dumps({"spec": {"name": "tuned"}, "trials": ["a"]}))
    remote = uploaded(study, f"{bucket}/results/study")
    expected = test_posterior_prior.prior(path)
    for address in (remote, f"{remote}/posteriors/a.safetensors"):
        found = test_posterior_prior.prior(address)
        assert found.contents() == expected.contents()
        draws = [one.fit(TableSource()).sample(torch_generator(0), 6) for one in (expected, found)]
        assert torch.equal(*draws)


def test_what_changed_is_copied_again(bucket: str, tmp_path: Path) -> None:
    path = location(f"{bucket}/file")
    assert isinstance(path, RemotePath)
    path.write_bytes(b"first")
    assert here(path).read_bytes() == b"first"
    path.write_bytes(b"the second")
    named._copied.cache_clear()
    assert here(path).read_bytes() == b"the second"
    assert here(tmp_path / "of this machine") == tmp_path / "of this machine"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (3, "a path must be a string, not 3"),
        ("ftp://host/store", "'ftp://host/store' is neither a path nor s3://BUCKET/FOLDER or gs://"),
        ("s3://bucket/../other", "'s3://bucket/../other' is neither"),
    ],
)
def test_what_is_no_path_is_told(wrong: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        test_domain.domain(None, statistics=wrong, task="squad")
    with pytest.raises(ValidationError):
        test_domain.Domain(statistics=wrong, task="squad")
