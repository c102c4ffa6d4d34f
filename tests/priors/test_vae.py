"""The bound against its literal form, what is learnt of a linear model, and collapse."""

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS
from softprior.priors.base import Outline
from softprior.priors.vae import ACTIVE, FEWEST, Autoencoder, divergence_from_prior
from softprior.prompt import Place
from softprior.seeding import torch_generator
from softprior.statistics.store import SiteStatistics, load_statistics, sample_size, save_statistics
from softprior.testing.priors import TableSource

FACTORS, DIMENSION, NOISE = 2, 20, 0.5


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A statistics store of vectors that two factors and independent noise make."""
    generator = torch_generator(0, "factors")
    mixing = torch.randn(FACTORS, DIMENSION, generator=generator)
    factors = torch.randn(4000, FACTORS, generator=generator)
    noise = NOISE * torch.randn(4000, DIMENSION, generator=generator)
    vectors = factors @ mixing + noise + torch.linspace(-2, 2, DIMENSION)
    folder = tmp_path_factory.mktemp("store")
    save_statistics(folder, "factors", "resid.0", "table", {"all": SiteStatistics.of(vectors)})
    return folder, vectors


def prior(folder, **params: object):
    given = {"statistics": str(folder), "task": "factors", "latent": 8, "width": 32, **params}
    return validate(PRIORS["vae"], given, "study.yaml")


def test_the_divergence_is_that_of_two_normals():
    generator = torch_generator(0)
    mean = 3 * torch.randn(50, 4, generator=generator).double()
    logs = 2 * torch.randn(50, 4, generator=generator).double()
    law = Normal(mean, (logs / 2).exp())
    expected = kl_divergence(law, Normal(torch.zeros(()).double(), torch.ones(()).double()))
    torch.testing.assert_close(divergence_from_prior(mean, logs), expected, rtol=1e-12, atol=1e-12)
    assert not divergence_from_prior(torch.zeros(1, 3), torch.zeros(1, 3)).any()


@pytest.mark.parametrize(("mean", "log_variance"), [(0.0, -1.0), (1.5, 0.7), (-2.0, -3.0)])
def test_the_divergence_is_the_integral_that_defines_it(mean, log_variance):
    law, prior_law = Normal(mean, math.exp(log_variance / 2)), Normal(0.0, 1.0)
    z = torch.linspace(-20, 20, 400_001).double()
    expected = torch.trapezoid(law.log_prob(z).exp() * (law.log_prob(z) - prior_law.log_prob(z)), z)
    found = divergence_from_prior(torch.tensor([[mean]]).double(), torch.tensor([[log_variance]]).double())
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_the_loss_is_the_negative_evidence_lower_bound(beta):
    network = Autoencoder(5, 3, 7, torch_generator(0)).double()
    with torch.no_grad():
        network.log_noise.copy_(torch.linspace(-1, 1, 5))
    x = torch.randn(11, 5, generator=torch_generator(1)).double()
    found = network.loss(x, beta, torch_generator(2))

    epsilon = torch.randn(11, 3, generator=torch_generator(2)).double()
    mean, logs = network.encode(x)
    encoded = Normal(mean, (logs / 2).exp())
    z = mean + epsilon * encoded.scale
    decoded = Normal(network.decoder(z), network.log_noise.exp())
    standard = Normal(torch.zeros(()).double(), torch.ones(()).double())
    bound = decoded.log_prob(x).sum(1) - beta * kl_divergence(encoded, standard).sum(1)
    constant = 5 / 2 * math.log(2 * math.pi)
    assert found.item() == pytest.approx(-bound.mean().item() - constant, rel=1e-12)


@pytest.mark.faults  # trains for a quarter of a minute; the formulas are tested above
def test_a_linear_model_of_two_factors_is_learnt(store):
    folder, vectors = store
    distribution = prior(folder).fit(TableSource(hidden=DIMENSION))
    sample = distribution.sample(torch_generator(1), 20_000)
    spread = vectors.std(0)
    assert float(((sample.mean(0) - vectors.mean(0)) / spread).abs().max()) < 0.1
    wanted, found = torch.cov(vectors.T), torch.cov(sample.T)
    # In the Frobenius norm: 0.12 here, and 0.9 where only the noise is learnt.
    assert float((found - wanted).norm() / wanted.norm()) < 0.2
    record = distribution.record()
    assert record["active_units"] == FACTORS
    assert record["spread_over_data"] == pytest.approx(1, abs=0.1)
    assert record["participation_over_data"] == pytest.approx(1, abs=0.2)
    assert record["median_radius_over_data"] == pytest.approx(1, abs=0.2)
    assert (record["tokens"], record["latent"], record["source"]) == (4000, 8, "factors all at resid.0")
    assert record["verdict"] == "fits"
    assert distribution.warnings() == ()


def test_a_strong_beta_collapses_it_and_the_record_shows_it(store):
    folder, _ = store
    record = prior(folder, beta=100.0, steps=500).fit(TableSource(hidden=DIMENSION)).record()
    assert record["active_units"] == 0
    assert record["divergence"] < 8 * ACTIVE
    # All that is left is noise, which has no directions: its participation ratio is that of the identity.
    assert record["participation_over_data"] > 3


def test_a_vae_whose_draws_are_not_spread_as_the_data_says_so(tmp_path):
    """A third of the vectors lie far out in few directions, and two steps learn the noise's start alone."""
    vectors = 3 * torch.randn(120, 30, generator=torch_generator(5))
    vectors[:, 0] *= torch.randn(120, generator=torch_generator(6)).exp() * 30
    save_statistics(tmp_path, "factors", "resid.0", "table", {"all": SiteStatistics.of(vectors)})
    law = prior(tmp_path, steps=2).fit(TableSource(hidden=30))
    record = law.record()
    assert not 0.8 <= record["spread_over_data"] <= 1.25
    assert law.warnings() == (record["verdict"],)
    sentence = f"the vae does not fit its data: its draws have {record['spread_over_data']:.2f} of their "
    assert record["verdict"].startswith(sentence)
    assert "from 120 vectors of 30 dimensions; give it more vectors" in record["verdict"]
    mixed = PRIORS["mixture"](priors=["isotropic", {"vae": prior(tmp_path, steps=2).model_dump(mode="json")}])
    assert mixed.fit(TableSource(hidden=30)).warnings() == law.warnings()


