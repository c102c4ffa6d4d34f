"""Probes of finished prompts, against the literal form of the model, row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, jensenshannon
from transformers import AutoModelForCausalLM

from softprior import assets
from softprior.inputs.base import Spec
from softprior.inputs.specs import Probe, TrialSpec
from softprior.methods import METHODS
from softprior.prompt import Place, Prompt, Row
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Posterior, load_posterior
from softprior.results.probed import Attended, NearestTokens, Probed, Projection, Removal
from softprior.results.records import Record, load_record
from softprior.statistics.geometry import aligned
from softprior.tasks import TASKS
from softprior.tasks.prepare import prepare
from softprior.testing.hosts.attention import literal_attention
from softprior.testing.literal import literal_logits
from softprior.training import extension
from softprior.training.also import current
from softprior.training.nearest_tokens import _of_others
from softprior.training.probes import DRAWS, ELSEWHERE, ENCODED, unprobed, why_skipped
from softprior.training.setup import Setup
from softprior.training.trial import Trial
from tests.builders import run, tiny, trial

BOTH: tuple[Probe, ...] = ("removal", "projection")
ALL: tuple[Probe, ...] = (*BOTH, "nearest", "attention")
AT = Place(0)
CLOSE = 1e-4
"""Relative, for float32: the literal form adds in another order, row by row."""


def probed(spec: TrialSpec, *probes: Probe) -> TrialSpec:
    evaluation = spec.evaluation.model_copy(update={"probes": probes, "examples": 3, "generate": 0})
    return spec.model_copy(update={"evaluation": evaluation})


def soft(tokens: int = 8) -> Spec:
    return METHODS["soft"](tokens=tokens)


class Measured(NamedTuple):
    record: Record
    folder: StudyFolder
    posterior: Posterior

    def found(self, probe: Probe) -> Any:
        (one,) = (one for one in self.record.probes if one.probe == probe)
        assert (one.error, one.skipped, one.examples) == (None, None, 0 if probe == "nearest" else 3)
        return one.found


def measure(method: Spec, root: Path) -> Measured:
    record, folder = run(probed(trial(method=method), *ALL), root), StudyFolder(root)
    return Measured(record, folder, load_posterior(folder.posterior(record.id)))


@pytest.fixture(scope="module")
def soft_prompt(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return measure(soft(), tmp_path_factory.mktemp("soft"))


@pytest.fixture(scope="module")
def deep_prompt(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """It keeps its token-level vectors; the deeper ones stay as they are when these are probed."""
    deep = METHODS["deep"](tokens=8, last=1, token_level="keep")
    return measure(deep, tmp_path_factory.mktemp("deep"))


@pytest.fixture(params=["soft_prompt", "deep_prompt"])
def measured(request: pytest.FixtureRequest) -> Measured:
    found: Measured = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def literal() -> Any:
    return AutoModelForCausalLM.from_pretrained(
        Path(assets.__file__).parent / "tiny", attn_implementation="eager", dtype=torch.float32
    )


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    loaded, spec = tiny(), trial()
    test = prepare(TASKS.component(spec.task), loaded.tokenizer, loaded.fingerprint).test
    return [test.row(i) for i in range(3)]


def outputs(model: Any, prompt: Prompt, rows: list[Row]) -> np.ndarray:
    """Log-probabilities at all labels."""
    found = []
    with torch.no_grad():
        for row in rows:
            logits = literal_logits(model, prompt, row.tokens).double().log_softmax(-1)
            found += [logits[i - 1] for i, label in enumerate(row.labels) if label]
    return torch.stack(found).numpy()


def loss(model: Any, prompt: Prompt, rows: list[Row]) -> float:
    labels = [token for row in rows for token, label in zip(row.tokens, row.labels, strict=True) if label]
    return float(
        -np.mean([own[label] for own, label in zip(outputs(model, prompt, rows), labels, strict=True)])
    )


def table(model: Any) -> np.ndarray:
    found: np.ndarray = model.get_input_embeddings().weight.detach()[: len(tiny().tokenizer)].double().numpy()
    return found


def test_removal_is_the_loss_of_shorter_prompts(measured: Measured, literal: Any, rows: list[Row]) -> None:
    found: Removal = measured.found("removal")
    final = measured.posterior.final
    tenth = np.sort(cdist(final[AT].double().numpy(), table(literal)), axis=1)[:, 9]
    order = list(np.argsort(tenth))
    near, far = order[:2], order[-2:]

    def without(removed: list[int]) -> float:
        kept = [i for i in range(8) if i not in removed]
        return loss(literal, {**final, AT: final[AT][kept]}, rows)

    def untrained(put_back: list[int]) -> float:
        vectors = final[AT].clone()
        vectors[put_back] = measured.posterior.initial[AT][put_back]
        return loss(literal, {**final, AT: vectors}, rows)

    assert found.removed == 2
    assert found.loss == measured.record.test.loss  # type: ignore[union-attr]
    assert found.loss == pytest.approx(loss(literal, final, rows), rel=CLOSE)
    assert found.near == pytest.approx(without(near), rel=CLOSE)
    assert found.far == pytest.approx(without(far), rel=CLOSE)
    assert found.near_untrained == pytest.approx(untrained(near), rel=CLOSE)
    assert found.far_untrained == pytest.approx(untrained(far), rel=CLOSE)
    assert len(found.random_draws) == DRAWS
    assert found.random == pytest.approx(np.mean(found.random_draws))
    if len(final) == 1:  # one draw is among all 28 pairs; the pairs say which
        pairs = [without([i, j]) for i in range(8) for j in range(i)]
        assert all(min(abs(own - one) for one in pairs) < 1e-4 for own in found.random_draws)
        assert len({round(own, 6) for own in found.random_draws}) > 1


def test_projection_compares_outputs_under_tokens(measured: Measured, literal: Any, rows: list[Row]) -> None:
    found: Projection = measured.found("projection")
    final, words = measured.posterior.final, table(literal)
    trained = outputs(literal, final, rows)

    def by_hand(vectors: torch.Tensor) -> tuple[float, float, float]:
        ids = cdist(vectors.double().numpy(), words).argmin(1)
        prompt = {**final, AT: torch.tensor(words[ids]).float()}
        own = outputs(literal, prompt, rows)
        apart = [jensenshannon(np.exp(p), np.exp(q)) ** 2 for p, q in zip(trained, own, strict=True)]
        agree = (trained.argmax(1) == own.argmax(1)).mean()
        return loss(literal, prompt, rows), float(np.mean(apart)), float(agree)

    distances = cdist(final[AT].double().numpy(), words)
    assert list(found.tokens) == list(distances.argmin(1))
    assert found.distance == pytest.approx(distances.min(1).mean())
    own = (found.loss, found.divergence, found.agreement)
    assert own == pytest.approx(by_hand(final[AT]), rel=CLOSE)
    start = (found.untrained_loss, found.untrained_divergence, found.untrained_agreement)
    assert start == pytest.approx(by_hand(measured.posterior.initial[AT]), rel=CLOSE)
    assert 0 < found.random_divergence < math.log(2)
    assert 0 <= found.random_agreement <= 1
    assert found.random_loss > found.loss - 5


def test_nearest_tokens_stand_beside_those_of_vectors_that_know_nothing(
    measured: Measured, literal: Any
) -> None:
    found: NearestTokens = measured.found("nearest")
    words = table(literal)
    unit = words / np.linalg.norm(words, axis=1, keepdims=True)

    def scores(vectors: np.ndarray) -> dict[str, np.ndarray]:
        own = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return {"l2": -cdist(vectors, words), "cosine": own @ unit.T, "dot": vectors @ words.T}

    final, start = (
        scores(prompt[AT].double().numpy())
        for prompt in (measured.posterior.final, measured.posterior.initial)
    )
    whole = scores(words)
    for name, own in final.items():
        sign = -1 if name == "l2" else 1
        assert getattr(found, name) == pytest.approx(sign * own.max(1).mean())
        assert getattr(found, f"untrained_{name}") == pytest.approx(sign * start[name].max(1).mean())
        assert list(getattr(found, f"tokens_{name}")) == own.argmax(1).tolist()
        assert getattr(found, f"same_{name}") == (own.argmax(1) == start[name].argmax(1)).mean()
        np.fill_diagonal(whole[name], -np.inf)  # a random token is not its own neighbour
        others = sign * whole[name].max(1)
        assert others.min() <= getattr(found, f"random_{name}") <= others.max()
    near = partial(aligned, cosine=True)
    assert _of_others(near, torch.arange(20), torch.from_numpy(words)) == pytest.approx(
        whole["cosine"][:20].max(1).mean()
    )


def test_attention_is_that_of_the_literal_form(measured: Measured, literal: Any, rows: list[Row]) -> None:
    """The shares of each row alone, from the weights of transformers' eager attention."""
    found: Attended = measured.found("attention")

    def by_hand(prompt: Prompt) -> np.ndarray:
        shares = []
        for row in rows:
            labels = [i for i, label in enumerate(row.labels) if label]
            weights = []
            for own in literal_attention(literal, prompt, row.tokens):
                front = own.shape[1] - len(row.tokens)
                at = own[[own.shape[0] - len(row.tokens) + i - 1 for i in labels]]
                first = at[:, 0] if front else torch.zeros(len(at))
                weights.append(torch.stack([at[:, :front].sum(1), first, at[:, front]], 1))
            shares.append(torch.stack(weights, 1))
        whole: np.ndarray = torch.cat(shares).double().mean(0).numpy()
        return whole

    with torch.no_grad():
        trained, untrained = by_hand(measured.posterior.final), by_hand(measured.posterior.initial)
        without = by_hand({})
    assert np.array(found.blocks) == pytest.approx(trained, rel=1e-4, abs=1e-6)
    assert np.array(found.untrained_blocks) == pytest.approx(untrained, rel=1e-4, abs=1e-6)
    assert (found.prompt, found.prompt_first, found.text_first) == pytest.approx(trained.mean(0), rel=1e-4)
    assert found.without_text_first == pytest.approx(without.mean(0)[2], rel=1e-4)
    blocks = len(found.blocks)
    fronts = [
        sum(len(v) for p, v in measured.posterior.final.items() if p == AT or p.block == b)
        for b in range(blocks)
    ]
    shares = [
        front / (front + i) for row in rows for i, label in enumerate(row.labels) if label for front in fronts
    ]
    assert found.even == pytest.approx(np.mean(shares))


