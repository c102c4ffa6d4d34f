"""The local host keeps the contract of hosts, in every family of the contract suite."""

import pytest

from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.testing.families import FAMILIES, random_model
from softprior.testing.hosts import CHECKS, check_finite_differences, check_host

every_family = pytest.mark.parametrize("family", sorted(FAMILIES))


@every_family
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(family, check):
    check(LocalLM(random_model(family, ATTENTION), "weights"), random_model(family))


@every_family
def test_finite_differences(family):
    check_finite_differences(LocalLM(random_model(family, ATTENTION).double(), "weights"))


def test_the_suite_runs_whole_in_double_precision():
    check_host(LocalLM(random_model("gpt2", ATTENTION).double(), "weights"), random_model("gpt2").double())
