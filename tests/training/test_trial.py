"""One trial end to end on the shipped model: what it learns, writes, repeats and refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from softprior.assets.models import resolve_model
from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.inputs.specs import ModelSpec, Rate, TrialSpec
from softprior.methods import METHODS
from softprior.methods.base import Reparameterisation
from softprior.models.local import LocalLM
from softprior.priors import PRIORS, Prior
from softprior.prompt import Batch, Place, Row, collate
from softprior.regularisers import REGULARISERS
from softprior.regularisers.domain import TowardsDomain
from softprior.regularisers.spread import Spread
from softprior.regularisers.towards_prior import TowardsPrior
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import load_record, load_records
from softprior.studies.describe import closing_notes
from softprior.tasks import TASKS
from softprior.tasks.batching import training_batches
from softprior.testing.hosts.keys import attended
from softprior.training.draws import draw_names
from softprior.training.events import Event, Notice, Phase, Step
from softprior.training.failure import TrialFailedError
from softprior.training.gradient import divisor, gradient
from softprior.training.identity import files_fingerprint, found_files
from softprior.training.loop import STILL
from softprior.training.penalties import Penalties
from softprior.training.recognised import own_label
from softprior.training.setup import Setup
from softprior.training.trial import Trial
from tests.builders import QUESTIONS, SUMS, run, tiny, trial


def test_a_trained_prompt_beats_its_start_and_no_prompt(tmp_path: Path) -> None:
    record = run(trial(steps=40, batch=16), tmp_path)
    baseline = run(trial(method=METHODS["none"]()), tmp_path)
    assert record.test is not None
    assert baseline.test is not None
    assert record.test.loss < record.validation[0].loss - 0.5
    assert record.test.loss < baseline.test.loss - 0.5
    assert [point.step for point in record.steps] == list(range(1, 41))


def test_files_hold_what_the_record_says(tmp_path: Path) -> None:
    spec = trial(method=METHODS["deep"](tokens=3, last=2), snapshots=2)
    record = run(spec, tmp_path)
    folder = StudyFolder(tmp_path)
    assert load_record(folder.record(spec.id)) == record
    posterior = load_posterior(folder.posterior(spec.id))
    assert posterior.header["trial"] == spec.id
    assert posterior.header["spec"] == spec.model_dump(mode="json")
    assert posterior.header["model"]["fingerprint"] == spec.model_fingerprint
    assert {"torch", "transformers", "softprior"} <= set(posterior.header["environment"]["versions"])
    assert sorted(posterior.final) == [Place(b, after="cut") for b in (0, 2, 3)]
    assert list(posterior.snapshots) == [1, 2]
    for place, geometry in record.geometry.items():
        start, end = posterior.initial[Place.parse(place)], posterior.final[Place.parse(place)]
        assert geometry.moved == pytest.approx(float((end - start).norm(dim=1).mean()), rel=1e-5)
        assert geometry.moved_over_reach == pytest.approx(geometry.moved / geometry.reach)
        assert (geometry.final_radius is None) == (Place.parse(place).block > 0)
    assert not folder.checkpoint(spec.id).exists()


@pytest.mark.parametrize(
    ("method", "step"),
    [
        *(("soft", 3), ("soft", 6), ("prefix", 3), ("reparameterised", 3)),
        pytest.param("deep", 3, marks=pytest.mark.faults),
    ],
)
def test_stopped_anywhere_and_resumed_it_ends_bit_identical(tmp_path: Path, step: int, method: str) -> None:
    """Also with the schedule, clipping, accumulation, the curve, regularisers and snapshots in play."""
    chosen = METHODS["soft" if method == "reparameterised" else method]
    network = Reparameterisation(width=4) if method == "reparameterised" else None
    spec = trial(
        method=chosen(tokens=3, reparameterisation=network),
        regularisers=[TowardsPrior(), Spread(weight=0.1)],
        schedule="cosine",
        warmup=2,
        clip=0.01,
        accumulate=2,
        curve=3,
        weight_decay=0.1,
    )
    whole = run(spec, tmp_path / "whole")

    class StopError(Exception):
        pass

    def stop(event: Event) -> None:
        # The step after the checkpoint of `step` was taken and is lost; the end has no such step.
        if isinstance(event, Step) and event.step == step + 1:
            raise StopError
        if step == 6 and event == Phase(6, "test"):
            raise StopError

    with pytest.raises(StopError):
        run(spec, tmp_path / "parts", stop)
    assert StudyFolder(tmp_path / "parts").checkpoint(spec.id).exists()
    steps: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, Step) and not event.resumed:
            steps.append(event.step)

    resumed = run(spec, tmp_path / "parts", note)
    assert steps == list(range(step + 1, 7))

    ours, theirs = (StudyFolder(tmp_path / name).posterior(spec.id) for name in ("whole", "parts"))
    one, two = load_posterior(ours), load_posterior(theirs)
    for moment, other in ((one.initial, two.initial), (one.final, two.final)):
        assert all(torch.equal(moment[place], other[place]) for place in moment)
    assert one.snapshots.keys() == two.snapshots.keys()
    assert all(
        torch.equal(one.snapshots[s][p], two.snapshots[s][p]) for s in one.snapshots for p in one.final
    )
    assert resumed.cost is not None
    assert whole.cost is not None
    assert resumed.cost.positions == whole.cost.positions, "also those of the process that was stopped"
    assert resumed.cost.seconds.keys() == whole.cost.seconds.keys()
    without = {"environment": {}, "cost": None}
    assert resumed.model_copy(update=without) == whole.model_copy(update=without)


@pytest.mark.faults  # tests/studies/test_object_store.py has the same of a worker's trial
def test_the_same_trial_in_another_process_is_bit_identical(tmp_path: Path) -> None:
    spec = trial()
    here = run(spec, tmp_path / "here")
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from softprior.inputs.specs import TrialSpec\n"
        "from tests.builders import run\n"
        "run(TrialSpec.model_validate_json(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, spec.canonical(), str(tmp_path / "there")]
    subprocess.run(command, check=True, cwd=root, env=None)
    one = load_posterior(StudyFolder(tmp_path / "here").posterior(spec.id))
    two = load_posterior(StudyFolder(tmp_path / "there").posterior(spec.id))
    assert torch.equal(one.final[Place(0)], two.final[Place(0)])
    there = load_record(StudyFolder(tmp_path / "there").record(spec.id))
    assert there.test == here.test
    assert there.steps == here.steps


def test_a_trial_whose_entries_leave_out_defaults_has_the_label_of_one_that_writes_them_out() -> None:
    short = trial().model_copy(update={"prior": Entry(name="fitted")})
    assert short.id != trial().id
    assert own_label(short) == own_label(trial())


def test_trials_that_differ_in_the_prior_see_the_same_batches(tmp_path: Path) -> None:
    seen: dict[str, list[tuple[str, ...]]] = {}
    for name in ("isotropic", "fitted"):
        host = Spy(tiny().host)
        loaded = tiny()
        spec = trial(prior=PRIORS[name]())
        Trial(
            Setup(spec, host, loaded.tokenizer, loaded.fingerprint), StudyFolder(tmp_path), lambda _: None
        ).run()
        seen[name] = host.trained
    assert seen["isotropic"] == seen["fitted"]
    assert len(set(seen["fitted"])) > 1


DRAWN = {
    "isotropic": PRIORS["isotropic"](scale=0.02),
    "wider": PRIORS["isotropic"](scale=0.2),
    "fitted": PRIORS["fitted"](),
    "exclusion": PRIORS["exclusion"](),
}


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """Between two samples, of what is left of each without its mean."""
    one, other = ((v - v.mean(0)).flatten().double() for v in (one, other))
    return float(one @ other / (one.norm() * other.norm()))


def drawn(tmp_path: Path, **changes: Any) -> torch.Tensor:
    pairing = changes.pop("pairing")
    spec = trial(method=METHODS["soft"](tokens=20), **changes).model_copy(update={"pairing": pairing})
    return prepared_trial(spec, tmp_path)._sample()[Place(0)].sample


@pytest.mark.parametrize("pair", [("isotropic", "wider"), ("fitted", "exclusion")])
def test_paired_priors_share_their_noise_and_unpaired_ones_share_nothing(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    """Of 2,560 independent normal numbers the cosine has a standard deviation of 0.02 if all count alike;
    a fitted covariance has a fifth as many that count."""
    for pairing in ("noise", "none"):
        one, other = (drawn(tmp_path, prior=DRAWN[name], pairing=pairing) for name in pair)
        found = cosine(one, other)
        assert found > 0.99 if pairing == "noise" else abs(found) < 0.15


def test_unpaired_draws_are_a_priors_own_whatever_it_is_trained_with(tmp_path: Path) -> None:
    """So rates, tasks and regularisers are still compared from the same start, and seeds still differ."""
    first = drawn(tmp_path, prior=DRAWN["fitted"], pairing="none")
    again: list[dict[str, Any]] = [{}, {"rate": Rate(value=0.1)}, {"steps": 7}, {"regularisers": [Spread()]}]
    for changes in again:
        assert torch.equal(drawn(tmp_path, prior=DRAWN["fitted"], pairing="none", **changes), first)
    assert not torch.equal(drawn(tmp_path, prior=DRAWN["fitted"], pairing="none", seed=1), first)


def test_unpaired_draws_depend_on_what_a_file_holds_and_not_on_where_it_is(tmp_path: Path) -> None:
    method = METHODS["soft"](tokens=3)
    for name, seed in (("one", 0), ("two", 1)):
        spec = trial(method=method, steps=1, seed=seed)
        run(spec, tmp_path / name)
        StudyFolder(tmp_path / name).posterior(spec.id).rename(tmp_path / f"{name}.safetensors")
    shutil.copy(tmp_path / "one.safetensors", tmp_path / "moved.safetensors")
    names = {}
    for file in ("one", "moved", "two"):
        prior = PRIORS["posterior"](file=tmp_path / f"{file}.safetensors", spread=1.0)
        spec = trial(method=method, prior=prior).model_copy(update={"pairing": "none"})
        names[file] = draw_names(spec, prior)
    assert names["one"] == names["moved"] != names["two"]


def prepared_trial(spec: TrialSpec, root: Path) -> Trial:
    loaded = tiny()
    return Trial(
        Setup(spec, loaded.host, loaded.tokenizer, loaded.fingerprint), StudyFolder(root), lambda _: None
    )


class Spy:
    """A host that notes which examples it was asked gradients for."""

    def __init__(self, host: object) -> None:
        self._host = host
        self.trained: list[tuple[str, ...]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._host, name)

    def loss(self, prompt: object, batch: Batch, *, grad: bool = False) -> object:
        if grad:
            self.trained.append(batch.ids)
        return self._host.loss(prompt, batch, grad=grad)  # type: ignore[attr-defined]


def test_accumulated_passes_equal_one_pass(tmp_path: Path) -> None:
    """Rows have different numbers of labels, so a mean of means would differ; 1e-6 is float32 rounding."""
    task = TASKS["arithmetic"].model_validate(SUMS | {"modules": ["mul", "add_or_sub"]})
    spec = trial(task=task)
    one = prepared_trial(spec, tmp_path)
    vectors = {place: start.sample for place, start in one._sample().items()}
    given = (one.setup.host, one.setup.prepared.train, spec.training, vectors)
    whole = gradient(*given, [list(range(12))])
    parts = gradient(*given, [list(range(5)), list(range(5, 12))])
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    torch.testing.assert_close(parts.at[Place(0)], whole.at[Place(0)], rtol=1e-5, atol=1e-7)


UNEVEN = {"modules": ["two_digit_addition", "mul", "div"], "train_examples": 40}
"""Sums whose answers have from 2 to about 10 label tokens."""


def epoch(tmp_path: Path, **training: object) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The mean of the steps' gradients over an epoch, and the gradient of its mean over label tokens."""
    spec = trial(task=TASKS["arithmetic"].model_validate(SUMS | UNEVEN), **training)
    one, place = prepared_trial(spec, tmp_path), Place(0)
    vectors = {place: one._sample()[place].sample}
    train, batch = one.setup.prepared.train, min(spec.training.batch, len(one.setup.prepared.train))
    order = training_batches(train.lengths, batch, 0)
    steps = len(train) // (batch * spec.training.accumulate)
    given = (one.setup.host, train, spec.training, vectors)
    found = [gradient(*given, islice(order, spec.training.accumulate)) for _ in range(steps)]
    every = collate([train.row(i) for i in range(len(train))])
    whole = one.setup.host.loss(vectors, every.weighted(every.weights / train.labels), grad=True).gradient
    assert sum(step.labels for step in found) == int(every.labels.sum()) == train.labels
    weighted = sum(step.loss * step.labels for step in found) / train.labels
    assert weighted == pytest.approx(
        float(one.setup.host.loss(vectors, every).nll.sum()) / train.labels, rel=1e-5
    )
    mean = torch.stack([step.at[place] for step in found]).mean(0)
    return mean, whole[place], len({step.labels for step in found})