def test_the_reference_is_the_gaussian_of_the_data(store):
    folder, vectors = store
    reference = prior(folder, steps=1).fit(TableSource(hidden=DIMENSION)).reference()
    torch.testing.assert_close(reference.gaussian.mean, vectors.double().mean(0), rtol=1e-9, atol=1e-9)
    assert (len(reference.radii), reference.without) == (4000, "document")
    own = reference.gaussian.radius(vectors).sort().values
    # Each without itself: farther out, by little with 200 vectors a dimension.
    assert bool((reference.radii > own).all())
    torch.testing.assert_close(reference.radii, own, rtol=0.02, atol=0)


def test_the_place_of_the_store_does_not_matter(store, tmp_path):
    folder, vectors = store
    save_statistics(tmp_path, "factors", "resid.0", "table", {"all": SiteStatistics.of(vectors)})
    source = TableSource(hidden=DIMENSION)
    one, two = (prior(f, steps=20).fit(source).sample(torch_generator(0), 6) for f in (folder, tmp_path))
    assert torch.equal(one, two)


def test_a_constant_coordinate_stays_constant(tmp_path):
    vectors = torch.randn(150, 3, generator=torch_generator(3))
    vectors[:, 1] = 7.0
    save_statistics(tmp_path, "factors", "resid.0", "table", {"all": SiteStatistics.of(vectors)})
    sample = prior(tmp_path, steps=20).fit(TableSource(hidden=3)).sample(torch_generator(0), 50)
    torch.testing.assert_close(sample[:, 1], torch.full((50,), 7.0))
    assert float(sample[:, 0].std()) > 0.1


def test_fits_and_draws_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    distribution = PRIORS["vae"](steps=3, width=11).fit(TableSource())
    distribution.sample(torch_generator(0), 6)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_too_few_vectors_are_refused():
    PRIORS["vae"](steps=1, width=8).fit(TableSource(size=FEWEST))
    sentence = r"^a vae needs at least 100 vectors, but vocabulary has 99; give more or use fitted$"
    with pytest.raises(UserError, match=sentence):
        PRIORS["vae"](steps=1, width=8).fit(TableSource(size=FEWEST - 1))


@pytest.mark.parametrize(("size", "keyed"), [(500, True), (1600, True), (500, False)])
def test_a_plan_says_how_few_vectors_a_store_keeps(size, keyed, store, tmp_path):
    """Of one token class and of two, whose samples are joined by their keys if they have any."""
    outline = Outline(Place(0), (Place(0),), 4, "table", DIMENSION)
    assert prior(store[0]).outline_notes(outline) == (), "it keeps all there are"
    facts = {"key": torch.arange(500)} if keyed else {}
    classes = {
        name: replace(SiteStatistics.of(torch.zeros(n, 3)), sample=torch.zeros(500, 3), facts=facts)
        for name, n in (("a", 700), ("b", 900))
    }
    union = {"all": ["a", "b"]}
    save_statistics(tmp_path, "few", "resid.0", "table", classes, union, facts={"sample": size})
    for tokens, of in (("all", 1600), ("a", 700)):
        read = len(load_statistics(tmp_path, "few", "resid.0", tokens, "table").sample)
        assert sample_size(tmp_path, "few", "resid.0", tokens, "table") == (read, of)
        (note,) = prior(tmp_path, task="few", tokens=tokens).outline_notes(outline)
        assert f"on {read:,} of the {of:,} vectors of few {tokens} at resid.0, since the store keeps" in note
        assert "takes up to 20,000" in note


def test_a_plan_refuses_a_sample_as_the_fit_does(tmp_path):
    few = replace(SiteStatistics.of(torch.zeros(500, 3)), sample=torch.zeros(FEWEST - 1, 3))
    save_statistics(tmp_path, "few", "resid.0", "table", {"all": few})
    outline = Outline(Place(0), (Place(0),), 4, "table", 3)
    source = TableSource(hidden=3)
    vae = prior(tmp_path, task="few")
    for refuse in (lambda: vae.check_outline(outline), lambda: vae.fit(source)):
        with pytest.raises(UserError, match=r"^a vae needs at least 100 vectors, but few all .* has 99;"):
            refuse()


def test_there_is_no_density():
    with pytest.raises(ValueError, match="VAE has no density except as an integral over its latent variable"):
        PRIORS["vae"](steps=1, width=8).fit(TableSource()).log_prob(torch.zeros(1, 4))


@pytest.mark.parametrize("key", ["latent", "width", "steps"])
def test_sizes_are_at_least_one(key):
    with pytest.raises(UserError, match=rf"^study\.yaml: {key} = 0: must be at least 1$"):
        validate(PRIORS["vae"], {key: 0}, "study.yaml")


def test_the_divergence_must_have_a_weight():
    with pytest.raises(UserError, match=r"^study\.yaml: beta = 0\.0: must be greater than 0$"):
        validate(PRIORS["vae"], {"beta": 0.0}, "study.yaml")
