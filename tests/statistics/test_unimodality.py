"""The dip test against its bootstrap and known distributions; Holm against its literal form."""

import math

import diptest
import numpy as np
import pytest
import torch
from scipy.stats import kstest

from softprior.errors import UserError
from softprior.seeding import numpy_generator, torch_generator
from softprior.statistics.documents import one_of_each
from softprior.statistics.unimodality import DRAWS, FINEST, dip_p, dip_test, holm, over_sites, unimodality


def normal(count: int, *names: str | int) -> torch.Tensor:
    return torch.randn(count, generator=torch_generator(0, *names))


def mixture(count: int) -> torch.Tensor:
    """Two halves four spreads apart."""
    return normal(count, "mixture") + 4.0 * (torch.arange(count) % 2)


def test_a_gaussian_is_not_rejected_and_a_mixture_is():
    dip, p = dip_test(normal(1000, "one"))
    assert 0 < dip < 0.02
    assert p > 0.5
    dip, p = dip_test(mixture(1000))
    assert dip > 0.04
    assert p < 1e-4


def test_the_tables_p_values_are_the_bootstraps():
    uniform = torch.rand(400, generator=torch_generator(0, "dip")).double()
    for values in (uniform, torch.cat([uniform[:250], uniform[:150] / 4])):
        dip, p = dip_test(values)
        again, bootstrapped = diptest.diptest(
            values.numpy(), boot_pval=True, n_boot=4000, seed=1, n_threads=1
        )
        assert dip == again
        # Five standard errors of 4000 draws.
        assert p == pytest.approx(bootstrapped, abs=5 * (0.25 / 4000) ** 0.5)
        assert dip_test(values) == (dip, p)


def test_p_values_of_uniform_samples_are_uniform():
    draws = torch.rand(200, 300, generator=torch_generator(1, "dip"), dtype=torch.float64)
    assert kstest([dip_test(values)[1] for values in draws], "uniform").pvalue > 0.01


def test_a_constant_is_unimodal():
    assert dip_test(torch.ones(50)) == (0, 1)


@pytest.mark.parametrize("values", [torch.ones(3), torch.tensor([0.0, 1.0, 2.0, float("nan")])])
def test_what_has_no_dip_is_refused(values):
    with pytest.raises(
        UserError, match=r"at least 4 values, all finite, but got [34] of which 3 are finite; give"
    ):
        dip_test(values)


def test_only_the_direction_with_two_modes_is_rejected():
    sample = torch.stack([normal(800, "x"), mixture(800), normal(800, "z")], 1)
    found = unimodality(sample, torch.eye(3)[[1, 0]], torch.arange(800), seed=0)
    tests = [dip_test(sample[:, 1]), dip_test(sample[:, 0])]
    assert [*zip(found.dips.tolist(), found.p.tolist(), strict=True)] == tests
    assert (found.p < 0.005).tolist() == [True, False]
    assert (found.vectors, found.independent) == (800, 800)
    # Along the diagonal the modes lie 4 / sqrt(3) of a spread apart: too near to see.
    assert float(unimodality(sample, torch.ones(1, 3), torch.arange(800), seed=0).p[0]) > 0.05


def test_p_stands_on_one_token_a_document():
    """Thirty documents, each a narrow heap of its own: many modes of tokens, one of documents."""
    documents = torch.arange(30).repeat(40)
    sample = (normal(30, "heaps")[documents] + 0.01 * normal(1200, "around"))[:, None]
    assert dip_test(sample[:, 0])[1] < 1e-3
    found = unimodality(sample, torch.ones(1, 1), documents, seed=0)
    assert float(found.dips[0]) == dip_test(sample[:, 0])[0]
    assert float(found.p[0]) > 0.05
    assert (found.vectors, found.independent) == (1200, 30)
    words = sample[:30].repeat(4, 1)
    repeated = unimodality(words, torch.ones(1, 1), torch.arange(120), seed=0, distinct=True)
    assert (repeated.vectors, repeated.independent) == (30, 30)


def test_p_combines_draws_of_one_token_a_document():
    documents = torch.arange(40).repeat(12)
    sample = (0.5 * normal(40, "centres")[documents] + mixture(480))[:, None]
    found = unimodality(sample, torch.ones(1, 1), documents, seed=5)
    generator = numpy_generator(5, "dips")
    drawn = [dip_test(sample[one_of_each(documents.numpy(), generator), 0]) for _ in range(DRAWS)]
    values = [math.tan(math.pi * (0.5 - min(max(p, 1e-15), 0.99))) for _, p in drawn]
    assert float(found.p[0]) == pytest.approx(0.5 - math.atan(np.mean(values)) / math.pi)
    assert (float(found.p_low[0]), float(found.p_high[0])) == (
        min(p for _, p in drawn),
        max(p for _, p in drawn),
    )


def test_the_verdict_does_not_depend_on_which_tokens_were_drawn():
    """Single draws say anything between a hundredth and a half here."""
    documents = torch.arange(60).repeat(10)
    sample = (0.3 * normal(60, "own")[documents] + 0.85 * mixture(600))[:, None]
    found = [unimodality(sample, torch.ones(1, 1), documents, seed) for seed in range(6)]
    p = [float(own.p[0]) for own in found]
    assert min(float(own.p_low[0]) for own in found) < 0.05 < max(float(own.p_high[0]) for own in found)
    assert max(p) <= 0.05  # those of single draws say both
    assert all(float(own.p_low[0]) <= q <= float(own.p_high[0]) for own, q in zip(found, p, strict=True))


def literal_holm(p: list[float]) -> list[float]:
    """The smallest level at which each hypothesis falls, stepping down from the smallest p."""
    ordered = sorted(p)
    return [
        min(1.0, max((len(p) - i) * q for i, q in enumerate(ordered[: ordered.index(one) + 1]))) for one in p
    ]


def test_holm_equals_its_literal_form():
    # The example of Holm's stepping down: 4 * 0.005, 3 * 0.01, 2 * 0.03 and, not below it, 1 * 0.04.
    found = holm(torch.tensor([0.01, 0.04, 0.03, 0.005], dtype=torch.float64))
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, 0.02], rtol=1e-15)
    for p in ([0.2], [0.6, 0.7], [0.01, 0.01, 0.9, 0.0, 1.0], torch.rand(30).mul(0.1).tolist()):
        np.testing.assert_allclose(holm(torch.tensor(p, dtype=torch.float64)), literal_holm(p), rtol=1e-15)
    assert holm(torch.empty(0)).tolist() == []


def test_sites_are_corrected_together():
    found = over_sites({"resid.0": [0.01, 0.04], "resid.1": [0.03], "final": [0.005]})
    assert list(found) == ["resid.0", "resid.1", "final"]
    assert [p for own in found.values() for p in own] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert over_sites({}) == {}


def test_no_dip_is_less_probable_than_the_table_can_tell():
    assert dip_p(0.25, 1000) == FINEST
    assert dip_p(0.2175, 9) == FINEST