@pytest.mark.parametrize("sizes", [(8, 1), (4, 5), (40, 1), (64, 1)], ids=str)
def test_the_expected_gradient_is_that_of_the_token_mean(tmp_path: Path, sizes: tuple[int, int]) -> None:
    """Batches are sorted by length, so their label counts differ; 1e-5 is rounding."""
    mean, whole, counts = epoch(tmp_path, batch=sizes[0], accumulate=sizes[1])
    assert counts > 1 or sizes[0] >= 40
    assert float((mean - whole).norm() / whole.norm()) < 1e-5


def test_the_mean_of_each_step_weighs_tokens_unevenly(tmp_path: Path) -> None:
    mean, whole, _ = epoch(tmp_path, batch=8, normalisation="step")
    assert float((mean - whole).norm() / whole.norm()) > 0.02


def test_what_an_epoch_leaves_out_is_no_part_of_the_expectation(tmp_path: Path) -> None:
    """Of 40 examples in batches of 12 four are left out, each epoch others: the expectation is over all."""
    spec = trial(task=TASKS["arithmetic"].model_validate(SUMS | UNEVEN), batch=12, accumulate=2)
    one = prepared_trial(spec, tmp_path)
    train = one.setup.prepared.train
    counts = [sum(train.row(i).labels) for i in range(40)]
    assert divisor(train, spec.training, 7) == pytest.approx(24 * sum(counts) / 40)
    drawn = islice(training_batches(train.lengths, 12, 0), 3000)
    mean = sum(counts[i] for batch in drawn for i in batch) / 3000
    assert 2 * mean == pytest.approx(divisor(train, spec.training, 7), rel=0.01)


