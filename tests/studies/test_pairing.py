"""Combinations that cannot be are left out of a grid with a note, and refused where nothing is left."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from softprior.errors import UserError
from softprior.inputs.specs import StudySpec
from softprior.inputs.validation import validate
from softprior.studies.plan import Plan, plan_study
from softprior.testing.families import random_model, save_model


def planner(model: Any) -> Callable[..., Plan]:
    """Plans small studies of a model."""

    def plan(**changes: Any) -> Plan:
        study = {
            "name": "small",
            "model": model,
            "priors": ["isotropic", "fitted"],
            "methods": ["soft", {"deep": {"tokens": 5}}],
            "tasks": ["arithmetic"],
            "rates": [1e-3],
            "seeds": [0],
            "training": {"steps": 5, "batch": 2},
        }
        return plan_study(validate(StudySpec, {**study, **changes}, "study.yaml"), "study.yaml")

    return plan


@pytest.fixture
def plan() -> Callable[..., Plan]:
    """Of a model whose blocks are not known."""
    return planner({"id": "hub:owner/name", "revision": "0" * 40})


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Plan]:
    """Of a model with four blocks."""
    return planner(str(save_model(random_model("llama"), tmp_path_factory.mktemp("model"))))


def combinations(found: Plan) -> set[tuple[str, ...]]:
    """Prior, method and regularisers of every trained trial."""
    return {
        (t.prior.name, t.method.name, *(e.name for e in t.regularisers))
        for t in found.trials
        if t.prior is not None
    }


NEEDS = r"towards_prior needs a prior with a finite smooth density everywhere \(as isotropic, .* have\)"


def test_a_regulariser_is_left_out_with_priors_that_cannot_carry_it_and_the_plan_says_so(plan):
    found = plan(
        priors=["fitted", "xavier", "vocabulary"], methods=["soft"], regularisers=["none", "towards_prior"]
    )
    alone = {("fitted", "soft"), ("xavier", "soft"), ("vocabulary", "soft")}
    assert combinations(found) == alone | {("fitted", "soft", "towards_prior")}
    (note,) = (note for note in found.notes if "towards_prior" in note)
    assert re.fullmatch(
        rf"regularisers\[1\]: {NEEDS}, which xavier and vocabulary cannot give; left out there", note
    )
    # Trials that remain are those of the same study without the others.
    assert {
        t.id for t in plan(priors=["fitted"], methods=["soft"], regularisers=["towards_prior"]).trials
    } < {t.id for t in found.trials}


def test_one_unsuited_term_leaves_its_whole_list_out(plan):
    found = plan(priors=["fitted", "xavier"], methods=["soft"], regularisers=[["spread", "towards_prior"]])
    assert combinations(found) == {("fitted", "soft", "spread", "towards_prior")}


@pytest.mark.parametrize("priors", [["xavier"], ["zeros", "xavier"], ["xavier", "exclusion"]])
@pytest.mark.parametrize("regularisers", [["none", "towards_prior"], ["none", ["spread", "towards_prior"]]])
def test_a_regulariser_that_no_prior_can_carry_is_refused_with_its_place(plan, priors, regularisers):
    with pytest.raises(
        UserError, match=rf"study.yaml: regularisers\[1\]: {NEEDS}, which .*xavier.* cannot give; add"
    ):
        plan(priors=priors, regularisers=regularisers)


def test_priors_of_one_name_are_told_apart(plan):
    mixtures = [{"mixture": {"priors": ["isotropic", other]}} for other in ("fitted", "xavier")]
    found = plan(priors=mixtures, methods=["soft"], regularisers=["towards_prior"])
    assert any("which mixture(priors=[isotropic, xavier]) cannot give" in note for note in found.notes)


def test_without_a_trained_method_regularisers_have_no_effect(plan):
    assert len(plan(methods=["none"], priors=["xavier"], regularisers=["towards_prior"]).trials) == 1


def by_place(**params: Any) -> dict[str, Any]:
    return {"by_place": {"default": "fitted", **params}}


@pytest.mark.parametrize(
    ("prior", "methods"),
    [
        # An entry for a block where a method has no vectors decides nothing there.
        (by_place(blocks={3: "zeros"}), {"soft", "prefix"}),
        (by_place(blocks={0: "zeros"}), {"prefix"}),
        (by_place(blocks={3: "zeros"}, keys="xavier"), {"soft", "prefix"}),
        # The default neither, where all places have entries of their own.
        (by_place(default="zeros", blocks={0: "fitted"}), {"soft", "prefix"}),
        (by_place(default="zeros", blocks={1: "fitted"}), {"prefix"}),
        (
            by_place(default="zeros", blocks={0: "fitted", 2: "xavier", 3: "fitted"}),
            {"soft", "deep", "prefix"},
        ),
    ],
)
def test_a_prior_by_place_is_left_out_only_where_its_own_places_refuse(sized, prior, methods):
    every = ["soft", {"deep": {"last": 2}}, "prefix"]
    found = sized(priors=["isotropic", prior], methods=every)
    assert {m for p, m, *_ in combinations(found) if p == "by_place"} == methods
    left = {m for note in found.notes if note.startswith("by_place: ") for m in re.findall("soft|deep", note)}
    assert left == {"soft", "deep", "prefix"} - methods


def test_a_block_that_no_method_has_is_said_and_drops_nothing(sized):
    found = sized(priors=[by_place(blocks={3: "zeros"})], methods=["soft"])
    assert combinations(found) == {("by_place", "soft")}
    assert "priors[0] names block 3, where no method has vectors; it has no effect" in found.notes


def test_without_known_blocks_a_prior_by_place_is_left_out_where_no_block_can_have_it(plan):
    kept = plan(priors=["isotropic", by_place(default="zeros", blocks={0: "fitted"})], methods=["soft"])
    assert combinations(kept) == {("isotropic", "soft"), ("by_place", "soft")}
    left = plan(priors=["isotropic", by_place(default="zeros")], methods=["soft"])
    assert combinations(left) == {("isotropic", "soft")}


def test_a_regulariser_looks_at_the_priors_of_a_methods_own_places(sized):
    prior = by_place(keys="xavier")
    found = sized(priors=[prior], methods=["soft", "prefix"], regularisers=["towards_prior"])
    assert combinations(found) == {("by_place", "soft", "towards_prior")}
    assert any("which by_place at the places of prefix cannot give" in note for note in found.notes)
