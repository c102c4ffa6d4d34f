"""What radii are measured against: one convention for all priors, behind the norm where a prompt is cut."""

import copy
from pathlib import Path

import pytest
import torch

from softprior.methods import METHODS
from softprior.models.local import LocalLM
from softprior.priors import PRIORS, Prior, assignment
from softprior.prompt import Place
from softprior.seeding import torch_generator
from softprior.statistics.reference import Reference
from softprior.statistics.store import SiteStatistics, save_statistics
from softprior.training.source import PlaceSource, SeenSource
from tests.builders import run, tiny, trial

CUT = Place(2, after="cut")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """States at resid.2 of thirty documents, of which the store keeps a half."""
    loaded, folder = tiny(), tmp_path_factory.mktemp("store")
    hidden = loaded.host.info().hidden
    lengths = torch.randn(3000, 1, generator=torch_generator(0, "lengths")).exp()
    vectors = 3 + lengths * torch.randn(3000, hidden, generator=torch_generator(0, "states"))
    whole = SiteStatistics.of(vectors, documents=3000)
    save_statistics(folder, "squad", "resid.2", loaded.fingerprint, {"all": whole})
    return folder


def reference(prior: Prior, place: Place) -> tuple[SeenSource, Reference | None, torch.Tensor]:
    """What the model sees at the place, what a prior's radii are measured against there, and some draws."""
    loaded = tiny()
    source = PlaceSource(loaded.host, loaded.tokenizer, place, 3)
    seen = SeenSource(loaded.host, loaded.tokenizer, place, 3)
    fitted = prior.fit(source)
    return seen, seen.reference_of(assignment(prior).at(place), fitted), fitted.sample(torch_generator(1), 50)


@pytest.mark.parametrize("name", ["fitted", "exclusion", "low_density", "vae"])
@pytest.mark.parametrize("stored", [False, True])
def test_at_cut_places_the_length_of_a_vector_does_not_matter(store: Path, name: str, stored: bool) -> None:
    params = {"statistics": store, "task": "squad"} if stored else {"part": (0.0, 0.5)}
    params |= {"steps": 1, "width": 8} if name == "vae" else {}
    seen, found, draws = reference(PRIORS[name](**params), CUT)
    assert found is not None
    data = "squad all at resid.2" if stored else "vocabulary 0-0.5"
    assert found.source == f"{data}, behind the norm of block 2"
    one, other = (found.quantiles(seen.seen(scale * draws)) for scale in (1.0, 3.0))
    torch.testing.assert_close(one, other, rtol=0, atol=0.01)
    assert float(found.quantiles(3 * seen.seen(draws)).mean()) > float(one.mean()) + 0.01
    assert found.without == "document"


def test_the_data_behind_the_norm_stand_evenly_among_themselves(store: Path) -> None:
    seen, found, _ = reference(PRIORS["fitted"](statistics=store, task="squad"), CUT)
    assert found is not None
    lengths = torch.randn(2000, 1, generator=torch_generator(2, "lengths")).exp()
    fresh = 3 + lengths * torch.randn(2000, seen.hidden, generator=torch_generator(2, "states"))
    assert float(found.quantiles(seen.seen(fresh)).median()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("prior", "place", "data"),
    [
        ({"isotropic": {}}, CUT, None),
        ({"isotropic": {}}, Place(0, after="cut"), "vocabulary, behind the norm of block 0"),
        ({"isotropic": {}}, Place(0), "vocabulary"),
        ({"fitted": {}}, CUT, "vocabulary, behind the norm of block 2"),
        ({"isotropic": {}}, Place(2, "value"), "vocabulary"),
        (
            {"by_place": {"default": "isotropic", "blocks": {2: "fitted"}}},
            CUT,
            "vocabulary, behind the norm of block 2",
        ),
    ],
)
def test_priors_without_data_stand_among_the_vocabulary_where_it_is_known(prior, place, data):
    ((name, params),) = prior.items()
    _, found, _ = reference(PRIORS[name](**params), place)
    assert (None if found is None else found.source) == data


def test_a_record_names_what_its_radii_are_among(tmp_path: Path) -> None:
    spec = trial(method=METHODS["deep"](tokens=3, last=1), prior=PRIORS["fitted"](), steps=1)
    facts = run(spec, tmp_path).prior
    for name, found in facts.items():
        block = Place.parse(name).block
        expected = {"data": f"vocabulary, behind the norm of block {block}", "without": "document"}
        assert found["radius_reference"] == expected


def test_the_fit_of_a_store_behind_a_norm_depends_on_the_dtype(store: Path) -> None:
    prior = PRIORS["fitted"](statistics=store, task="squad")
    loaded = tiny()
    keys, plain = [], []
    for dtype in (torch.float32, torch.bfloat16):
        host = LocalLM(copy.deepcopy(loaded.host._model).to(dtype), loaded.fingerprint)
        keys.append(prior.key(SeenSource(host, loaded.tokenizer, CUT, 3)))
        plain.append(prior.key(PlaceSource(host, loaded.tokenizer, CUT, 3)))
    assert keys[0] != keys[1]
    assert plain[0] == plain[1]
