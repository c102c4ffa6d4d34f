"""Every statistic against the literal form: all states kept, then numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from softprior.activations.collector import Collector, Medians, Sinks, base_sites, batch_of
from softprior.activations.sequences import SPANS, Sequences
from softprior.activations.state import TaskState
from softprior.activations.texts import batches, key_of, shuffled
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.protocol import Where
from softprior.seeding import derive, torch_generator
from softprior.statistics.sequences import random_span
from softprior.tasks.parts import ANSWER, PARTS, TEMPLATE
from softprior.tasks.prepared import Text
from softprior.testing.families import FAMILIES, random_model

EXACT, FAST = 1e-10, 2e-5
"""Relative to the largest number of each kind. Fast products are float32 of centred blocks; 1e-6 observed in
moments, and 1e-5 in fourth ones."""

SITES = ["resid.0", "resid.2", "resid.4", "final", "key.1", "value.1"]


@pytest.fixture(scope="module")
def host() -> LocalLM:
    return LocalLM(random_model("llama", ATTENTION), "fingerprint")


def texts(count: int = 23) -> list[Text]:
    generator = torch_generator(5, "texts")
    found = []
    for i in range(count):
        length = int(torch.randint(4, 19, (1,), generator=generator))
        tokens = torch.randint(3, FAMILIES["llama"].vocab_size, (length,), generator=generator).tolist()
        parts = [0] * (length - 3) + [2, 2, 2]
        parts[1] = 1
        if length >= 9:
            parts[3] = parts[length - 4] = TEMPLATE
        found.append(Text(f"text-{i}", f"document-{i // 3}", "ab"[i % 2], tokens, parts))
    return found


class Everything:
    """Keeps all states: what no real statistic may do."""

    def __init__(self) -> None:
        self.states: dict[str, list] = {}
        self.where: list = []

    def update(self, site, states, where) -> None:
        self.states.setdefault(site, []).append(states.clone())
        if site == "resid.0":
            self.where.append(where)

    def of(self, site: str) -> np.ndarray:
        return torch.cat(self.states[site]).double().numpy()


def collected(host: LocalLM, given: list[Text], tokens: int = 64, exact: bool = True, massive: float = 1.3):
    """The state, all states, and each token's text in the order of the states."""
    medians = Medians()
    everything = Everything()
    bases = base_sites(host.sites())
    observed = list(dict.fromkeys(name for site in SITES for name in (bases[site], site)))
    for batch in batches(given, tokens):
        host.observe(None, batch_of(batch), observed, medians)
    state = TaskState("task", 50, exact, ("a", "b"))
    sinks = Sinks(medians.values(), massive, bases)
    collector = Collector(state, SITES, sinks, seed=3)
    order = []
    for batch in batches(given, tokens):
        collector.begin(batch)
        host.observe(None, batch_of(batch), observed, collector)
        host.observe(None, batch_of(batch), observed, everything)
        order += [text for text in batch for _ in text.tokens]
    state.end_shard("task-00000", {})
    return state, everything, order, medians.values()


