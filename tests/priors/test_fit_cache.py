"""The same data and parameters are fitted once; anything else is fitted anew; damage is repaired."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from softprior.errors import UserError
from softprior.inputs import origins
from softprior.inputs.components import Offered
from softprior.priors import PRIORS
from softprior.priors import cache as module
from softprior.priors import domain as fits
from softprior.priors.cache import Fit, cached_fit
from softprior.seeding import torch_generator
from softprior.statistics.store import SiteStatistics, save_statistics
from softprior.testing.priors import TableSource

OTHER = """
import json, sys
from softprior.priors import PRIORS, domain
from softprior.seeding import torch_generator
from softprior.testing.priors import TableSource

def refuse(*arguments):
    raise AssertionError("fitted again")

domain.fit_gaussian = refuse
print(json.dumps(PRIORS["fitted"]().fit(TableSource()).sample(torch_generator(0), 3).tolist()))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, and nothing in memory."""
    monkeypatch.setenv("SOFTPRIOR_CACHE", str(tmp_path / "cache"))
    module._load.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each Gaussian that was really fitted: the number of its vectors."""
    counts: list[int] = []
    real = fits.fit_gaussian

    def count(moments, *parameters):
        counts.append(moments.count)
        return real(moments, *parameters)

    monkeypatch.setattr(fits, "fit_gaussian", count)
    return counts


def sample(name: str = "fitted", source: TableSource | None = None, **params: object) -> torch.Tensor:
    return PRIORS[name](**params).fit(source or TableSource()).sample(torch_generator(0), 3)


def only(cache: Path) -> Path:
    (path,) = (cache / "fits").iterdir()
    return path


def test_nothing_is_fitted_twice(fitted, cache):
    first = sample()
    assert torch.equal(sample(), first)
    module._load.cache_clear()  # as in another process
    assert torch.equal(sample(), first)
    assert fitted == [120]
    assert only(cache).name.startswith("gaussian-")


