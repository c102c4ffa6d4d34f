"""Findings of small stores whose answers are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kurtosis
from sklearn.metrics import pairwise_distances

from softprior.activations.collector import Collector, Sinks, base_sites, batch_of
from softprior.activations.findings.claims import CLAIMS, ONE_MODE
from softprior.activations.findings.groups import group_findings
from softprior.activations.findings.pairs import MOST, _Sampled, _some, pair_findings
from softprior.activations.findings.prompts import prompt_states_of
from softprior.activations.findings.ratios import answer_ratio, separation_of
from softprior.activations.findings.record import Findings, load_findings, save_findings
from softprior.activations.findings.sentences import sentences
from softprior.activations.findings.sites import site_findings
from softprior.activations.findings.summary import by_depth, findings, residual_sites
from softprior.activations.sequences import Sequences
from softprior.activations.state import TaskState
from softprior.activations.store import write_site
from softprior.activations.texts import shuffled
from softprior.errors import UserError
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.results.tensor_files import open_tensors, save_tensors
from softprior.seeding import torch_generator
from softprior.statistics.points import Points
from softprior.statistics.store import load_tables
from softprior.tasks.prepared import Text
from softprior.testing.families import random_model
from tests.activations.stores import (
    ANSWER,
    DOCUMENTS,
    TOKENS,
    WIDTH,
    normal,
    write,
    write_prompts,
    write_vocabulary,
)

SITE = "resid.1"


def texts(seed: object = 0) -> torch.Tensor:
    return normal(DOCUMENTS, TOKENS, WIDTH, seed=seed)


def ratio(summary) -> float:
    return math.exp(summary.mean_log_ratio)


def test_counts_norms_and_kurtosis_are_those_of_the_vectors(tmp_path: Path) -> None:
    vectors = texts()
    vectors[..., 3] = vectors[..., 3] ** 7  # a heavy tail
    sinks = torch.zeros(DOCUMENTS, WIDTH)
    sinks[:, 2] = 1000 + normal(DOCUMENTS)
    write(tmp_path, "a", SITE, vectors, sinks=sinks)
    found = site_findings(tmp_path, "a", SITE, seed=0)
    flat = vectors.reshape(-1, WIDTH).double().numpy()
    norms = np.linalg.norm(flat, axis=1)
    assert (found.tokens, found.documents, found.sinks) == (len(flat), DOCUMENTS, DOCUMENTS)
    assert found.sink_share == DOCUMENTS / (len(flat) + DOCUMENTS)
    assert found.norm == pytest.approx(np.quantile(norms, 0.5), rel=0.02)
    assert found.norm_95 == pytest.approx(np.quantile(norms, 0.95), rel=0.05)
    assert found.sink_norm == pytest.approx(1000, rel=0.02)
    tails = kurtosis(flat)
    assert found.kurtosis == pytest.approx(tails.max(), rel=1e-4)
    assert found.outlier_dimensions == (tails > 20).sum() == 1


def test_one_massive_direction_is_in_the_numbers_with_sinks_alone(tmp_path: Path) -> None:
    vectors = texts()
    sinks = torch.zeros(DOCUMENTS, WIDTH)
    sinks[:, 2] = 1000
    write(tmp_path, "a", SITE, vectors, sinks=sinks)
    found = site_findings(tmp_path, "a", SITE, seed=0)
    values = np.linalg.eigvalsh(np.cov(vectors.reshape(-1, WIDTH).double().numpy(), rowvar=False, bias=True))
    assert found.participation == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-5)
    assert found.first_share == pytest.approx(values[-1] / values.sum(), rel=1e-5)
    assert found.participation > WIDTH - 1
    assert 1 <= found.participation_with_sinks < 1.01
    assert found.first_share_with_sinks > 0.99


def test_two_clusters_are_told_apart_and_one_law_is_not(tmp_path: Path) -> None:
    shift = torch.zeros(WIDTH)
    shift[0] = 3
    for task, vectors in (("a", texts(0)), ("b", texts(1)), ("c", texts(2) + shift)):
        write(tmp_path, task, SITE, vectors)
    far = pair_findings(tmp_path, "a", "c", SITE, seed=0, permutations=199)
    same = pair_findings(tmp_path, "a", "b", SITE, seed=0, permutations=199)
    assert far.separation.ratio_low > 5
    assert far.swaps.p == 1 / 200
    assert far.probe.low > 0.85
    assert same.separation.ratio_low < 1
    assert same.swaps.p > 0.05
    assert same.probe.low < 0.5 < same.probe.high
    assert far.probe.swaps.p < 0.02
    assert same.probe.swaps.p > 0.05


def words(task: int) -> torch.Tensor:
    """Ids of tokens: two thirds of each task's are its own."""
    drawn = torch.randint(0, 12, (DOCUMENTS, TOKENS), generator=torch_generator(task, "words"))
    return torch.where(drawn < 4, drawn, drawn + 20 * task)