@pytest.mark.parametrize(
    ("scale", "rate", "message"),
    [(1e39, 0.1, "step 0: the evaluation loss is nan"), (1e38, 1e37, r"step [1-9]\d?: the .* is (inf|nan)")],
)
def test_numbers_that_are_not_finite_fail_the_trial_with_step_and_cause(
    tmp_path: Path, scale: float, rate: float, message: str
) -> None:
    spec = trial(prior=PRIORS["isotropic"](scale=scale), rate=Rate(value=rate), steps=40, curve=1)
    with pytest.raises(TrialFailedError, match=message) as caught:
        run(spec, tmp_path)
    assert "lower the" in str(caught.value)
    assert not StudyFolder(tmp_path).posterior(spec.id).exists()


def test_vectors_without_influence_are_told(tmp_path: Path) -> None:
    """A prefix in a block whose attention adds nothing to the stream."""
    loaded = tiny()
    network = deepcopy(loaded.host._model)
    network.model.layers[3].self_attn.o_proj.weight.data.zero_()
    events: list[Event] = []
    spec = trial(method=METHODS["prefix"](tokens=2, blocks=(3,)), steps=2)
    host, folder = LocalLM(network, "weights"), StudyFolder(tmp_path)
    Trial(Setup(spec, host, loaded.tokenizer, loaded.fingerprint), folder, events.append).run()
    run(trial(), tmp_path)
    assert [event.text for event in events if isinstance(event, Notice)] == [STILL]
    notes = closing_notes(load_records(tmp_path / "records").values())
    assert f"arithmetic · prefix · fitted · 0.05 · seed 0: {STILL}" in notes
    other = trial(method=METHODS["prefix"](tokens=3, blocks=(3,)), steps=2)
    run(other, tmp_path)
    notes = closing_notes(load_records(tmp_path / "records").values())
    assert f"arithmetic · prefix(tokens=2) · fitted · 0.05 · seed 0: {STILL}" in notes, "not the other's name"