@pytest.mark.faults  # what it reads is read above by a process that has forgotten it
def test_another_process_reads_the_file():
    first = sample()
    found = subprocess.run(
        [sys.executable, "-c", OTHER], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == first.tolist()


def test_an_edited_tree_has_fits_of_its_own(fitted, monkeypatch):
    """Clean commits share theirs, and so do equal edits."""
    for edits, count in (((), 1), ((), 1), (("a",), 2), (("a",), 2), (("b",), 3), ((), 3)):
        monkeypatch.setattr(module, "edits", lambda edits=edits: edits)
        sample()
        assert len(fitted) == count


OWN = """
from functools import partial
import torch
from softprior.priors import PRIORS
from softprior.priors.cache import Fit, cached_fit
from softprior.statistics.store import SiteStatistics

def build(times=1):
    return Fit({{"a": times * torch.tensor([{value}])}}, {{}})

def middle():
    plain, twice = cached_fit("middle", {{}}, build), cached_fit("twice", {{}}, partial(build, 2))
    return float(plain.tensors["a"] + twice.tensors["a"])

class Moved(PRIORS["fitted"]):
    def load(self, source):
        return SiteStatistics.of(source.vocabulary() + {value})

def centre():
    from softprior.testing.priors import TableSource
    return round(float(Moved().fit(TableSource()).reference().gaussian.mean.mean()), -2)
"""


@pytest.fixture
def no_origins() -> Iterator[None]:
    """Packages are looked for as in a new process."""
    origins._origin.cache_clear()
    yield
    origins._origin.cache_clear()


def own(name: str, value: float) -> ModuleType:
    """A module of this name with a text of one's own."""
    module = ModuleType(name)
    exec(OWN.format(value=value), vars(module))
    return module


def test_each_text_of_a_file_of_ones_own_has_fits_of_its_own(fitted):
    """`use_code` runs a file in a module that is named after its origin, which says what text it has."""
    sample()
    for value in (100.0, 200.0, 100.0):
        module = own(f"softprior_own_mine.py {value}", value)
        assert module.middle() == 3 * value
        assert module.centre() == value
    assert fitted == [120, 120, 120]
    sample()
    assert len(fitted) == 3


@pytest.mark.usefixtures("no_origins")
def test_each_version_of_a_package_has_fits_of_its_own(fitted, tmp_path, monkeypatch):
    facts = tmp_path / "moved-1.dist-info"
    facts.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(origins, "packages_distributions", lambda: {"moved": ["moved"]})
    for version, value in ((1, 100.0), (2, 200.0), (1, 100.0)):
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: moved\nVersion: {version}\n")
        origins._origin.cache_clear()
        module = own("moved.priors", value)
        assert module.middle() == 3 * value
        assert module.centre() == value
    assert fitted == [120, 120]
    url = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    (facts / "direct_url.json").write_text(json.dumps(url))
    origins._origin.cache_clear()
    assert own("moved.priors", 300.0).centre() == 300.0  # offers no component: its edits would go unseen


@pytest.mark.usefixtures("no_origins")
def test_own_priors_have_no_origins_and_no_package_is_looked_for(monkeypatch):
    for name in ("packages_distributions", "entry_points"):
        monkeypatch.setattr(origins, name, lambda name=name: pytest.fail(name))
    assert origins.origins_of(fits.fit_gaussian, PRIORS["fitted"](), PRIORS["vae"]()) == []


@pytest.mark.usefixtures("no_origins")
def test_a_base_in_another_package_of_a_namespace_has_the_versions_of_both(tmp_path, monkeypatch):
    """`acme.a` offers a component; `acme.b` is installed by a package that offers none."""
    facts = tmp_path / "acme_b-2.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-b\nVersion: 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    base = type("Base", (), {"__module__": "acme.b"})
    kind = type("Kind", (base,), {"__module__": "acme.a"})
    offered = Offered(kind, "acme-a 1 editable 0f")
    points = SimpleNamespace(groups={"softprior.priors", "other"})
    monkeypatch.setattr(origins, "entry_points", lambda: points)
    monkeypatch.setattr(origins, "installed", {"softprior.priors": {"kind": offered}}.get)
    monkeypatch.setattr(origins, "packages_distributions", lambda: {"acme": ["acme-a", "acme-b"]})
    assert origins.origins_of(kind()) == [offered.origin, f"{offered.origin}, acme-b 2"]


def test_what_a_notebook_defines_is_fitted_anew(fitted, cache):
    for value in (100.0, 200.0):
        assert own("__main__", value).centre() == value
    assert len(fitted) == 2
    assert not (cache / "fits").exists()


def test_priors_on_the_same_domain_share_a_fit(fitted):
    for name in ("fitted", "exclusion", "low_density"):
        sample(name)
    sample("exclusion", c=7.0)
    sample("exclusion", quantile=0.9)
    assert fitted == [120]


def test_another_prior_of_the_same_place_is_not_confused_with_it(fitted):
    sample("interpolation")
    assert fitted == [60, 60]
    sample("fitted", part=(0.0, 0.5))
    assert fitted == [60, 60]


@pytest.mark.parametrize("params", [{"shrinkage": 0.3}, {"jitter": 0.1}, {"part": (0.0, 0.5)}])
def test_other_parameters_are_fitted_anew(fitted, params):
    assert not torch.equal(sample(), sample(**params))
    assert len(fitted) == 2


def test_other_vectors_are_fitted_anew(fitted):
    sample(source=TableSource(size=100))
    sample(source=TableSource(hidden=3, size=100))
    sample(source=TableSource(size=101))
    sample(source=TableSource(size=100, tokens=2))  # the number of prompt tokens does not enter
    assert fitted == [100, 100, 101]


@pytest.mark.parametrize(
    ("name", "params"), [("vae", {"steps": 1, "width": 8}), ("low_density", {"quantile": 0.5})]
)
def test_all_that_takes_time_is_kept(name, params, cache):
    first = sample(name, **params)
    before = {path: path.stat().st_mtime_ns for path in (cache / "fits").iterdir()}
    module._load.cache_clear()
    assert torch.equal(sample(name, **params), first)
    assert {path: path.stat().st_mtime_ns for path in (cache / "fits").iterdir()} == before


def written(folder: Path, offset: float, time: int) -> Path:
    """A store of the same size whatever the offset, with a time that the clock's steps do not decide."""
    vectors = offset + torch.randn(50, 4, generator=torch_generator(1))
    path = save_statistics(folder, "squad", "resid.0", "table", {"all": SiteStatistics.of(vectors)})
    os.utime(path, ns=(time, time))
    return path


def test_changed_statistics_are_fitted_anew(fitted, tmp_path):
    given = {"statistics": tmp_path / "store", "task": "squad"}
    size = written(tmp_path / "store", 0.0, time=10**18).stat().st_size
    sample(**given)
    sample(**given)
    assert fitted == [50]
    assert written(tmp_path / "store", 1e3, time=10**18 + 1).stat().st_size == size
    assert float(sample(**given).mean()) == pytest.approx(1e3, rel=0.01)
    assert fitted == [50, 50]


def test_each_site_and_class_has_its_fit(fitted, tmp_path):
    for site, classes in (("resid.0", (50, 60)), ("resid.1", (70, 80))):
        by_class = {
            name: SiteStatistics.of(torch.randn(count, 4, generator=torch_generator(count)))
            for name, count in zip(("all", "answer"), classes, strict=True)
        }
        save_statistics(tmp_path, "squad", site, "table", by_class)
    for site in ("resid.0", "resid.1"):
        for tokens in ("all", "answer"):
            sample(statistics=tmp_path, task="squad", site=site, tokens=tokens)
    assert fitted == [50, 60, 70, 80]


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeros(path: Path) -> None:
    """What a file system leaves of a file whose contents were not yet on the disk."""
    path.write_bytes(bytes(path.stat().st_size))


def without_facts(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(path), path)


@pytest.mark.parametrize("damage", [half, empty, zeros, without_facts])
def test_a_damaged_file_is_built_anew(fitted, cache, damage):
    first = sample()
    damage(only(cache))
    module._load.cache_clear()
    assert torch.equal(sample(), first)
    assert fitted == [120, 120]
    module._load.cache_clear()
    assert torch.equal(sample(), first)
    assert fitted == [120, 120]


def test_another_fit_under_its_name_is_built_anew(fitted, cache):
    first = sample()
    own = only(cache)
    sample(shrinkage=0.3)
    (other,) = {*(cache / "fits").iterdir()} - {own}
    shutil.copy(other, own)
    module._load.cache_clear()
    assert torch.equal(sample(), first)


def test_a_file_that_another_process_has_repaired_is_left_alone(cache):
    first = sample()
    state = only(cache).stat()
    module._remove_damaged(only(cache))
    assert only(cache).stat() == state
    only(cache).unlink()
    assert torch.equal(sample(), first)


def ours(build: Callable[[], Fit]) -> Callable[[], Fit]:
    """A function that counts as softprior's own."""
    build.__module__ = "softprior.priors"
    return build


def test_a_failed_fit_leaves_nothing_and_is_not_tried_twice(cache):
    tries = []

    def fail() -> Fit:
        tries.append(1)
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        cached_fit("gaussian", {}, ours(fail))
    assert tries == [1]
    with pytest.raises(UserError, match="singular"):
        sample(source=TableSource(hidden=8, size=5), shrinkage=0.0)
    assert list((cache / "fits").iterdir()) == []


def test_tensors_may_share_memory_and_come_back_as_they_were():
    both = torch.randn(4, 3, dtype=torch.float64, generator=torch_generator(0))
    made = ours(lambda: Fit({"a": both, "b": both.T[:2]}, {"c": [1, None]}))
    for _ in range(2):
        found = cached_fit("gaussian", {"a": 1}, made)
        assert torch.equal(found.tensors["a"], both)
        assert torch.equal(found.tensors["b"], both.T[:2])
        assert found.facts == {"c": [1, None]}
        module._load.cache_clear()


def test_facts_that_json_cannot_hold_are_refused(cache):
    with pytest.raises(ValueError, match="not JSON compliant"):
        cached_fit("gaussian", {"a": 2}, ours(lambda: Fit({"a": torch.zeros(1)}, {"b": float("nan")})))
    assert list((cache / "fits").iterdir()) == []
