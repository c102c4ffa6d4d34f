"""For all tests: one thread, a cache of the session's own, no clocks, and a word about the network."""

from __future__ import annotations

import gc

gc.disable()  # until all is imported, which stays: looking through it takes a fifth of that time

import os
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import cycle
from pathlib import Path
from typing import Any

# Rewriting assertions takes about seven seconds in each process, so they are kept, as is what is compiled in
# processes that tests start, even where the environment says otherwise.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Before torch is imported, here or in a process that a test starts: two threads in each of several
# processes slow each other down tenfold, and sums in another order are other numbers.
os.environ["OMP_NUM_THREADS"] = "1"

# Readline, which pytest imports, tells the processes of xdist the size of a window that they do not have.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

from jaxtyping import install_import_hook

SHAPES = "SOFTPRIOR_TESTS_SHAPES"
"""Set, it has the shapes and types of every public function of these modules checked while tests run. That
takes twice the time, so `test_shapes` runs a part of the suite with it."""
_CHECKED = ("models", "priors", "prompt", "results.posteriors", "statistics")
if SHAPES in os.environ:
    install_import_hook([f"softprior.{name}" for name in _CHECKED], "beartype.beartype")

import pytest
import pytest_randomly
import requests
import torch
from hypothesis import settings

from softprior.assets.cache import VARIABLE, cache_root
from softprior.assets.catalogue import JoinedFile, RegistryFile, catalogue
from softprior.assets.pip_settings import PipSettings, pip_settings
from softprior.training.threads import thread_environment

torch.set_num_threads(1)

# deepspeed has one: it would be imported in every process, and seed torch three times a test by a call that
# keeps a stack trace for GPUs to come. That takes milliseconds, and most tests less. See `_seed_torch`.
pytest_randomly.entrypoint_reseeds = []

pytest.register_assert_rewrite("tests.studies.runs")

# A deadline would be a limit on wall-clock time, which says nothing on a shared machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_USERS = os.environ.setdefault("SOFTPRIOR_TESTS_USERS_CACHE", os.environ.get(VARIABLE, "")) or None
"""The user's own choice of a cache, before the session has one; processes of the session inherit it."""

_GIVEN = os.environ.get("SOFTPRIOR_TESTS_CACHE")
_OURS = None if _GIVEN else tempfile.TemporaryDirectory(prefix="softprior-tests-", ignore_cleanup_errors=True)
_SESSIONS = _OURS.name if _OURS else str(_GIVEN)
os.environ["SOFTPRIOR_TESTS_CACHE"] = _SESSIONS
"""The session's cache, for all its processes; what one of them prepares the others need not."""


def pytest_configure(config: pytest.Config) -> None:
    _use_cache(_SESSIONS)
    if getattr(config.option, "dist", "no") != "no":
        gc.enable()  # this process collects no tests, the ones it starts do
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0":
        os.nice(5)  # the first process has the files that start Ray, and ends last if it has to wait


_ROOT = Path(__file__).parent

_SLOW = frozenset(
    _ROOT / file
    for file in (
        "activations/test_bucket.py",
        "activations/test_collector.py",
        "activations/test_findings.py",
        "activations/test_worker.py",
        "analysis/figures/test_activations.py",
        "analysis/figures/test_study_figures.py",
        "analysis/test_claims_on_trials.py",
        "analysis/test_inference.py",
        "analysis/test_planned_claims.py",
        "analysis/test_report.py",
        "analysis/test_twins_in_analysis.py",
        "docs/test_snippets.py",
        "exchange/test_exchange.py",
        "hostile/test_hostile.py",
        "jobs/test_stopping.py",
        "jobs/test_study_command.py",
        "jobs/test_ui.py",
        "library/test_checks_of_studies.py",
        "models/test_encoder_decoder.py",
        "models/test_encoder_decoder_contract.py",
        "models/test_local_contract.py",
        "models/test_matrix.py",
        "models/test_ranks.py",
        "priors/test_prior_contract.py",
        "priors/test_vae.py",
        "statistics/test_fit_quality.py",
        "studies/search/test_proposals.py",
        "studies/search/test_sampler.py",
        "studies/search/test_space.py",
        "studies/test_again.py",
        "studies/test_reordered.py",
        "tasks/test_arithmetic.py",
        "tasks/test_task_contract.py",
        "tracking/test_mlflow_tracker.py",
        "training/test_also.py",
        "training/test_probes.py",
        "training/test_trial.py",
        "test_call_path.py",
        "test_platform.py",
        "test_private_parts.py",
        "test_shapes.py",
    )
)
"""Files whose tests take three seconds of processor time or more; `make test-fast` leaves them out."""