def test_a_relative_rate_moves_places_in_their_own_units(tmp_path: Path) -> None:
    small = run(trial(prior=PRIORS["isotropic"](scale=0.01), rate=Rate(value=0.1, relative=True)), tmp_path)
    large = run(trial(prior=PRIORS["isotropic"](scale=1.0), rate=Rate(value=0.1, relative=True)), tmp_path)
    ratio = large.geometry[Place(0).name].reach / small.geometry[Place(0).name].reach
    assert ratio == pytest.approx(100, rel=0.01)


def test_an_instruction_stands_in_front_of_every_input(tmp_path: Path) -> None:
    method = METHODS["instruction"](written="Add.")
    record = run(trial(method=method), tmp_path)
    baseline = run(trial(method=METHODS["none"]()), tmp_path)
    assert record.test is not None
    assert baseline.test is not None
    # tiny was made to add when told to, in these very words.
    assert record.test.metrics["exact_match"] >= 0.75 > baseline.test.metrics["exact_match"]
    assert record.test.loss < baseline.test.loss


def test_the_context_shuffle_control_is_the_loss_with_swapped_contexts(tmp_path: Path) -> None:
    loaded = tiny()
    task = TASKS["squad"](data=str(QUESTIONS), context_tokens=400, max_new_tokens=4)
    spec = trial(method=METHODS["none"](), task=task)
    one = prepared_trial(spec, tmp_path)
    record = one.run()
    assert record.test is not None
    split = one.setup.prepared.test
    controls = [split.control_row(i) for i in range(record.test.examples)]
    losses = [loaded.host.loss(None, collate([row])) for row in controls if isinstance(row, Row)]
    literal = sum(float(part.nll[0]) for part in losses) / sum(int(part.tokens[0]) for part in losses)
    assert record.test.shuffled_loss == pytest.approx(literal, rel=1e-5)
    assert record.test.shuffled_loss != pytest.approx(record.test.loss, rel=1e-3)
    assert set(record.test.metrics) == {"exact_match", "f1", "precision", "recall"}


