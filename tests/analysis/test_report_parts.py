"""Parts of a report on their own: numbers in cells, maps of vectors, and the command that repeats a study."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.findings.reading import read
from analysis.findings.sentences import _p
from analysis.report import checks as sanity
from analysis.report import reproduce
from analysis.report.maps import DIGITS, Plane, maps, rounded
from analysis.report.trials import _checked, _detail, _facts
from analysis.report.values import Cell, Code, number, said_once
from softprior.library.sanity import checks
from softprior.prompt import Place
from softprior.results.posteriors import load_posterior
from softprior.results.probed import PROBE_NUMBERS, Attended, NearestTokens, Probed
from softprior.results.sanity import Check
from tests.builders import Finished


def test_small_p_values_keep_two_digits() -> None:
    assert [_p(p) for p in (0.04, 0.000122, 1.234e-5)] == ["0.04", "1.2e-04", "1.2e-05"]


def test_numbers_of_any_size_keep_their_digits() -> None:
    sizes = {0.0: "0.000", 0.25: "0.250", -12.5: "-12.50", 107.893: "107.9", 999.96: "1,000"}
    sizes |= {1234567.8: "1,234,568", 0.00001234: "1.2e-05", float("inf"): "inf"}
    assert {value: number(value) for value in sizes} == {
        v: text.replace("-", "\N{MINUS SIGN}") for v, text in sizes.items()
    }
    assert number(0.0123) == "0.012"
    assert number(float("nan")) == number(None) == ""
    assert number(6.24781, 4) == "6.2478"
    assert number(9.51234, 4) == "9.5123"


def test_numbers_just_below_a_power_of_ten_keep_their_digits() -> None:
    """The next digit before the point is counted only where rounding adds it."""
    told = {9.5: "9.500", 9.97: "9.970", 9.9996: "10.00", 99.6: "99.60", 99.996: "100.0", 999.6: "999.6"}
    assert {value: number(value) for value in told} == told


def test_what_all_rows_share_is_said_once() -> None:
    rows = [(Cell("a"), Cell("soft"), Cell("x")), (Cell("b"), Cell("soft"), Cell("x"))]
    said, kept = said_once(("trial", "method", "prior"), rows, {"trial", "method"})
    assert said == ' In every row: method "soft".'
    assert kept == [(Cell("a"), Cell(""), Cell("x")), (Cell("b"), Cell(""), Cell("x"))]
    assert said_once(("trial", "method", "prior"), rows[:1], {"method"}) == ("", rows[:1])


def test_coordinates_of_maps_are_projections(finished_study: Finished) -> None:
    trial = next(i for i, r in finished_study.records.items() if r.spec.training is not None)
    posterior = load_posterior(finished_study.folder.posterior(trial))
    generator = np.random.default_rng(0)
    tokens = generator.normal(size=(50, 128)) * np.linspace(3, 0.1, 128)
    plane = Plane(tokens)
    (found,) = maps(posterior, plane)
    assert (found["plane"], found["name"]) == ("vocabulary", Place(0).name)
    assert found["moments"][0] == "prior sample"
    assert found["moments"][-1] == "posterior"
    covariance = np.cov(tokens.T, bias=True)
    values, axes = np.linalg.eigh(covariance)
    assert found["share"] == pytest.approx(values[::-1][:2] / values.sum(), rel=1e-3)
    last = (posterior.final[Place(0)].numpy() - tokens.mean(0)) @ axes[:, -1]
    drawn = np.array([path[-1][0] for path in found["paths"]])
    assert np.abs(drawn) == pytest.approx(np.abs(last), rel=10.0 ** (1 - DIGITS))
    assert rounded(np.array([0.0, -123456.0, 0.00012345678])) == [0.0, -123500.0, 0.0001235]


def test_own_code_is_in_the_command(finished_study: Finished) -> None:
    found = read(finished_study.folder.root)
    assert (
        Code("python -m jobs.study small.json\npython -m jobs.report results/small")
        in reproduce.section(found).blocks
    )
    records = {
        trial: record.model_copy(
            update={
                "spec": record.spec.model_copy(update={"code": ("my spiral.py 0123456789abcdef", "pack 1.0")})
            }
        )
        for trial, record in found.ended.items()
    }
    section = reproduce.section(replace(found, ended=records))
    option = "--code 'my spiral.py'"
    assert (
        Code(f"python -m jobs.study small.json {option}\npython -m jobs.report results/small {option}")
        in section.blocks
    )


def test_a_trial_shows_what_its_probes_measured(finished_study: Finished) -> None:
    record = next(r for r in finished_study.records.values() if r.spec.training is not None)
    numbers = dict.fromkeys(PROBE_NUMBERS["attention"], 0.25)
    found = Attended(blocks=(), untrained_blocks=(), **numbers)
    probes = (
        Probed(probe="attention", found=found, examples=10, sources="s"),
        Probed(probe="removal", skipped="a reason", sources="s"),
    )
    *_, one, other = _facts(record.model_copy(update={"probes": probes}))
    assert one[0] == "probe attention"
    assert one[1].startswith("prompt 0.250, prompt first 0.250, text first 0.250, even 0.250, ")
    assert one[1].endswith("without text first 0.250 (over 10 test examples)")
    assert other == ["probe removal", "a reason"]
    near = NearestTokens(
        **dict.fromkeys(PROBE_NUMBERS["nearest"], 0.5), tokens_l2=(), tokens_cosine=(), tokens_dot=()
    )
    for examples in (0, 64):  # 64 in records from before
        one_of = Probed(probe="nearest", found=near, examples=examples, sources="s")
        *_, (_, said) = _facts(record.model_copy(update={"probes": (one_of,)}))
        assert said.endswith("same dot 0.500"), "no text goes forward"


def test_a_trial_shows_the_number_and_the_verdict_of_each_of_its_checks() -> None:
    found = [
        Check(name="labels", number=1.0, verdict="passed"),
        Check(name="batch_mates", number=2.3e-7, verdict="passed"),
        Check(name="generation", number=0.25, verdict="fault"),
        Check(name="kept_context", number=0.1, verdict="alarm"),
    ]
    assert _checked(found) == [
        [
            "fault: generation",
            "0.250: only 25% of generated tokens are the first choice of the pass that measures losses",
        ],
        [
            "alarm: kept context",
            "0.100: swapped contexts cost only 10% of what they cost the model without a prompt",
        ],
        ["checks passed", "labels 1.000, batch mates 2.3e\N{MINUS SIGN}07"],
    ]
    assert _checked([]) == [], "of records from before there were checks"


def test_checks_beside_no_prompt_are_shown_too(finished_study: Finished) -> None:
    """Those of the record, and the two that compare it with the baseline."""
    reading = read(finished_study.folder.root)
    record = next(r for r in reading.records.values() if r.spec.training is not None)
    facts = dict(_detail(record, reading, None, {}, checks(reading.ended)[record.id])["facts"])
    told = " ".join([*facts, facts["checks passed"]])
    beside = {"kept_context", "no_prompt_answers"}
    for name in {check.name for check in record.sanity} | beside:
        assert name.replace("_", " ") in told


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("frozen_cache", True, ["2 trials with model.frozen_cache off, 1 trial with model.frozen_cache on"]),
        ("device", "cuda", ["2 trials on device cpu, 1 trial on device cuda"]),
        ("kernels", "flash", ["2 trials with kernels off, 1 trial with kernels flash"]),
        ("threads", 99, ["2 trials with threads: 3, 1 trial with threads: 99"]),
        ("device", None, []),
        ("threads", None, []),
    ],
)
def test_trials_that_were_computed_in_two_ways_are_told(
    finished_study: Finished, key: str, value: object, told: list[str]
) -> None:
    """They are equal up to rounding only. Without a value the record is from before its key."""
    reading = read(finished_study.folder.root)
    common = {"device": "cpu", "kernels": None, "threads": 3}
    ended = {
        trial: record.model_copy(update={"environment": record.environment | common})
        for trial, record in reading.ended.items()
    }
    assert not sanity._computed(replace(reading, ended=ended))
    own = next(iter(ended.values())).environment
    if value is None:
        del own[key]
    else:
        own[key] = value
    found = sanity._computed(replace(reading, ended=ended))
    assert [text.rpartition("rounding: ")[2] for text in found] == told
