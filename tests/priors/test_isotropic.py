"""The scale is a standard deviation, not a variance."""

import pytest

from softprior.priors import PRIORS
from softprior.seeding import torch_generator
from softprior.testing.priors import TableSource


@pytest.mark.parametrize("scale", [0.02, 3.0])
def test_the_scale_is_a_standard_deviation(scale):
    sample = PRIORS["isotropic"](scale=scale).fit(TableSource(10)).sample(torch_generator(0), 2000)
    # 20,000 numbers: a standard error of 0.5%, five of them allowed.
    assert float(sample.std()) == pytest.approx(scale, rel=0.025)


def test_the_papers_scale_is_the_default():
    assert PRIORS["isotropic"]().scale == 0.02
