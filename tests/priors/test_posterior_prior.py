"""Copies of an earlier study's vectors, the noise around them, and every file that does not fit."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from softprior.assets import fingerprints
from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS
from softprior.prompt import Place
from softprior.regularisers import REGULARISERS
from softprior.results.posteriors import Posterior, save_posterior
from softprior.seeding import torch_generator
from softprior.testing.priors import DRAWS, TableSource, check_moments, outline_of
from softprior.training.identity import files_fingerprint


def vectors(count: int = 6, hidden: int = 4, name: str = "final") -> torch.Tensor:
    return 0.5 + torch.randn(count, hidden, generator=torch_generator(5, name))


def save(path: Path, model: str = "table", places: tuple[Place, ...] = (Place(0),), **sizes: int) -> Path:
    """A posterior whose final vectors are `vectors` and whose initial ones are others."""
    final = {place: vectors(**sizes) for place in places}
    initial = {place: vectors(**sizes, name="initial") for place in places}
    header = {"trial": path.stem, "model": {"fingerprint": model}}
    save_posterior(path, Posterior(header, initial, final, {3: initial}))
    return path


def prior(file: Path | str, spread: float = 0.0):
    return validate(PRIORS["posterior"], {"file": str(file), "spread": spread}, "study.yaml")


def at(place: Place, **sizes: int) -> TableSource:
    source = TableSource(**sizes)
    source.place = place
    return source


@pytest.mark.parametrize("place", [Place(0), Place(0, after="cut"), Place(7, after="cut")])
@pytest.mark.parametrize("seed", [0, 1])
def test_residual_places_get_the_bits_of_the_final_vectors(tmp_path, place, seed):
    path = save(tmp_path / "a.safetensors", places=(place, Place(11)))
    sample = prior(path).fit(at(place)).sample(torch_generator(seed), 6)
    assert torch.equal(sample.view(torch.int32), vectors().view(torch.int32))


def test_keys_are_taken_off_their_positions(tmp_path):
    class Rotating(TableSource):
        def unplaced(self, vectors):
            return vectors.flip(1)

    path = save(tmp_path / "a.safetensors", places=(Place(0, "key"),))
    source = Rotating()
    source.place = Place(0, "key")
    assert torch.equal(prior(path).fit(source).sample(torch_generator(0), 6), vectors().flip(1))


def test_a_spread_is_of_the_vectors_root_mean_square(tmp_path):
    path = save(tmp_path / "a.safetensors")
    distribution = prior(path, 0.3).fit(TableSource())
    scale = 0.3 * math.sqrt(float((vectors().double() ** 2).mean()))
    assert distribution.record() == {"earlier_trial": "a", "scale": pytest.approx(scale, rel=1e-12)}
    generator = torch_generator(0)
    draws = torch.stack([distribution.sample(generator, 6) for _ in range(DRAWS // 6)])
    noise = (draws - vectors()).double().reshape(-1, 4)
    # Around each vector's own centre, in its order; five standard errors.
    check_moments(noise, torch.zeros(4).double(), scale**2 * torch.eye(4).double(), 1e-6, 1e-6)


def test_the_density_is_that_of_each_vector_around_its_own_centre(tmp_path):
    distribution = prior(save(tmp_path / "a.safetensors"), 0.3).fit(TableSource())
    scale = distribution.record()["scale"]
    points = 0.5 + torch.randn(12, 4, generator=torch_generator(2)).double()
    centres = vectors().double().repeat(2, 1).numpy()
    expected = [multivariate_normal(c, scale**2).logpdf(p) for c, p in zip(centres, points, strict=True)]
    np.testing.assert_allclose(distribution.log_prob(points), expected, rtol=1e-10)


def test_a_prompt_with_two_vectors_swapped_is_less_likely(tmp_path):
    """What samples cannot be, the penalty of towards_prior must not take for as good."""
    distribution = prior(save(tmp_path / "a.safetensors"), 0.01).fit(TableSource())
    sample = distribution.sample(torch_generator(0), 6)
    swapped = sample[[1, 0, 2, 3, 4, 5]]
    assert float(distribution.log_prob(swapped).sum()) < float(distribution.log_prob(sample).sum()) - 1000


def test_trials_that_ask_for_the_density_are_not_those_of_the_old_one(tmp_path):
    around, exact = prior(save(tmp_path / "a.safetensors"), 0.3), prior(save(tmp_path / "a.safetensors"))
    towards, spread = REGULARISERS["towards_prior"](), REGULARISERS["spread"]()
    before = fingerprints.combined(*around.contents())
    assert files_fingerprint(around, []) == files_fingerprint(around, [spread]) == before
    assert files_fingerprint(around, [towards]) != before
    assert files_fingerprint(exact, []) == before
    both = PRIORS["mixture"](priors=[{"posterior": around.model_dump(mode="json")}, "isotropic"])
    assert both.corrections(density=True) == around.corrections(density=True) != ()


def test_only_a_spread_has_a_smooth_density(tmp_path):
    path = save(tmp_path / "a.safetensors")
    assert prior(path, 0.1).smooth()
    assert not prior(path).smooth()
    assert not prior(path).fit(TableSource()).has_density


def other_model(folder: Path) -> Path:
    return save(folder / "a.safetensors", model="0123456789abcdef")


def other_count(folder: Path) -> Path:
    return save(folder / "a.safetensors", count=5)


def other_width(folder: Path) -> Path:
    return save(folder / "a.safetensors", hidden=3)


def other_place(folder: Path) -> Path:
    return save(folder / "a.safetensors", places=(Place(4, after="cut"), Place(2, "key")))


def damaged(folder: Path) -> Path:
    path = save(folder / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    return path


REFUSED = {
    other_model: r"a\.safetensors was trained on another model \(0123456789ab instead of table\); "
    "give a posterior of this one, as vectors mean nothing in another",
    other_count: r"a\.safetensors contains 5 vectors of 4 dimensions at decoder\.0\.residual\.keep, but this "
    "trial has 6 of 4; use as many tokens",
    other_width: r"a\.safetensors contains 6 vectors of 3 dimensions at .*, but this trial has 6 of 4; .*",
    other_place: r"a\.safetensors has no vectors at decoder\.0\.residual\.keep; it has "
    r"decoder\.2\.key\.keep, decoder\.4\.residual\.cut, so use the same method and placement$",
    damaged: r"a\.safetensors is damaged or not a posterior file: .*",
    lambda folder: folder / "none.safetensors": r"posterior\.file = .*none\.safetensors: there is no such "
    "posterior file or study folder; run the study that makes it first, or give another path",
    lambda folder: folder / "tuned": r"posterior\.file = .*tuned: there is no such posterior file or study "
    r"folder; run the study 'tuned' first \(python -m jobs\.study jobs/studies/tuned\.yaml\), or give "
    "another path",
    lambda folder: folder / "nobody's": r".*; run the study that makes it first, or give another path",
    lambda folder: folder / "tuned" / "posteriors" / "a.safetensors": r".*; run the study 'tuned' first \(.*",
}
"""Files that do not fit, and what is said of them."""


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_does_not_fit_is_refused_in_one_sentence(tmp_path, case):
    with pytest.raises(UserError, match=rf"^.*{REFUSED[case]}$") as caught:
        prior(case(tmp_path)).fit(TableSource())
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=re.escape(str(caught.value))):
        prior(case(tmp_path)).check_outline(outline_of(TableSource()))


@pytest.mark.parametrize("case", [damaged, lambda folder: folder / "none.safetensors"])
def test_missing_and_damaged_files_are_said_before_anything_runs(tmp_path, case):
    with pytest.raises(UserError, match=REFUSED.get(case, "there is no such posterior file")):
        prior(case(tmp_path)).contents()


def test_contents_are_model_and_vectors_and_nothing_else(tmp_path):
    one = save(tmp_path / "study" / "posteriors" / "a.safetensors")
    same = save(tmp_path / "elsewhere.safetensors")
    assert one.read_bytes() != same.read_bytes(), "the headers name different trials"
    assert prior(one).contents() == prior(same).contents()
    other = save(tmp_path / "study" / "posteriors" / "b.safetensors", model="another")
    assert prior(other).contents() != prior(one).contents()
    assert prior(tmp_path / "study").contents() == tuple(
        sorted(prior(one).contents() + prior(other).contents())
    )


def test_of_a_study_the_one_posterior_that_fits_is_taken(tmp_path):
    folder = tmp_path / "posteriors"
    save(folder / "a.safetensors", count=5)
    save(folder / "b.safetensors")
    save(folder / "c.safetensors", model="another")
    save(folder / "d.safetensors", places=(Place(9),))
    assert torch.equal(prior(tmp_path).fit(TableSource()).sample(torch_generator(0), 6), vectors())


def test_only_posteriors_of_the_trials_that_a_study_has_now_count(tmp_path):
    """`a` is of an earlier plan, as one of other code or with other steps is."""
    for trial in "abc":
        save(tmp_path / "posteriors" / f"{trial}.safetensors", count=5 + (trial != "c"))
    study = tmp_path / "study.json"
    study.write_text(json.dumps({"spec": {"name": "tuned"}, "trials": ["b", "c"]}))
    assert prior(tmp_path).fit(TableSource()).record() == {"earlier_trial": "b"}
    kept = [prior(tmp_path / "posteriors" / f"{trial}.safetensors") for trial in "bc"]
    assert prior(tmp_path).contents() == tuple(sorted(text for one in kept for text in one.contents()))
    study.write_text(json.dumps({"spec": {"name": "tuned"}, "trials": ["d"]}))
    with pytest.raises(UserError, match=r"its 3 posteriors are of no trial that the study has now; run"):
        prior(tmp_path).contents()


def test_a_study_with_a_single_posterior_says_why_it_does_not_fit(tmp_path):
    save(tmp_path / "posteriors" / "a.safetensors", count=5)
    with pytest.raises(UserError, match="contains 5 vectors of 4 dimensions"):
        prior(tmp_path).fit(TableSource())


@pytest.mark.parametrize(
    ("counts", "found", "named"),
    [
        ((5, 4), 0, "0.safetensors, 1.safetensors"),
        ((6, 5, 6), 2, "0.safetensors, 2.safetensors"),
        ((6,) * 6, 6, "0.safetensors, 1.safetensors, 2.safetensors, 3.safetensors and 2 more"),
    ],
)
def test_of_a_study_exactly_one_posterior_must_fit(tmp_path, counts, found, named):
    for i, count in enumerate(counts):
        save(tmp_path / "posteriors" / f"{i}.safetensors", count=count)
    sentence = (
        rf"^{found} of the {len(counts)} posteriors of .* have 6 vectors of this model at "
        r"the place of this trial \(decoder\.0\.residual\.keep\), but exactly one is needed; give the file "
        rf"of one trial \({named} in .*/posteriors\)$"
    )
    with pytest.raises(UserError, match=sentence):
        prior(tmp_path).fit(TableSource())
    with pytest.raises(UserError, match=sentence):
        prior(tmp_path).check_outline(outline_of(TableSource()))


def test_a_plan_that_does_not_know_the_width_checks_the_rest(tmp_path):
    path = save(tmp_path / "a.safetensors", hidden=3)
    prior(path).check_outline(replace(outline_of(TableSource()), hidden=None))
    with pytest.raises(UserError, match=r"contains 6 vectors of 3 dimensions .* this trial has 7 of 3"):
        prior(path).check_outline(replace(outline_of(TableSource(tokens=7)), hidden=None))


def test_a_file_written_anew_is_read_anew(tmp_path):
    path = save(tmp_path / "a.safetensors", count=5)
    with pytest.raises(UserError, match="contains 5 vectors"):
        prior(path).check_outline(outline_of(TableSource()))
    save(path)
    prior(path).check_outline(outline_of(TableSource()))


def test_a_study_without_posteriors_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"^posterior\.file = .* no posteriors; run the study that makes them first, or .*"
    ):
        prior(tmp_path).contents()


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({}, "the key 'file' is required and has no default; add it"),
        ({"file": "a", "spread": -0.1}, r"spread = -0\.1: must be at least 0"),
    ],
)
def test_wrong_parameters(params, sentence):
    with pytest.raises(UserError, match=rf"^study\.yaml: {sentence}$"):
        validate(PRIORS["posterior"], params, "study.yaml")
