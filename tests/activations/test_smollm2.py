"""What sinks do to a real model's statistics, on the project's own prose."""

from __future__ import annotations

from pathlib import Path

import pytest

from softprior.activations.collector import Collector, Medians, Sinks, base_sites, batch_of
from softprior.activations.state import TaskState
from softprior.activations.texts import batches
from softprior.inputs.specs import ModelSpec
from softprior.models.load import load_local
from softprior.statistics.spectrum import participation_of
from softprior.tasks.prepared import Text

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.network("smollm2-135m-instruct-q4_1")
def test_without_sinks_a_middle_site_has_many_directions_and_with_them_one():
    loaded = load_local(ModelSpec(id="smollm2-135m-instruct-q4_1", device="cpu"))
    words = (DOCS / "notation.md").read_text() + (DOCS / "decisions" / "0001-packed-rows.md").read_text()
    ids = loaded.tokenizer(words, verbose=False)["input_ids"][:400]
    texts = [Text(f"{i}", f"{i}", "", ids[i : i + 64], [0] * len(ids[i : i + 64])) for i in range(0, 400, 64)]
    texts = [text for text in texts if len(text.tokens) > 1]
    medians = Medians()
    for batch in batches(texts, 4096):
        loaded.host.observe(None, batch_of(batch), ["resid.15"], medians)
    state = TaskState("prose", 100, False, ())
    sinks = Sinks(medians.values(), 10.0, base_sites(loaded.host.sites()))
    collector = Collector(state, ["resid.15"], sinks, seed=0)
    for batch in batches(texts, 4096):
        collector.begin(batch)
        loaded.host.observe(None, batch_of(batch), ["resid.15"], collector)
    classes = state.sites["resid.15"].classes
    alone = classes["input"].moments.moments
    both = alone.merge(classes["sinks"].moments.moments)
    assert classes["sinks"].moments.count >= len(texts)
    assert classes["sinks"].norms.quantile(0.5) > 50 * classes["input"].norms.quantile(0.5)
    assert participation_of(both.covariance()) < 1.1
    assert participation_of(alone.covariance()) > 20