@lru_cache
def _starts_ray(file: Path) -> bool:
    return "pytest.mark.ray" in file.read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Lets processes share the suite: the first has all files that start Ray, and every file stays whole.

    Two clusters at a time would find each other, and a file's fixtures are then made once.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "ray" if _starts_ray(config.rootpath / file) else file

    return Files(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that start Ray come first, as they take longest. Files that are slow have a marker."""
    assert all(path.exists() for path in _SLOW)
    for item in items:
        if item.path in _SLOW:
            item.add_marker("slow")
    items.sort(key=lambda item: not _starts_ray(item.path))


def pytest_collection_finish() -> None:
    """Libraries that stay are not looked through again and again: 4% to 8% of processor time."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    _use_cache(_USERS)
    if _OURS is not None:
        _OURS.cleanup()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: which cache the test has, and whether it can run at all.

    Only tests marked `network` use the user's cache, so that what they fetch is fetched once. All
    others share one that begins empty and goes with the session. The marker names the entries of the
    catalogue that the test needs: `network("smollm2-135m-instruct-q4_1")`. Such a test is skipped where
    one of them is not in the cache and no registry answers; without a name, where no registry answers.
    With `fetch=False` it is skipped wherever one is not in the cache.
    """
    _seed_torch(item)
    marker = item.get_closest_marker("network")
    if marker is None:
        _use_cache(_SESSIONS)
        return
    _use_cache(_USERS)
    missing = [asset for asset in marker.args if not _cached(asset)]
    if missing and not marker.kwargs.get("fetch", True):
        pytest.skip(f"{' and '.join(missing)} is not in the cache {cache_root()}, and too large for each run")
    if (missing or not marker.args) and not _registry_answers():
        named = f"{' and '.join(missing)} is not in the cache {cache_root()}" if missing else "it fetches"
        pytest.skip(f"{named}, and no package registry answers")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """What a test draws does not depend on which fixtures were made for it."""
    _seed_torch(item)


def _seed_torch(item: pytest.Item) -> None:
    """Seeds torch's generator for the CPU, as pytest-randomly does those of Python and numpy."""
    if item.config.getoption("randomly_reset_seed", default=True):
        seed = item.config.getoption("randomly_seed", default=0)
        torch.default_generator.manual_seed(zlib.crc32(item.nodeid.encode()) + seed)


def _use_cache(folder: str | None) -> None:
    os.environ.pop(VARIABLE, None)
    if folder is not None:
        os.environ[VARIABLE] = folder


def _cached(asset: str) -> bool:
    """Whether an entry of the catalogue is in the cache, converted, extracted, or as it was fetched."""
    entry = (catalogue().models | catalogue().data)[asset]
    if not isinstance(entry.source, RegistryFile | JoinedFile):
        return True
    root = cache_root()
    built = [*root.glob(f"models/{asset}-*"), *root.glob(f"data/{asset}-*")]
    return bool(built) or all((root / "downloads" / file.filename).exists() for file in entry.source.files)


_THREADS = {name: os.environ.get(name) for name in thread_environment(1)}


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """A worker that ran in this process has left it the number of threads of its resources."""
    torch.set_num_threads(1)
    for name, value in _THREADS.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@lru_cache(maxsize=1)
def _registry_answers() -> bool:
    """Whether any source of packages that pip is set up for can be reached, whatever it answers."""
    found = pip_settings()
    return any(_answers(address, found) for address in (*found.indexes, *found.find_links))


def _answers(address: str, settings: PipSettings) -> bool:
    if not address.startswith(("http://", "https://")):
        return Path(address.removeprefix("file://")).exists()
    proxies = {"http": settings.proxy, "https": settings.proxy} if settings.proxy else None
    try:
        requests.head(address, timeout=15, verify=settings.certificates or True, proxies=proxies)
    except requests.exceptions.SSLError:
        return True  # somebody answered; the test will fail and say so
    except requests.RequestException:
        return False
    return True


@pytest.fixture(autouse=True, scope="session")
def quick_letters() -> Iterator[None]:
    """PDFs whose letters are drawn, in a third of the time; `test_style` has one with letters."""
    from analysis.figures import style

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "FONTS", 3)
        yield


@pytest.fixture
def quick_tsne(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planes of as many points, as repeatable as after 1,000 steps of t-SNE, in a quarter of the time."""
    from sklearn.manifold import TSNE

    for module in ("activation_planes", "posterior_maps"):
        monkeypatch.setattr(f"analysis.figures.{module}.TSNE", partial(TSNE, max_iter=250))


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small study whose trials have all run, without Ray: a `builders.Finished`, to be read or copied."""
    from tests.builders import finish_study

    return finish_study(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def jumping_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock on the wall finds it right, or a week ahead, or a day behind."""
    right, jumps = time.time, cycle((0, 7 * 86_400, -86_400))
    monkeypatch.setattr(time, "time", lambda: right() + next(jumps))
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 10**9))


@pytest.fixture(scope="session")
def twinned_study(finished_study: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The finished study with its two twins, without Ray: a `builders.Finished`, to be read or copied."""
    from tests.builders import with_repeats

    return with_repeats(finished_study, tmp_path_factory.mktemp("twinned"), "evaluation.twin=true")


@pytest.fixture(scope="session")
def repeated_study(twinned_study: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same with its two reordered trials."""
    from tests.builders import with_repeats

    changes = ("evaluation.twin=true", "evaluation.reordered=1")
    return with_repeats(twinned_study, tmp_path_factory.mktemp("repeated"), *changes)