def test_too_long_for_the_model_is_said_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1024"):
        run(trial(method=METHODS["soft"](tokens=1020)), tmp_path)


def test_language_has_a_loss_and_no_answers(tmp_path: Path) -> None:
    text = tmp_path / "texts.txt"
    words = "the quick brown fox jumps over the lazy dog and sleeps in the warm sun "
    text.write_text("\n\n".join(f"Story {i}. " + words * 6 for i in range(30)), encoding="utf-8")
    task = TASKS["language"](data=str(text), length=48)
    record = run(trial(task=task, steps=4), tmp_path)
    assert record.test is not None
    assert record.test.generated == 0
    assert record.test.metrics == {}
    assert record.test.loss < record.validation[0].loss
    json.loads(StudyFolder(tmp_path).record(record.id).read_text())


def priors_with_methods() -> list[Any]:
    """Every prior with one method in turn, and with the others among the long tests."""
    methods = ["soft", "deep", "prefix"]
    return [
        pytest.param(prior, method, marks=[] if method == methods[i % 3] else pytest.mark.faults)
        for i, prior in enumerate(sorted(PRIORS), start=2)  # so that the prior of zeros has its prefix
        for method in methods
    ]


@pytest.mark.parametrize(("prior", "method"), priors_with_methods())
def test_every_prior_with_every_method_runs_to_the_end(tmp_path: Path, prior: str, method: str) -> None:
    """Two steps each: finite numbers, a posterior at every place, and the facts of every fit."""
    made = METHODS[method](tokens=3)
    if prior == "zeros" and method != "prefix":
        with pytest.raises(UserError, match=f"the prior {prior} is for the keys and values of a prefix"):
            run(trial(method=made, prior=PRIORS[prior](), steps=2), tmp_path)
        return
    params: dict[str, dict[str, object]] = {
        "instruction": {"text": "Add the two numbers."},
        "mixture": {"priors": ["isotropic", "vocabulary"]},
        "by_place": {"default": "fitted", "values": "isotropic"},
        "vae": {"steps": 20, "width": 16, "latent": 2},
    }
    if prior == "posterior":
        earlier = trial(method=made, steps=1)
        run(earlier, tmp_path / "earlier")
        params["posterior"] = {"file": tmp_path / "earlier", "spread": 0.1}
    spec = trial(method=made, prior=PRIORS[prior](**params.get(prior, {})), steps=2)
    record = run(spec, tmp_path)
    places = [place.name for place in made.places(tiny().host.info().blocks)]
    assert record.test is not None
    assert list(record.geometry) == list(record.prior) == places
    for name, facts in record.prior.items():
        quantiles, place = facts["radius_quantiles"], Place.parse(name)
        if quantiles is None:
            assert place.block > 0
            assert place.kind == "residual"
            continue
        assert len(quantiles) == 3
        assert all(0 <= quantile <= 1 for quantile in quantiles)
    posterior = load_posterior(StudyFolder(tmp_path).posterior(spec.id))
    assert [place.name for place in posterior.final] == places


