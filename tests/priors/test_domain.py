"""What a prior is fitted on: parts of the vocabulary, a statistics store, and how a covariance is shrunk."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import OAS

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS
from softprior.priors.domain import SAMPLE, Domain, Shrinkage, fit_domain, sampled, site_of
from softprior.prompt import Place
from softprior.seeding import torch_generator
from softprior.statistics.gaussian import fit_gaussian
from softprior.statistics.moments import Moments, oas_shrinkage, shrunk
from softprior.statistics.store import SiteStatistics, save_statistics
from softprior.testing.priors import TableSource, outline_of


def vectors(count: int = 60, hidden: int = 4, name: str = "vectors") -> torch.Tensor:
    return 0.5 + torch.randn(count, hidden, generator=torch_generator(2, name, count, hidden))


def save(folder: Path, task: str, site: str, model: str = "table", **classes: SiteStatistics) -> Path:
    found = classes or {"all": SiteStatistics.of(vectors(name=site))}
    return save_statistics(folder, task, site, model, found)


def domain(folder: Path | None = None, **params: object) -> Domain:
    given = params if folder is None else {"statistics": str(folder), "task": "squad", **params}
    return validate(Domain, given, "study.yaml")


def at(place: Place, hidden: int = 4) -> TableSource:
    source = TableSource(hidden=hidden)
    source.place = place
    return source


PLACES = {
    Place(0): "resid.0",
    Place(7, after="cut"): "resid.7",
    Place(3, "key"): "key.3",
    Place(3, "value"): "value.3",
    Place(0, stack="encoder"): "encoder.resid.0",
    Place(2, "key", stack="encoder"): "encoder.key.2",
}


@pytest.mark.parametrize("place", PLACES)
def test_the_site_is_the_places_own_unless_given(tmp_path, place):
    assert site_of(place) == PLACES[place]
    save(tmp_path, "squad", PLACES[place])
    save(tmp_path, "squad", "resid.30")
    assert torch.equal(domain(tmp_path).load(at(place)).sample, vectors(name=PLACES[place]))
    assert torch.equal(domain(tmp_path, site="resid.30").load(at(place)).sample, vectors(name="resid.30"))
    assert domain(tmp_path).name(place) == f"squad all at {PLACES[place]}"
    assert domain(tmp_path, site="resid.30").name(place) == "squad all at resid.30"


def test_the_token_class_is_all_unless_given(tmp_path):
    answer = SiteStatistics.of(vectors(name="answer"))
    save(tmp_path, "squad", "resid.0", all=SiteStatistics.of(vectors(name="all")), answer=answer)
    assert torch.equal(domain(tmp_path).load(TableSource()).sample, vectors(name="all"))
    assert torch.equal(domain(tmp_path, tokens="answer").load(TableSource()).sample, vectors(name="answer"))


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"task": "squat"}, "have no task 'squat'; did you mean 'squad'? Known: arithmetic, squad"),
        ({"task": "poems"}, "have no task 'poems'; known: arithmetic, squad"),
        ({"site": "resid.00"}, "have no site 'resid.00'; did you mean 'resid.0'? Known: resid.0, resid.1"),
        ({"tokens": "answers"}, "has no token class 'answers'; did you mean 'answer'? Known: all, answer"),
        ({"task": "../squad"}, "'../squad' is not the name of a task, site or token class"),
        ({"site": "../resid.0"}, "'../resid.0' is not the name of a task, site or token class"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(tmp_path, params, sentence):
    both = {"all": SiteStatistics.of(vectors()), "answer": SiteStatistics.of(vectors())}
    save(tmp_path, "squad", "resid.0", **both)
    save(tmp_path, "squad", "resid.1", **both)
    save(tmp_path, "arithmetic", "resid.0", **both)
    with pytest.raises(UserError, match=re.escape(sentence)):
        domain(tmp_path, **params).load(TableSource())


def test_a_site_that_the_store_does_not_have_is_refused_before_anything_is_fitted(tmp_path):
    save(tmp_path, "squad", "resid.0")
    with pytest.raises(UserError, match=r"have no site 'value\.3'; known: resid\.0"):
        domain(tmp_path).key(at(Place(3, "value")))


def test_a_missing_store_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"there is no statistics store .*/none; it is a folder of TASK/SITE"):
        domain(tmp_path / "none").load(TableSource())
    with pytest.raises(UserError, match="there is no statistics store"):
        domain(tmp_path / "none").contents()


def test_statistics_of_another_model_are_refused(tmp_path):
    save(tmp_path, "squad", "resid.0", model="0123456789abcdef")
    sentence = (
        r"resid\.0\.safetensors contains activations of another model \(0123456789ab instead of table\); "
    )
    with pytest.raises(UserError, match=sentence + "make statistics of this one$"):
        domain(tmp_path).load(TableSource())


def test_statistics_of_another_width_are_refused(tmp_path):
    save(tmp_path, "squad", "resid.0")
    sentence = (
        r"^the vectors of squad at resid\.0 in .* have 4 dimensions, but the place "
        r"decoder\.0\.residual\.keep has 5; choose a site of this width$"
    )
    with pytest.raises(UserError, match=sentence):
        domain(tmp_path).load(TableSource(hidden=5))


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    ("params", "source"),
    [
        ({"task": "poems"}, TableSource()),
        ({"site": "resid.7"}, TableSource()),
        ({}, at(Place(3, "value"))),
        ({"tokens": "answer"}, TableSource()),
        ({}, TableSource(hidden=5)),
        ({"site": "resid.1"}, TableSource()),
        ({"site": "resid.2"}, TableSource()),
    ],
)
def test_a_plan_says_of_a_store_what_a_fit_would_say(tmp_path, params, source):
    save(tmp_path, "squad", "resid.0")
    save(tmp_path, "squad", "resid.1", model="0123456789abcdef")
    save(tmp_path, "squad", "resid.2").write_bytes(b"no file of this kind")
    one = domain(tmp_path, **params)
    assert refusal(lambda: one.check_outline(outline_of(source))) == refusal(lambda: one.load(source))
    domain(tmp_path).check_outline(replace(outline_of(TableSource(hidden=5)), hidden=None))


@pytest.mark.parametrize("place", [Place(0), Place(2, "key")])
def test_a_plan_says_of_a_part_what_a_fit_would_say(place):
    source = at(place)
    thin = Domain(part=(0.5, 0.51))
    assert refusal(lambda: thin.check_outline(outline_of(source))) == refusal(lambda: thin.load(source))
    thin.check_outline(replace(outline_of(source), vocabulary=None))
    thin.check_outline(replace(outline_of(source), vocabulary=1000))


@pytest.mark.parametrize(("name", "params"), [("vae", {}), ("low_density", {"neighbours": 30})])
def test_a_plan_knows_how_many_vectors_a_prior_needs(name, params):
    prior = validate(PRIORS[name], {**params, "part": [0, 0.25]}, "study.yaml")
    source = TableSource()
    assert refusal(lambda: prior.check_outline(outline_of(source))) == refusal(lambda: prior.fit(source))
    prior.check_outline(replace(outline_of(source), vocabulary=400))


def test_keys_and_values_are_of_a_sample_of_the_vocabulary():
    part, large = Domain(part=(0.0, 0.00005)), replace(outline_of(TableSource()), vocabulary=100_000)
    part.check_outline(large)
    with pytest.raises(UserError, match="of 20000 tokens contains 1; a fit needs two"):
        part.check_outline(replace(large, place=Place(0, "key")))


@pytest.mark.parametrize(
    "prior",
    [
        {"interpolation": {"first": {"part": [0, 0.01]}}},
        {"interpolation": {"second": {"part": [0, 0.01]}}},
        {"mixture": {"priors": ["isotropic", {"fitted": {"part": [0, 0.01]}}]}},
        {"by_place": {"default": "isotropic", "blocks": {0: {"vae": {"part": [0, 0.01]}}}}},
    ],
)
def test_priors_with_domains_of_their_own_pass_the_question_on(prior):
    ((name, params),) = prior.items()
    found = validate(PRIORS[name], params, "study.yaml")
    with pytest.raises(UserError, match="of 120 tokens contains 1"):
        found.check_outline(outline_of(TableSource()))
    if name == "by_place":
        found.check_outline(outline_of(at(Place(1))))


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (
            {"statistics": "folder"},
            "statistics and task must be given together, or neither for the vocabulary",
        ),
        ({"task": "squad"}, "statistics and task must be given together, or neither for the vocabulary"),
        ({"site": "resid.0"}, "site and tokens select within statistics; leave them out without statistics"),
        ({"tokens": "answer"}, "site and tokens select within statistics; .*"),
        (
            {"statistics": "folder", "task": "squad", "part": [0.0, 0.5]},
            "part divides the vocabulary; leave it out with statistics",
        ),
        ({"part": [0.5, 0.5]}, r"part = \[0\.5, 0\.5\] is empty; the first share must be below the second"),
        ({"part": [0.7, 0.2]}, r"part = \[0\.7, 0\.2\] is empty; .*"),
        ({"part": [0.0, 1.5]}, r"part\[1\] = 1\.5: must be at most 1"),
        ({"part": [-0.1, 1.0]}, r"part\[0\] = -0\.1: must be at least 0"),
        ({"part": [0.5]}, r"part = \[0\.5\]: .*"),
    ],
)
def test_wrong_parameters(params, sentence):
    with pytest.raises(UserError, match=rf"^study\.yaml: {sentence}$"):
        domain(**params)


@given(shares=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted), size=st.integers(2, 300))
def test_a_part_is_a_run_of_the_vocabulary(shares, size):
    low, high = shares
    source = TableSource(size=size)
    first, last = round(low * size), round(high * size)
    if low == high:
        return
    found = Domain(part=(low, high))
    if last - first < 2:
        with pytest.raises(UserError, match=rf"of {size} tokens contains {last - first}; a fit needs two$"):
            found.load(source)
        return
    assert torch.equal(found.load(source).sample, source.vocabulary()[first:last])


@given(cut=st.floats(0.1, 0.9), size=st.integers(20, 300))
@settings(max_examples=30)
def test_two_parts_are_the_whole(cut, size):
    source = TableSource(size=size)
    halves = [Domain(part=part).load(source).moments for part in ((0.0, cut), (cut, 1.0))]
    whole = Domain().load(source).moments
    both = halves[0].merge(halves[1])
    assert both.count == whole.count == size
    torch.testing.assert_close(both.scatter, whole.scatter, rtol=1e-10, atol=1e-10)


def test_contents_are_of_the_site_given_or_of_all_sites_of_the_task(tmp_path):
    save(tmp_path, "squad", "resid.0")
    save(tmp_path, "squad", "resid.1", all=SiteStatistics.of(TableSource().vocabulary() + 1))
    save(tmp_path, "arithmetic", "resid.0")
    both, one = domain(tmp_path).contents(), domain(tmp_path, site="resid.1").contents()
    assert len(both) == 2
    assert one == both[1:]
    assert domain().contents() == ()
    with pytest.raises(UserError, match="have no task 'poems'"):
        domain(tmp_path, task="poems").contents()


def test_contents_know_which_site_they_are_of_but_not_where_they_stand(tmp_path):
    folders = [tmp_path / name for name in ("here", "there", "swapped")]
    shifted = SiteStatistics.of(TableSource().vocabulary() + 1)
    orders = [("resid.1", "resid.2"), ("resid.1", "resid.2"), ("resid.2", "resid.1")]
    for folder, sites in zip(folders, orders, strict=True):
        save(folder, "squad", sites[0])
        save(folder, "squad", sites[1], all=shifted)
    here, there, swapped = (domain(folder).contents() for folder in folders)
    assert here == there
    assert set(here) != set(swapped)


@pytest.mark.parametrize("name", ["fitted", "exclusion", "low_density", "vae"])
def test_a_fit_from_the_store_is_that_of_the_same_vectors(tmp_path, name):
    source = TableSource()
    save(tmp_path, "squad", "resid.0", all=SiteStatistics.of(source.vocabulary()))
    params = {"steps": 5, "width": 8} if name == "vae" else {}
    stored = PRIORS[name](statistics=tmp_path, task="squad", **params).fit(source)
    direct = PRIORS[name](**params).fit(source)
    drawn, expected = (found.sample(torch_generator(0), 6) for found in (stored, direct))
    assert torch.equal(drawn, expected)
    assert torch.equal(stored.reference().radii, direct.reference().radii)


def test_moments_are_of_all_tokens_and_radii_of_those_kept(tmp_path):
    data = vectors(400)
    moments = Moments.empty(4).update(data)
    save(tmp_path, "squad", "resid.0", all=SiteStatistics(moments, 7, 3, data[::4].contiguous()))
    distribution = PRIORS["fitted"](statistics=tmp_path, task="squad", shrinkage=0.0).fit(TableSource())
    np.testing.assert_allclose(distribution.fit.gaussian.mean, data.double().mean(0), rtol=1e-10)
    own = distribution.fit.gaussian.radius(data[::4]).sort().values
    # Each without itself: (n / (n - 1))^2 q / (1 - n q / (n - 1)^2), with q its square under the others'
    square = own.square() * 399 / 400
    expected = 400 / 399 * (square / (1 - 400 / 399**2 * square)).sqrt()
    torch.testing.assert_close(distribution.reference().radii, expected, rtol=1e-9, atol=0)
    assert distribution.reference().without == "vector"  # the store does not say whose vectors they are
    record = distribution.record()
    assert (record["tokens"], record["documents"], record["sinks"]) == (400, 7, 3)
    assert record["source"] == "squad all at resid.0"


@given(count=st.integers(1, 200), most=st.integers(1, 200))
def test_a_sample_of_vectors_has_none_twice_and_is_always_the_same(count, most):
    data = torch.arange(float(count))[:, None]
    found = sampled(data, most)
    assert len(found) == min(count, most)
    assert len(found.unique()) == len(found)
    assert torch.equal(sampled(data, most), found)
    assert count > most or torch.equal(found, data)


def test_radii_are_of_at_most_so_many_vectors(tmp_path):
    data = vectors(SAMPLE + 50, hidden=2)
    save(tmp_path, "squad", "resid.0", all=SiteStatistics.of(data))
    fit = fit_domain(domain(tmp_path), Shrinkage(), TableSource(hidden=2))
    assert len(fit.reference.radii) == SAMPLE
    assert fit.facts["tokens"] == SAMPLE + 50
    assert bool((fit.reference.radii.diff() >= 0).all())


@pytest.mark.parametrize("ratio", [1000 / 576, 4000 / 576, 10_000 / 576, 50_000 / 576])
@pytest.mark.parametrize("name", ["fitted", "exclusion"])
def test_fresh_data_have_the_radii_of_the_data_at_every_size(tmp_path, ratio, name):
    """Standard deviations span a decade, as the vocabulary's do; vectors for each dimension 1.7 to 87."""
    hidden, count = 48, round(48 * ratio)
    spread = torch.logspace(0, -1, hidden)
    data, fresh = (
        torch.randn(number, hidden, generator=torch_generator(4, part, count)) * spread + 1
        for part, number in (("data", count), ("fresh", 4000))
    )
    save(tmp_path, "squad", "resid.0", all=SiteStatistics.of(data))
    params = {"quantile": 0.95} if name == "exclusion" else {}
    law = PRIORS[name](statistics=tmp_path, task="squad", **params).fit(TableSource(hidden=hidden))
    reference, record = law.reference(), law.record()
    # With the radii of the data in their own fit: 0.99, 0.74, 0.61 and 0.52 or so.
    assert float(reference.quantiles(fresh).median()) == pytest.approx(0.5, abs=0.05)
    within = float((reference.gaussian.radius(fresh) <= record.get("radius", math.nan)).double().mean())
    assert name == "fitted" or within == pytest.approx(0.95, abs=0.025)
    assert (record["radii_without"], record["dimension"]) == ("document", hidden)
    assert 0.5 * hidden < record["effective_rank"] < hidden