def test_a_batch_in_parts_gives_what_it_gives_at_once(host):
    """As in families whose positions depend on the length of a text."""
    given, seen = texts(6), []

    class Kept:
        def update(self, site, states, where):
            seen.append((site, states.clone(), where))

    host.observe(None, batch_of(given), SITES, Kept())
    bases = {site: site for site in SITES}
    sums = []
    for parts in ([range(6)], [(0, 3, 4), (1, 2, 5)]):
        state = TaskState("task", 50, True, ("a", "b"))
        sinks = Sinks(dict.fromkeys(SITES, 1.0), 1.3, bases)
        collector, sequences = Collector(state, SITES, sinks, 3), Sequences(state, SITES, sinks, 3)
        collector.begin(given)
        sequences.begin(given, shuffled=False)
        for part in parts:
            for site, states, where in seen:
                here = torch.isin(where.rows, torch.tensor(list(part)))
                some = Where(where.rows[here], where.positions[here], where.tokens[here])
                collector.update(site, states[here], some)
                sequences.update(site, states[here], some)
        sums.append(state)
    for site, found in sums[1].sites.items():
        whole = sums[0].sites[site]
        assert set(found.classes) == set(whole.classes)
        for name, one in found.classes.items():
            near(one.moments.moments.mean, whole.classes[name].moments.moments.mean.numpy(), EXACT)
            assert np.array_equal(one.sample.keys, whole.classes[name].sample.keys)
            assert (
                one.sample.columns["token"].tolist() == whole.classes[name].sample.columns["token"].tolist()
            )
        one, other = (table["text"].argsort() for table in (found.sequences, whole.sequences))
        assert len(one) == 6
        for name, column in found.sequences.items():
            np.testing.assert_allclose(column[one], whole.sequences[name][other], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("site", SITES)
def test_every_sum_is_that_of_all_states(host, site, exact):
    given = texts()
    state, everything, order, medians = collected(host, given, exact=exact)
    states, tolerance = everything.of(site), EXACT if exact else FAST
    base = base_sites(host.sites())[site]
    position = np.concatenate([np.arange(len(t.tokens)) for b in batches(given, 64) for t in b])
    part = np.concatenate([t.parts for b in batches(given, 64) for t in b])
    norms = np.linalg.norm(everything.of(base).astype(np.float32), axis=1)
    sink = (position == 0) | (norms > 1.3 * medians[base])
    assert sink.sum() > (position == 0).sum()  # some are massive, or half of the rule is not tested
    assert not sink.all()
    masks = {name: ~sink & (part == i) for i, name in enumerate(PARTS)} | {"sinks": sink}
    for name, mask in masks.items():
        found, wanted = state.sites[site].classes[name], states[mask]
        moments = found.moments.moments
        assert moments.count == mask.sum()
        assert found.documents == len({order[i].document for i in np.flatnonzero(mask)})
        near(moments.mean, wanted.mean(0), tolerance)
        near(moments.covariance(), np.cov(wanted.T, bias=True), tolerance)
        near(found.moments.dimensions.kurtosis(), stats.kurtosis(wanted), 10 * tolerance)
        own = np.linalg.norm(wanted, axis=1)
        for share in (0.1, 0.5, 0.9):
            assert found.norms.quantile(share) == pytest.approx(
                np.quantile(own, share, method="lower"), rel=0.011
            )
    data = ~sink & (part != TEMPLATE)
    means = np.stack(
        [
            states[[t is text for t in order] & data].mean(0)
            for text in given
            if any([t is text for t in order] & data)
        ]
    )
    found = state.sites[site].classes["mean"].moments.moments
    near(found.mean, means.mean(0), tolerance)
    near(found.covariance(), np.cov(means.T, bias=True), tolerance)
    last = np.array([i for i in range(len(order)) if i + 1 == len(order) or order[i + 1] is not order[i]])
    near(state.sites[site].classes["last"].moments.moments.mean, states[last[~sink[last]]].mean(0), tolerance)
    for group in ("a", "b"):
        mask = data & np.array([text.group == group for text in order])
        index = ("a", "b").index(group)
        assert state.sites[site].group_counts[index] == mask.sum()
        near(state.sites[site].group_sums[index] / mask.sum(), states[mask].mean(0), tolerance)


def near(found, wanted, tolerance: float) -> None:
    one, other = np.asarray(found, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    assert np.abs(one - other).max() <= tolerance * max(np.abs(other).max(), 1e-12)


def test_batches_and_shards_change_nothing(host):
    """Every statistic of the whole is that of parts, however they are cut, merged in any order."""
    given = texts()
    whole = collected(host, given, tokens=10_000)[0]
    medians = collected(host, given, tokens=10_000)[3]
    bases = base_sites(host.sites())
    observed = list(dict.fromkeys(name for site in SITES for name in (bases[site], site)))
    parts = []
    for chosen in (given[12:], given[:6], given[6:12]):
        state = TaskState("task", 50, True, ("a", "b"))
        collector = Collector(state, SITES, Sinks(medians, 1.3, bases), seed=3)
        for batch in batches(chosen, 30):
            collector.begin(batch)
            host.observe(None, batch_of(batch), observed, collector)
        state.end_shard("x", {})
        parts.append(state)
    for site in SITES:
        merged = parts[0].sites[site]
        for other in parts[1:]:
            merged.merge(other.sites[site])
        assert set(merged.classes) == set(whole.sites[site].classes)
        for name, one in merged.classes.items():
            other = whole.sites[site].classes[name]
            assert one.moments.count == other.moments.count
            near(one.moments.moments.scatter, other.moments.moments.scatter, 1e-5)  # states in other batches
            assert one.sample.columns["position"].tolist() == other.sample.columns["position"].tolist()
            assert one.sample.columns["document"].tolist() == other.sample.columns["document"].tolist()
            assert abs(one.norms.count - other.norms.count) == 0


def test_trajectories_and_spans_are_those_of_each_text(host):
    given = texts(9)
    medians = collected(host, given)[3]
    state = TaskState("task", 50, True, ())
    sequences = Sequences(state, ["resid.2"], Sinks(medians, 1e9, base_sites(host.sites())), seed=3)
    sequences.paths = frozenset({given[4].id})
    for batch in batches(given, 64):
        sequences.begin(batch, shuffled=False)
        host.observe(None, batch_of(batch), ["resid.2"], sequences)
    mixed = [shuffled(text, 3) for text in given]
    for batch in batches(mixed, 64):
        sequences.begin(batch, shuffled=True)
        host.observe(None, batch_of(batch), ["resid.2"], sequences)
    rows = state.sites["resid.2"].sequences
    assert rows["shuffled"].tolist() == [0] * 9 + [1] * 9
    assert sorted(rows["text"][:9].tolist()) == sorted(rows["text"][9:].tolist())
    ordered = [text for batch in batches(given, 64) for text in batch]
    for i, text in enumerate(ordered):
        everything = Everything()
        host.observe(None, batch_of([text]), ["resid.0", "resid.2"], everything)
        alone, is_data = everything.of("resid.2"), np.array(text.parts) != TEMPLATE
        steps = np.linalg.norm(np.diff(alone[1:], axis=0), axis=1)[is_data[1:-1] & is_data[2:]]
        alone = alone[is_data]
        assert rows["tokens"][i] == len(alone) - 1  # the first is a sink
        near(rows["trace"][i], np.trace(np.cov(alone[1:].T)), 1e-4)
        near(rows["step"][i], steps.mean(), 1e-4)
        near(rows["answer"][i], np.trace(np.cov(alone[-3:].T)), 1e-4)
        assert rows["document"][i] == key_of(text.document)
        room, length, key = (torch.tensor([n]) for n in (len(alone) - 4, 3, key_of(text.id)))
        seeds = [derive(3, "span", number) for number in range(SPANS)]
        starts = [1 + int(random_span(room, length, key, seed)) for seed in seeds]
        if all(starts):
            logs = [np.log(np.trace(np.cov(alone[start : start + 3].T))) for start in starts]
            near(rows["span"][i], np.exp(np.mean(logs)), 1e-4)
        else:
            assert len(alone) < 7
            assert rows["span"][i].isnan()
    path = state.sites["resid.2"].paths
    assert path["position"].tolist() == list(range(1, len(given[4].tokens)))
    assert path["part"].tolist() == given[4].parts[1:]


def test_shuffled_texts_keep_their_first_token_and_their_tokens():
    for text in texts():
        mixed = shuffled(text, 0)
        assert mixed.tokens[0] == text.tokens[0]
        assert sorted(mixed.tokens) == sorted(text.tokens)
        assert mixed == shuffled(text, 0)
        kept = shuffled(text, 0, keep_answer=True)
        answer = [i for i, part in enumerate(text.parts) if part == ANSWER]
        assert [i for i, part in enumerate(kept.parts) if part == ANSWER] == answer
        assert [kept.tokens[i] for i in answer] == [text.tokens[i] for i in answer]
        assert sorted(kept.tokens) == sorted(text.tokens)
    for keep in (True, False):
        assert any(shuffled(text, 0, keep).tokens != text.tokens for text in texts())
