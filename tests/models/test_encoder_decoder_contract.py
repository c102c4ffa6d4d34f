"""The host of encoder-decoder models keeps the contract of hosts, in every family of the T5 kind."""

import pytest

from softprior.models.encoder_decoder import EncoderDecoderLM
from softprior.testing.families import ENCODER_DECODERS, random_model, with_uneven_norms
from softprior.testing.hosts import CHECKS, check_finite_differences, check_host, check_normalise

DOUBLE = "umt5"
"""The family that has its contract checked in float64; `test_encoder_decoder` runs it in float32."""

every_family = pytest.mark.parametrize("family", sorted(ENCODER_DECODERS))


LATER = {"mt5"}
"""Whose contract is checked by the long tests, as it is a `t5 v1.1` by another name."""


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=pytest.mark.faults if family in LATER else ())
        for family in sorted({*ENCODER_DECODERS} - {DOUBLE})
    ],
)
@pytest.mark.parametrize("check", CHECKS["encoder"], ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(family, check):
    # The host runs with the attention it is loaded with, the oracle with eager attention.
    check(EncoderDecoderLM(random_model(family, "sdpa"), "weights"), random_model(family))


@every_family
def test_finite_differences(family):
    host = EncoderDecoderLM(random_model(family, "sdpa").double(), "weights")
    # Where a feed-forward layer is a ReLU, wide steps cross kinks.
    check_finite_differences(host, step=1e-4 if family == "t5" else 3e-3)


@every_family
def test_each_block_has_its_own_norm(family):
    host = EncoderDecoderLM(with_uneven_norms(random_model(family, "sdpa")), "weights")
    check_normalise(host, with_uneven_norms(random_model(family)))


@pytest.mark.faults  # for its seconds; `test_encoder_decoder` has the same family in float32
def test_the_suite_runs_whole_in_double_precision():
    host = EncoderDecoderLM(random_model(DOUBLE, "sdpa").double(), "weights")
    check_host(host, random_model(DOUBLE).double())
