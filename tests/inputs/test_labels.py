"""What trials are called: plain names, and no more parameters than tell them apart."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprior.inputs.entries import Entry, Shown
from softprior.inputs.entry_texts import names, short_names
from softprior.inputs.labels import by_number, counted, labels, numbered, short_ids
from softprior.inputs.specs import EvaluationSpec, Rate, TrainingSpec, TrialSpec
from softprior.methods import METHODS


def entry(name: str, **params: Any) -> Entry:
    return Entry(name=name, params=params)


def trial(task: Entry, method: Entry, prior: Entry | None, *terms: Entry, seed: int = 0) -> TrialSpec:
    return TrialSpec(
        model="tiny",
        model_fingerprint="f",
        dtype="float32",
        method=method,
        prior=prior,
        regularisers=terms,
        task=task,
        data_fingerprint="d",
        rate=None if prior is None else Rate(value=5e-3),
        seed=None if prior is None else seed,
        training=None if prior is None else TrainingSpec(steps=5, batch=2),
        evaluation=EvaluationSpec(),
    )


SUMS, SQUAD = entry("arithmetic", modules=["mul"]), entry("squad", length=256)
SOFT, NONE = entry("soft", tokens=20), entry("none")


def named(*entries: Entry) -> list[str]:
    found = names(entries)
    return [found[e.canonical()] for e in entries]


def test_one_variant_has_its_plain_name_and_two_show_where_they_differ() -> None:
    narrow, wide = entry("isotropic", scale=0.02, part=None), entry("isotropic", scale=0.1, part=None)
    fitted = entry("fitted", jitter=0.0)
    assert named(narrow, fitted) == ["isotropic", "fitted"]
    assert named(narrow, wide, fitted) == ["isotropic(scale=0.02)", "isotropic(scale=0.1)", "fitted"]
    shell = entry("isotropic", scale=0.1, part=[0.5, 1.0])
    assert named(wide, shell) == ["isotropic", "isotropic(part=[0.5, 1])"]


def test_a_mixture_shows_which_component_differs() -> None:
    def mixture(scale: float) -> Entry:
        parts = [{"name": "isotropic", "params": {"scale": scale}}, {"name": "fitted", "params": {}}]
        return entry("mixture", priors=parts, weights=None)

    assert named(mixture(0.02), mixture(0.1)) == [
        "mixture(priors=[isotropic(scale=0.02), fitted])",
        "mixture(priors=[isotropic(scale=0.1), fitted])",
    ]
    places = [
        entry("by_place", default={"name": "zeros", "params": {}}, blocks={"0": {"name": n, "params": {}}})
        for n in ("vae", "fitted")
    ]
    assert named(*places) == ["by_place(blocks={0: vae})", "by_place(blocks={0: fitted})"]


def test_long_texts_show_what_differs() -> None:
    files = [f"results/tuned/posteriors/{n}.safetensors" for n in ("4bf4e97", "9ab0c11")]
    found = named(*(entry("posterior", file=file) for file in files))
    assert found == ["posterior(file=…4bf4e97…)", "posterior(file=…9ab0c11…)"]
    words = ["Answer the question\nin a few words of the text.", "Say nothing that is not in the passage."]
    assert named(*(entry("instruction", text=text) for text in words)) == [
        "instruction(text=Answer the question\\nin …)",
        "instruction(text=Say nothing that is not …)",
    ]
    assert named(entry("instruction", text=words[0]), entry("instruction", text=None)) == [
        "instruction(text=Answer the question\\nin …)",
        "instruction",
    ]


values = st.none() | st.integers(0, 3) | st.floats(0, 1) | st.text("ab/. \n", max_size=40)
pairs = st.fixed_dictionaries({"first": values, "second": st.sampled_from([None, 0.5, 1.5])})


@given(st.lists(pairs, max_size=6))
def test_different_entries_have_different_names_of_one_line(several: list[dict]) -> None:
    # 1 and 1.0 are no two values of one parameter: its type is checked.
    several = [{**p, "first": str(p["first"]) if p["first"] is not None else None} for p in several]
    entries = [Entry(name="x", params=params) for params in several]
    found = names(entries)
    assert len(set(found.values())) == len({e.canonical() for e in entries})
    assert all("\n" not in name for name in found.values())


def test_labels_name_the_axes_and_nothing_that_all_share() -> None:
    plain = [trial(SUMS, NONE, None), *(trial(SUMS, SOFT, entry("fitted"), seed=s) for s in (0, 1))]
    assert list(labels(plain).values()) == [
        "arithmetic · none",
        "arithmetic · soft · fitted · 0.005 · seed 0",
        "arithmetic · soft · fitted · 0.005 · seed 1",
    ]
    isotropic = [entry("isotropic", scale=scale) for scale in (0.02, 0.1)]
    terms = [(), (entry("spread", weight=1.0),), (entry("spread", weight=0.1),)]
    several = [trial(SUMS, SOFT, prior, *own) for prior, own in product(isotropic, terms)]
    found = list(labels(several).values())
    assert found[0] == "arithmetic · soft · isotropic(scale=0.02) · 0.005 · seed 0"
    assert found[-1] == "arithmetic · soft · isotropic(scale=0.1) · spread(weight=0.1) · 0.005 · seed 0"
    assert len(set(found)) == 6


def test_what_the_first_trials_of_a_search_share_is_shown_if_it_is_no_default() -> None:
    first = trial(SUMS, entry("soft", tokens=2), entry("isotropic", scale=0.5))
    plain = trial(SUMS, entry("soft"), entry("fitted"), seed=1)
    assert list(labels([first], beside_defaults=True).values()) == [
        "arithmetic · soft(tokens=2) · isotropic(scale=0.5) · 0.005 · seed 0"
    ]
    assert (
        labels([first, plain], beside_defaults=True)[plain.id]
        == "arithmetic · soft · fitted · 0.005 · seed 1"
    )


def test_defaults_and_labels_show_no_parameters_in_a_search_either() -> None:
    soft = METHODS.entry(METHODS["soft"]())
    wide = METHODS.entry(METHODS["soft"](tokens=40)).shown_as(Shown("wide", {"tokens": 40}))
    few = METHODS.entry(METHODS["soft"](tokens=2))
    trials = [trial(SUMS, method, entry("fitted")) for method in (soft, wide, few)]
    found = labels(trials, beside_defaults=True)
    assert [label.split(" · ")[1] for label in found.values()] == ["soft", "wide", "soft(tokens=2)"]
    (alone,) = labels(trials[:1], beside_defaults=True).values()
    assert alone == "arithmetic · soft · fitted · 0.005 · seed 0"


def test_what_an_instruction_says_stands_only_where_one_task_has_several() -> None:
    def told(task: Entry, text: str) -> TrialSpec:
        return trial(task, entry("instruction", written=text), None)

    assert list(labels([told(SUMS, "Add."), told(SQUAD, "Read.")]).values()) == [
        "arithmetic · instruction",
        "squad · instruction",
    ]
    assert list(labels([told(SUMS, "Add."), told(SUMS, "Sum.")]).values()) == [
        "arithmetic · instruction(written=Add.)",
        "arithmetic · instruction(written=Sum.)",
    ]


def test_ids_are_as_long_as_tells_them_apart() -> None:
    assert short_ids(["0123456789", "ab23456789"]) == {"0123456789": "012345", "ab23456789": "ab2345"}
    assert short_ids(["01234567", "01234568"]) == {"01234567": "01234567", "01234568": "01234568"}
    assert short_ids([]) == {}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], []),
        (["domain", "spread"], ["domain", "spread"]),
        (["domain", "domain", "spread", "domain"], ["domain", "domain-2", "spread", "domain-3"]),
    ],
)
def test_words_are_numbered_from_the_second_on(words: list[str], found: list[str]) -> None:
    assert numbered(words) == found


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 trials"),
        (1, "1 trial"),
        (1.0, "1 trial"),
        (0.5, "0.5 trials"),
        (1024.0, "1,024 trials"),
        (1234567, "1,234,567 trials"),
    ],
)
def test_numbers_of_things(number: float, words: str) -> None:
    assert counted(number, "trial") == words
    assert by_number(number, "is", "are") == ("is" if words.startswith("1 ") else "are")


def test_short_names_have_as_few_parameters_as_tell_entries_apart() -> None:
    def entries(*params: dict[str, object]) -> list[Entry]:
        return [Entry(name="pairs", params=one) for one in params]

    assert list(short_names(entries({"data": "a", "input": "long"})).values()) == ["pairs"]
    own, other = {"data": "a", "input": "a long text", "k": 1}, {"data": "b", "input": "another text", "k": 1}
    assert list(short_names(entries(own, other)).values()) == ["pairs(data=a)", "pairs(data=b)"]
    both = short_names(entries(own, other, {**other, "k": 2}))
    assert list(both.values()) == ["pairs(data=a, k=1)", "pairs(data=b, k=1)", "pairs(data=b, k=2)"]