def test_a_prefix_from_a_text_is_the_texts_own_keys_and_values(tmp_path: Path) -> None:
    loaded = tiny()
    text = "Add the two numbers."
    ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    method = METHODS["prefix"](tokens=len(ids))
    spec = trial(method=method, prior=PRIORS["instruction"](text=text), steps=1)
    run(spec, tmp_path)
    initial = load_posterior(StudyFolder(tmp_path).posterior(spec.id)).initial
    folder = resolve_model(ModelSpec(id="tiny")).folder
    oracle = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    for block, (keys, values) in attended(oracle, torch.tensor(ids)).items():
        # Keys have their positions taken off and put on again.
        torch.testing.assert_close(initial[Place(block, "key")], keys, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(initial[Place(block, "value")], values, rtol=1e-4, atol=1e-5)


def test_regularisers_are_logged_apart_and_move_the_prompt(tmp_path: Path) -> None:
    events: list[Event] = []
    plain = run(trial(steps=20), tmp_path / "plain")
    held = run(
        trial(steps=20, regularisers=[TowardsPrior(weight=300.0), Spread(weight=0.0)]),
        tmp_path / "held",
        events.append,
    )
    assert set(held.steps[0].penalties) == {"towards_prior", "spread"}
    assert all(step.penalties["spread"] == 0 for step in held.steps)
    assert held.steps[0].loss == plain.steps[0].loss, "the loss is the same sum as without them"
    assert held.steps[-1].penalties["towards_prior"] < held.steps[0].penalties["towards_prior"]
    assert held.steps[-1].loss > plain.steps[-1].loss, "a weight of 300 outweighs the task"
    assert any("towards_prior" in event.point.penalties for event in events if isinstance(event, Step))


@pytest.mark.parametrize("method", ["soft", "deep", "prefix"])
def test_the_penaltys_gradient_is_that_of_its_value(tmp_path: Path, method: str) -> None:
    """By differences at the vectors the model sees: for keys, through the rotation."""
    terms = [TowardsPrior(), Spread()]
    one = prepared_trial(trial(method=METHODS[method](tokens=2), regularisers=terms), tmp_path)
    starts = one._sample()
    penalties = Penalties(
        [REGULARISERS.entry(TowardsPrior()), REGULARISERS.entry(Spread())], starts, answers=50
    )
    vectors = {p: start.source.placed(start.sample).double() + 0.1 for p, start in starts.items()}
    _, gradient = penalties.values(vectors)
    generator = torch.Generator().manual_seed(0)
    for place, slope in gradient.items():
        direction = torch.randn(slope.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()

        def at(step: float, place: Place = place, by: torch.Tensor = direction) -> float:
            return sum(penalties.values(vectors | {place: vectors[place] + step * by})[0].values())

        found = (at(1e-4) - at(-1e-4)) / 2e-4
        assert found == pytest.approx(float((slope * direction).sum()), rel=1e-4, abs=1e-7)


def test_two_regularisers_of_one_name_are_told_apart(tmp_path: Path) -> None:
    terms = [TowardsDomain(), TowardsDomain(direction="away")]
    record = run(trial(regularisers=terms, steps=1), tmp_path)
    values = record.steps[0].penalties
    assert set(values) == {"domain", "domain-2"}
    assert values["domain"] != values["domain-2"]


def test_a_reparameterised_prompt_has_no_reach(tmp_path: Path) -> None:
    """The weights of its network carry it as far as they like."""
    method = METHODS["soft"](tokens=3, reparameterisation=Reparameterisation(width=64))
    record = run(trial(method=method, steps=4), tmp_path)
    (geometry,) = record.geometry.values()
    assert geometry.moved > 0
    assert geometry.reach is None
    assert geometry.moved_over_reach is None


@pytest.mark.parametrize("prior", [PRIORS["zeros"](), PRIORS["isotropic"](scale=1e-300)])
def test_a_relative_rate_needs_something_to_be_relative_to(tmp_path: Path, prior: Prior) -> None:
    spec = trial(method=METHODS["prefix"](tokens=2), prior=prior, rate=Rate(value=0.1, relative=True))
    with pytest.raises(UserError, match=r"relative rate .* they are all zero; use an absolute rate"):
        run(spec, tmp_path)


def test_a_trial_whose_files_changed_after_planning_is_not_that_trial(tmp_path: Path) -> None:
    method = METHODS["soft"](tokens=3)
    earlier = [trial(method=method, steps=steps) for steps in (1, 2)]
    files = []
    for spec in earlier:
        run(spec, tmp_path / spec.id)
        files.append(StudyFolder(tmp_path / spec.id).posterior(spec.id))
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(files[0].read_bytes())
    prior = PRIORS["posterior"](file=mine)
    spec = trial(method=method, prior=prior, steps=1)
    assert found_files(spec) == files_fingerprint(prior, [])
    before = found_files(spec)
    mine.write_bytes(files[1].read_bytes())
    assert found_files(spec) != before