def test_of_a_large_sample_every_document_gives_its_share(tmp_path: Path) -> None:
    sizes = torch.tensor([1] * 600 + [30] * 80 + [1000] * 2)
    documents = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    order = torch.randperm(len(documents), generator=torch_generator(0))
    keys = torch.randperm(len(documents), generator=torch_generator(1))
    points = Points(keys[:, None].float(), documents, documents)
    kept, _ = _some(_Sampled(points, documents, keys))
    assert len(kept.documents) == MOST
    share = MOST / len(documents)
    counts = torch.bincount(kept.documents, minlength=len(sizes))
    assert ((counts - share * sizes).abs() <= 1.01).all()
    assert float(counts[:600].sum()) == pytest.approx(600 * share, abs=5 * (600 * share * (1 - share)) ** 0.5)
    moved, _ = _some(_Sampled(points.take(order.numpy()), documents[order], keys[order]))
    assert set(moved.vectors[:, 0].tolist()) == set(kept.vectors[:, 0].tolist())
    few = points.take(np.arange(MOST))
    assert _some(_Sampled(few, None, None))[0] is few


def test_words_that_differ_are_not_the_models_doing(tmp_path: Path) -> None:
    """States that are the word and noise are apart, and not within words; a shift of one task is."""
    table = 3 * normal(60, WIDTH, seed="table")
    shift = torch.zeros(WIDTH)
    shift[0] = 2
    for task, number, moved in (("a", 0, 0), ("b", 1, 0), ("c", 1, 1)):
        ids = words(number)
        write(tmp_path, task, SITE, table[ids] + texts(task) + moved * shift, words=ids)
    same, shifted = (
        pair_findings(tmp_path, "a", task, SITE, seed=0, permutations=199) for task in ("b", "c")
    )
    for found in (same, shifted):
        assert found.swaps.p == 1 / 200
        assert found.probe.accuracy > 0.6
        assert found.lexical.ids == 4
        assert found.lexical.shared == pytest.approx((1 / 3, 1 / 3), abs=0.05)
        assert found.lexical.unigram == pytest.approx(1 - 1 / 6, abs=0.05)  # those of both tasks tell nothing
    assert same.lexical.swaps.p > 0.05
    assert same.lexical.probe.low < 0.5
    assert same.lexical.probe.swaps.p > 0.05
    assert shifted.lexical.swaps.p == 1 / 200
    assert shifted.lexical.probe.low > 0.7


def test_a_store_without_token_ids_says_what_it_takes(tmp_path: Path) -> None:
    for task in ("a", "b"):
        write(tmp_path, task, SITE, texts(task))
        path = tmp_path / task / f"{SITE}.safetensors"
        with open_tensors(path) as file:
            tensors = {n: file.get_tensor(n) for n in file.keys() if not n.endswith("facts/token")}  # noqa: SIM118
            header = file.metadata()
        save_tensors(tensors, path, header)
    found = pair_findings(tmp_path, "a", "b", SITE, seed=0, permutations=9)
    assert found.lexical.note.startswith("the store does not say which tokens its sample contains")
    assert found.swaps.p > 0