def test_attention_is_measured_of_every_kind_of_prompt(tmp_path: Path) -> None:
    record = run(probed(trial(method=METHODS["prefix"](tokens=3), steps=1), "attention"), tmp_path)
    (one,) = record.probes
    assert isinstance(one.found, Attended)
    assert 0 < one.found.prompt < 1
    assert Record.model_validate_json(record.model_dump_json()) == record
    assert why_skipped("attention", [Place(0, stack="encoder")], 4) == ENCODED


@pytest.mark.parametrize("wild", ["final", "initial"])
def test_shares_that_are_not_numbers_are_no_result(soft_prompt: Measured, wild: str) -> None:
    """Also those of the untrained sample alone; the reason is one sentence, not a record's."""
    loaded, posterior = tiny(), soft_prompt.posterior
    one = Trial(
        Setup(soft_prompt.record.spec, loaded.host, loaded.tokenizer, loaded.fingerprint),
        soft_prompt.folder,
        print,
    )
    ends = {"initial": posterior.initial, "final": posterior.final}
    ends[wild] = {place: torch.full_like(vectors, math.nan) for place, vectors in ends[wild].items()}
    found = one.setup.prober.measure("attention", ends["initial"], ends["final"], 6)
    assert found.found is None
    assert found.error is not None
    assert found.error.startswith("step 6: the attention of a probe is nan")