sizes = st.tuples(st.integers(2, 60), st.integers(2, 12), st.integers(0, 2**32))


def drawn(size: tuple[int, int, int]) -> torch.Tensor:
    count, hidden, seed = size
    generator = torch_generator(seed, "drawn")
    mixing = torch.eye(hidden) + torch.randn(hidden, hidden, generator=generator)
    return torch.randn(count, hidden, generator=generator) @ mixing + 3


@given(sizes)
def test_shrinkage_goes_from_the_sample_covariance_to_the_scaled_identity(size):
    data = drawn(size)
    covariance = Moments.empty(data.shape[1]).update(data).covariance()
    plain = np.cov(data.double().numpy().T, bias=True)
    scaled = np.trace(plain) / len(plain) * np.eye(len(plain))
    np.testing.assert_allclose(shrunk(covariance, 0.0), plain, rtol=0, atol=1e-10 * abs(plain).max())
    np.testing.assert_allclose(shrunk(covariance, 1.0), scaled, rtol=0, atol=1e-10 * abs(plain).max())
    between = shrunk(covariance, 0.3)
    assert float(between.trace()) == pytest.approx(np.trace(plain), rel=1e-10)
    assert float(torch.linalg.eigvalsh(between)[0]) > 0


@given(sizes)
def test_the_oracle_approximating_shrinkage_is_scikit_learns_at_any_size(size):
    data = drawn(size)
    fit = fit_gaussian(Moments.empty(data.shape[1]).update(data))
    assert 0 <= fit.shrinkage <= 1
    expected = OAS().fit(data.double().numpy())
    assert fit.shrinkage == pytest.approx(expected.shrinkage_, abs=1e-8)
    found = (fit.gaussian.factor @ fit.gaussian.factor.T).numpy()
    np.testing.assert_allclose(found, expected.covariance_, rtol=0, atol=1e-8 * abs(found).max())


@given(dimension=st.integers(1, 60), scale=st.floats(1e-6, 1e6), count=st.integers(2, 10**6))
def test_a_covariance_that_is_round_already_is_shrunk_all_the_way(dimension, scale, count):
    # Its distance from the scaled identity is zero, but for rounding of either sign.
    assert oas_shrinkage(scale * torch.eye(dimension, dtype=torch.float64), count) == 1.0