def test_a_dip_that_was_not_rejected_is_not_the_largest_of_the_rejected(tmp_path: Path) -> None:
    write(tmp_path, "a", SITE, texts())
    site = site_findings(tmp_path, "a", SITE, seed=0).amended(
        dips=(0.03, 0.09), dip_holm=(0.001, 0.4), dip_p_low=(0.0, 0.1), dip_p_high=(0.01, 0.9)
    )

    def about_modes(dip_holm: tuple[float, float]) -> str:
        tasks = {"a": {SITE: site.amended(dip_holm=dip_holm)}}
        found = Findings(
            seed=0, sites=(SITE,), tasks=tasks, pairs={}, groups={}, nearest={}, commit=None, sources=""
        )
        [line] = [line for line in sentences(found) if line.startswith(ONE_MODE.words)]
        return line

    line = about_modes((0.001, 0.4))
    assert (
        "rejected at 1 of 1 site, undecided at 0; largest rejected dip 0.030 at resid.1, component 1 (p 0.0"
        in line
    )
    line = about_modes((0.6, 0.4))
    assert (
        "rejected at 0 of 1 site, undecided at 1; largest dip, not rejected, 0.090 at resid.1, component 2"
        in line
    )
    assert "on its own 0.1 to 0.9 with one token a document" in line


def test_steps_of_a_random_walk_are_shorter_than_of_the_same_tokens_shuffled(tmp_path: Path) -> None:
    write(tmp_path, "walk", SITE, texts().cumsum(1))
    write(tmp_path, "noise", SITE, texts())
    walk, noise = (site_findings(tmp_path, task, SITE, seed=0) for task in ("walk", "noise"))
    # A walk's step has variance 1 a dimension, a jump between two of its T points on average (T + 1) / 3.
    assert ratio(walk.step) == pytest.approx(math.sqrt(3 / (TOKENS + 1)), rel=0.1)
    assert walk.step.p < 1e-6
    assert math.exp(noise.step.low) < 1 < math.exp(noise.step.high)
    # The tokens are the same, so their spread is.
    assert ratio(walk.trace) == pytest.approx(1, abs=1e-9)
    assert walk.trace_null == "shuffled"


def test_pairs_of_texts_are_joined_by_the_text(tmp_path: Path) -> None:
    vectors = texts() * torch.linspace(0.1, 10, DOCUMENTS)[:, None, None]
    write(tmp_path, "a", SITE, vectors, shuffled=2 * vectors)
    found = site_findings(tmp_path, "a", SITE, seed=0)
    assert found.trace.texts == DOCUMENTS
    assert ratio(found.trace) == pytest.approx(1 / 4, rel=1e-6)
    # Joined by any other order the ratios would differ from text to text, and have an interval.
    assert found.trace.low is None


def test_texts_of_one_article_are_one_observation(tmp_path: Path) -> None:
    articles = torch.arange(DOCUMENTS) % 6
    levels = (1 + articles)[:, None, None]
    write(tmp_path, "a", SITE, texts().cumsum(1), shuffled=texts().cumsum(1) * levels, articles=articles)
    found = site_findings(tmp_path, "a", SITE, seed=0)
    assert (found.trace.texts, found.trace.documents) == (DOCUMENTS, 6)
    assert (found.step.documents, found.answer.documents) == (6, 6)
    assert found.trace.p > 0.03  # six documents, one of them as the null, cannot say more
    assert found.trace.mean_log_ratio == pytest.approx(-2 * np.log(np.arange(1, 7)).mean(), abs=1e-6)