def test_probes_are_no_part_of_a_trials_identity(tmp_path: Path) -> None:
    plain = probed(trial(), *())
    assert probed(trial(), *ALL).id == plain.id
    assert "probes" not in plain.canonical()
    record = run(plain, tmp_path)
    assert record.probes == ()
    assert "probes" not in record.cost.seconds  # type: ignore[union-attr]
    old = record.model_dump_json(exclude={"probes"})
    assert Record.model_validate_json(old) == record


def extend(spec: TrialSpec, folder: StudyFolder) -> Record:
    """What a worker does with a trial that has its record."""
    loaded = tiny()
    one = Trial(Setup(spec, loaded.host, loaded.tokenizer, loaded.fingerprint), folder, lambda _: None)
    return extension.extend(one, load_record(folder.record(spec.id)), lambda _: None)


def test_a_finished_trial_is_probed_from_its_posterior_as_if_at_its_end(
    soft_prompt: Measured, tmp_path: Path
) -> None:
    """One probe after the other; what a probe could not read, the next run makes up for."""
    spec = soft_prompt.record.spec
    record, folder = run(probed(spec), tmp_path), StudyFolder(tmp_path)
    path = folder.posterior(record.id)
    whole = path.read_bytes()
    path.unlink()
    lost = extend(probed(spec, "removal"), folder)
    assert [one.error for one in lost.probes] == [f"there is no posterior file {path}"]
    assert (lost.test, lost.status) == (record.test, "finished")
    path.write_bytes(whole)
    for count in (1, 2):
        wanted = probed(spec, *BOTH[:count])
        assert unprobed(wanted, record) == BOTH[count - 1 : count]
        assert extension.lasting(extension.due(wanted, record, current([wanted])))
        record = extend(wanted, folder)
        assert not extension.lasting(extension.due(wanted, record, current([wanted])))
        assert load_record(folder.record(record.id)) == record
    assert record.probes == soft_prompt.record.probes[:2]
    assert record.test == soft_prompt.record.test
    assert path.read_bytes() == whole
    assert extension.not_extended(probed(spec, *BOTH), record, "why").probes == record.probes