def test_the_order_of_the_rows_changes_nothing(tmp_path: Path) -> None:
    for task in ("a", "b"):
        write(tmp_path, task, SITE, texts(), articles=torch.arange(DOCUMENTS) % 7)
    path = tmp_path / "b" / f"{SITE}.safetensors"
    with open_tensors(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = file.metadata()
    order = torch.randperm(2 * DOCUMENTS, generator=torch.Generator().manual_seed(0))
    save_tensors(
        {n: t[order] if n.startswith("//sequences/") else t for n, t in tensors.items()}, path, header
    )
    one, other = (site_findings(tmp_path, task, SITE, seed=0) for task in ("a", "b"))
    assert (one.trace, one.step, one.answer) == (other.trace, other.step, other.answer)


def test_a_store_that_does_not_name_documents_says_so(tmp_path: Path) -> None:
    write(tmp_path, "a", SITE, texts())
    path = tmp_path / "a" / f"{SITE}.safetensors"
    with open_tensors(path) as file:
        tensors = {n: file.get_tensor(n) for n in file.keys() if n != "//sequences/document"}  # noqa: SIM118
        header = file.metadata()
    save_tensors(tensors, path, header)
    found = site_findings(tmp_path, "a", SITE, seed=0)
    for summary in (found.trace, found.step, found.answer):
        assert summary.note == "the store does not say which texts share a document; run the job again"
        assert summary.mean_log_ratio is None
    assert found.participation > 1


def test_texts_with_more_massive_tokens_in_one_run_are_left_out_and_counted(tmp_path: Path) -> None:
    uncounted = (torch.arange(DOCUMENTS) % 3 == 0).long()
    factors = torch.where(uncounted == 1, 100, 2)[:, None, None]
    write(tmp_path, "a", SITE, texts(), shuffled=factors * texts(), uncounted=uncounted)
    found = site_findings(tmp_path, "a", SITE, seed=0)
    assert (found.unequal, found.trace.texts, found.step.texts) == (20, 40, 40)
    assert found.answer.texts == DOCUMENTS
    assert ratio(found.trace) == pytest.approx(1 / 4, rel=1e-6)
    assert found.notes["unequal"].startswith("many texts are left out of trace and step")


def test_the_null_of_traces_at_the_embedding_is_unigram_draws(tmp_path: Path) -> None:
    write(tmp_path, "a", "resid.0", texts() + 2 * normal(DOCUMENTS, 1, WIDTH, seed="own place"))
    write(tmp_path, "same", "resid.0", texts())
    found, same = (site_findings(tmp_path, task, "resid.0", seed=0) for task in ("a", "same"))
    assert found.trace_null == "unigram"
    assert ratio(found.trace) == pytest.approx(1 / 5, rel=0.15)  # 1 of a text, 4 more between texts
    assert same.trace.low < 0 < same.trace.high


def test_where_the_model_adds_positions_to_embeddings_the_null_is_of_unigrams_too(tmp_path: Path) -> None:
    drawn = torch.randint(3, 40, (30, 16), generator=torch.Generator().manual_seed(0)).tolist()
    given = [Text(f"{i}", f"{i}", "", tokens, [0] * 12 + [2] * 4) for i, tokens in enumerate(drawn)]
    for family in ("gpt2", "llama"):
        host = LocalLM(random_model(family, ATTENTION), "model")
        state = TaskState(family, 200, False, ())
        sinks = Sinks({}, 1e9, base_sites(host.sites()))
        collector = Collector(state, ["resid.0"], sinks, 0)
        sequences = Sequences(state, ["resid.0"], sinks, 0)
        collector.begin(given)
        host.observe(None, batch_of(given), ["resid.0"], collector)
        for mixed in (False, True):
            read = [shuffled(text, 0) if mixed else text for text in given]
            sequences.begin(read, shuffled=mixed)
            host.observe(None, batch_of(read), ["resid.0"], sequences)
        state.end_shard("x", {})
        write_site(tmp_path, family, "resid.0", state.sites["resid.0"], (), 30, {"model": "model"})
    learned, rotary = (site_findings(tmp_path, family, "resid.0", seed=0) for family in ("gpt2", "llama"))
    assert (learned.trace_null, rotary.trace_null) == ("unigram", "unigram")
    assert max(learned.dip_vectors, rotary.dip_vectors) <= 37
    assert learned.trace.documents == rotary.trace.documents == 30


def test_answers_that_lie_together_are_closer_than_spans(tmp_path: Path) -> None:
    vectors = texts()
    vectors[:, -ANSWER:] *= 0.3
    write(tmp_path, "close", SITE, vectors)
    write(tmp_path, "same", SITE, texts(1))
    write(tmp_path, "none", SITE, texts(2), answers=False)
    close, same, none = (site_findings(tmp_path, t, SITE, seed=0).answer for t in ("close", "same", "none"))
    assert ratio(close) == pytest.approx(0.09, rel=0.2)
    assert same.low < 0 < same.high
    assert none.texts == 0
    assert none.note


def test_dips_find_two_modes_and_test_repeated_embeddings_once(tmp_path: Path) -> None:
    two = texts()
    two[: DOCUMENTS // 2, :, 4] += 8
    write(tmp_path, "two", SITE, two)
    found = site_findings(tmp_path, "two", SITE, seed=0)
    assert found.dip_p[0] < 1e-3
    assert min(found.dip_p[1:]) > 0.05
    words = normal(40, WIDTH, seed="words")
    repeated = words[torch.randint(0, 40, (DOCUMENTS, TOKENS), generator=torch.Generator().manual_seed(0))]
    for site in ("resid.0", SITE):
        write(tmp_path, "words", site, repeated)
    embedded, deeper = (site_findings(tmp_path, "words", site, seed=0) for site in ("resid.0", SITE))
    assert embedded.dip_vectors == 40
    assert deeper.dip_vectors > 800
    assert min(embedded.dip_p) > 0.05 > min(deeper.dip_p)


def test_radii_of_gaussian_data_spread_as_a_gaussian_and_heavy_tails_more(tmp_path: Path) -> None:
    mixing = torch.diag(torch.linspace(0.1, 5, WIDTH)) + 0.2
    write(tmp_path, "gaussian", SITE, texts() @ mixing)
    write(tmp_path, "heavy", SITE, texts() @ mixing * normal(DOCUMENTS, TOKENS, 1, seed="scale").exp())
    write(tmp_path, "few", SITE, texts()[:3])
    # Thirty tokens a dimension, of very different variances: shrunk, and a third of them in the sample.
    wide = normal(DOCUMENTS, TOKENS, 40, seed="wide") * torch.logspace(1, -1, 40)
    write(tmp_path, "wide", SITE, wide, sample=400)
    gaussian, heavy, few = (
        site_findings(tmp_path, t, SITE, seed=0).radii for t in ("gaussian", "heavy", "few")
    )
    assert gaussian.low < 1 < gaussian.high
    assert gaussian.ratio == pytest.approx(1, abs=0.1)
    assert heavy.low > 1.5
    shrunk = site_findings(tmp_path, "wide", SITE, seed=0).radii
    assert shrunk.low < 1 < shrunk.high
    assert shrunk.high - shrunk.low < 0.3
    assert "60 tokens are fewer than" in few.note
    assert few.ratio is None


def test_groups_that_stand_apart_hold_more_variance_than_shuffled_ones(tmp_path: Path) -> None:
    groups = torch.arange(DOCUMENTS) % 3
    apart_by = torch.zeros(3, WIDTH)
    apart_by[1, 0], apart_by[2, 1] = 1, 2
    write(tmp_path, "apart", SITE, texts() + apart_by[groups][:, None], groups=groups)
    write(tmp_path, "alike", SITE, texts(), groups=groups)
    write(tmp_path, "none", SITE, texts())
    found, alike = (
        group_findings(tmp_path, task, SITE, seed=0, permutations=99) for task in ("apart", "alike")
    )
    vectors = (texts() + apart_by[groups][:, None]).double()
    means = torch.stack([vectors[groups == g].mean((0, 1)) for g in range(3)])
    spread = vectors.reshape(-1, WIDTH).var(0, correction=0).sum().sqrt()
    assert found.tokens == (DOCUMENTS // 3 * TOKENS,) * 3
    assert np.allclose(found.distances, pairwise_distances(means / spread), atol=1e-5)
    own = vectors.mean(1)
    between = sum(20 * (own[groups == g].mean(0) - own.mean(0)).square().sum() for g in range(3))
    assert found.share == pytest.approx(float(between / (own - own.mean(0)).square().sum()), rel=1e-5)
    assert found.p == 1 / 100
    assert found.share > 0.5 > 4 * found.null_high
    assert alike.p > 0.05
    assert alike.null == pytest.approx(2 / (DOCUMENTS - 1), rel=0.15)  # (groups - 1) / (texts - 1)
    assert group_findings(tmp_path, "none", SITE, seed=0) is None
    write(tmp_path, "equal", SITE, torch.full((DOCUMENTS, TOKENS, WIDTH), 0.1), groups=groups)
    equal = group_findings(tmp_path, "equal", SITE, seed=0)
    assert (equal.distances, equal.note) == ((), "all tokens are equal")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arithmetic far from two tasks of one distribution, at three sites; keys and vocabulary beside them."""
    folder = tmp_path_factory.mktemp("store")
    groups = torch.arange(DOCUMENTS) % 3
    for site in ("resid.0", "resid.1", "resid.2", "key.0"):
        modules = normal(3, WIDTH, seed=site)[groups][:, None]
        write(folder, "arithmetic", site, texts(f"a{site}") + 4 + modules, groups=groups, sample=200)
        write(folder, "squad", site, texts(f"s{site}"), sample=200)
        write(folder, "text", site, texts(f"t{site}"), answers=False, sample=200)
    write_vocabulary(folder)
    return folder


@pytest.fixture(scope="module")
def found(store: Path) -> Findings:
    return findings(store)


def test_findings_cover_residual_sites_and_compare_no_vocabulary(store: Path, found: Findings) -> None:
    sites = ["resid.0", "resid.1", "resid.2"]
    assert list(found.sites) == sites
    assert residual_sites(store)["vocabulary"] == ["resid.0"]
    assert {task: list(own) for task, own in found.tasks.items()} == {
        "arithmetic": sites,
        "squad": sites,
        "text": sites,
        "vocabulary": ["resid.0"],
    }
    assert list(found.pairs) == ["arithmetic / squad", "arithmetic / text", "squad / text"]
    assert list(found.groups) == ["arithmetic"]


def test_prompts_are_counted_and_change_no_other_number(tmp_path: Path) -> None:
    """As many as there are and as large beside the tokens, and every number of the tasks as without them."""
    for task, site in (("arithmetic", "resid.1"), ("arithmetic", "resid.2"), ("squad", "resid.1")):
        write(tmp_path / "store", task, site, texts(f"{task}{site}"), sample=200)
    found = findings(tmp_path / "store")
    assert found.prompts == {}
    assert list(found.pairs["arithmetic / squad"]) == ["resid.1"]
    near, far = normal(5, WIDTH, seed="near"), 100 * normal(3, WIDTH, seed="far")
    far[2] /= 100
    write_prompts(tmp_path / "store", "resid.1", {"near": near, "far": far}, cut=1)
    (tmp_path / "store" / "_prompts" / "resid.2.safetensors").write_bytes(b"half a file")
    followed = findings(tmp_path / "store")
    assert followed.amended(prompts={}) == found
    assert list(followed.prompts) == ["resid.1", "resid.2"]
    assert "damaged" in followed.prompts["resid.2"].note
    here = followed.prompts["resid.1"]
    assert here.token_norm == max(found.tasks[t]["resid.1"].norm for t in ("arithmetic", "squad"))
    for name, vectors, massive in (("near", near, 0), ("far", far, 1)):
        norms = np.linalg.norm(vectors.double().numpy(), axis=1)
        own = here.prompts[name]
        assert (own.vectors, own.cut, own.massive) == (len(vectors), 1, massive)
        assert own.norm == pytest.approx(np.median(norms[1:]))
        assert own.largest_norm == pytest.approx(norms[1:].max())
        assert own.cut_norm == pytest.approx(norms[0])
        # In the order of the prompt, cut ones first.
        assert torch.equal(prompt_states_of(tmp_path / "store", "resid.1")[name].vectors, vectors)
    assert by_depth(followed)["prompts/far/massive"] == {0: 1.0}
    save_findings(tmp_path / "findings.json", followed)
    assert load_findings(tmp_path / "findings.json") == followed
    assert load_findings_without_prompts(tmp_path, found) == found


def load_findings_without_prompts(folder: Path, found: Findings) -> Findings:
    """Findings as they were written before a run could follow prompts."""
    old = found.model_dump(mode="json", exclude={"prompts"})
    (folder / "old.json").write_text(json.dumps(old))
    return load_findings(folder / "old.json")


def test_p_values_are_corrected_over_sites(found: Findings) -> None:
    def check(pairs: list[tuple[float, float]]) -> None:
        """Holm's rule, written out: the i-th smallest times what is left, never falling, at most 1."""
        ordered = sorted(pairs)
        largest = 0.0
        for i, (p, adjusted) in enumerate(ordered):
            largest = max(largest, p * (len(ordered) - i))
            assert adjusted == pytest.approx(min(1, largest))

    for own in found.pairs.values():
        check([(site.swaps.p, site.holm) for site in own.values()])
        check([(site.probe.swaps.p, site.probe_holm) for site in own.values()])
        check([(site.lexical.swaps.p, site.lexical_holm) for site in own.values()])
        check([(site.lexical.probe.swaps.p, site.lexical_probe_holm) for site in own.values()])
    check([(site.p, site.holm) for site in found.nearest.values()])
    squad = found.tasks["squad"].values()
    check([(p, q) for site in squad for p, q in zip(site.dip_p, site.dip_holm, strict=True)])
    check([(site.trace.p, site.trace_holm) for site in squad])
    check([(site.step.p, site.step_holm) for site in squad])
    check([(site.answer.p, site.answer_holm) for site in squad])
    check([(site.p, site.holm) for site in found.groups["arithmetic"].values()])
    # The smallest p that permutations can give survives as many sites as there are.
    assert found.pairs["arithmetic / squad"]["resid.1"].holm == pytest.approx(3 / 1000)


def test_sentences_say_what_the_numbers_are(found: Findings) -> None:
    lines = found.sentences
    numbers = [[line.startswith(claim.words) for claim in CLAIMS].index(True) for line in lines]
    assert numbers == sorted(numbers)
    at = separation_of(found.pairs["arithmetic / squad"]["resid.1"])
    [far] = [line for line in lines if "arithmetic is separated from squad" in line]
    assert "at 3 of 3 sites" in far
    assert f"MMD^2 {at} at resid.1" in far
    [same] = [line for line in lines if "squad is separated from text" in line]
    assert "at 0 of 3 sites" in same
    [near] = [line for line in lines if line.startswith("One pair of tasks is nearest")]
    assert "(3 sites): squad and text at 3, undecided at 0" in near
    [modules] = [line for line in lines if line.startswith("Groups of a task lie apart")]
    assert "(arithmetic): at 3 of 3 sites" in modules
    answers = [line for line in lines if line.startswith("Answer tokens lie close together")]
    assert [line.split(":")[0].split()[-1] for line in answers] == ["(arithmetic)", "(squad)"]
    assert str(answer_ratio(found.tasks["squad"]["resid.1"])) in answers[1]
    assert "undecided at 3" in answers[1]


def test_what_cannot_be_said_is_undecided_and_noted(tmp_path: Path) -> None:
    write(tmp_path, "one", SITE, texts()[:3], answers=False)
    write(tmp_path, "two", SITE, texts()[:3], answers=False)
    (tmp_path / "two" / f"{SITE}.safetensors").write_bytes(b"half a file")
    told = []
    found = findings(tmp_path, lambda *what: told.append(what))
    assert told == [(0, 1, SITE)]
    assert "damaged" in found.tasks["two"][SITE].note
    assert "damaged" in found.pairs["one / two"][SITE].note
    assert "documents" in found.tasks["one"][SITE].fit.note
    assert [line for line in found.sentences if "undecided, " in line] == [
        "Trajectories are not localised: undecided, no text was also read shuffled",
        "Tasks form clusters of their own: undecided, it takes two tasks with some documents each",
        "Activations have one mode: undecided, no sample could be tested",
        "Answer tokens lie close together: undecided, no text has an answer of two tokens and room for a "
        "span before it",
        "A fitted Gaussian misrepresents the data: undecided, no task has tokens enough for its dimensions",
    ]
    save_findings(tmp_path / "findings.json", found)
    assert load_findings(tmp_path / "findings.json") == found


def test_saved_findings_are_read_back_as_they_were(found: Findings, tmp_path: Path) -> None:
    path = tmp_path / "findings.json"
    save_findings(path, found)
    assert load_findings(path) == found
    path.write_text(path.read_text().replace('"participation"', '"participating"'))
    with pytest.raises(UserError, match="does not contain findings of this version"):
        load_findings(path)


def test_the_page_of_claims_has_their_words_and_rules() -> None:
    page = " ".join((Path(__file__).parents[2] / "docs" / "claims.md").read_text().split())
    for claim in CLAIMS:
        _, _, own = page.partition(f"## {claim.words} ")
        own = own.partition(" ## ")[0]
        for text in (claim.number, claim.unit, claim.null, claim.rule, claim.margin):
            assert text in own, f"docs/claims.md does not say of '{claim.words}': {text}"
    # Nor has the page a claim that is not judged.
    assert page.count(" ## ") == len(CLAIMS)


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no statistics store"):
        findings(tmp_path / "nothing")


def test_the_store_of_the_tests_has_the_texts_it_was_given(tmp_path: Path) -> None:
    """Or the oracles above would be of other vectors."""
    vectors = texts()
    write(tmp_path, "a", SITE, vectors)
    paths = load_tables(tmp_path, "a", SITE).paths
    assert torch.equal(paths["vectors"].reshape(3, TOKENS, WIDTH), vectors[:3])