def skipped(method: Spec, root: Path) -> Mapping[str, Probed]:
    record = run(probed(trial(method=method, steps=1), *BOTH), root)
    assert unprobed(record.spec, record) == (), "what is skipped is not tried again"
    return {one.probe: one for one in record.probes}


def test_prompts_without_vectors_beside_embeddings_say_so(tmp_path: Path) -> None:
    for method in (METHODS["prefix"](tokens=3), METHODS["deep"](tokens=3, last=1)):
        found = skipped(method, tmp_path)
        assert {one.skipped for one in found.values()} == {ELSEWHERE}
        assert {one.found for one in found.values()} == {None}


def test_a_prompt_of_one_vector_loses_none_and_is_projected(tmp_path: Path) -> None:
    found = skipped(soft(1), tmp_path)
    assert found["removal"].skipped == "a prompt of one vector has none to remove; use more tokens"
    assert isinstance(found["projection"].found, Projection)


def test_a_baseline_has_no_prompt_to_probe(tmp_path: Path) -> None:
    record = run(probed(trial(method=METHODS["none"]()), *BOTH), tmp_path)
    assert record.probes == ()
    assert not extension.lasting(record.spec)


def test_priors_of_one_seed_lose_the_same_vectors(tmp_path: Path) -> None:
    """Random draws depend on the seed alone, so that priors are compared vector by vector."""
    drawn = []
    for seed in (0, 0, 1):
        loaded, spec = tiny(), probed(trial(method=soft(), seed=seed), "removal")
        one = Trial(
            Setup(spec, loaded.host, loaded.tokenizer, loaded.fingerprint), StudyFolder(tmp_path), print
        )
        drawn.append(torch.randperm(8, generator=one.setup.prober._drawn("removal", 0)).tolist())
    assert drawn[0] == drawn[1] != drawn[2]
