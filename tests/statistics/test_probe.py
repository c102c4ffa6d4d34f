"""The probe against scikit-learn's own pieces, and against leaks through documents."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from softprior.seeding import numpy_generator, torch_generator
from softprior.statistics.documents import held_out
from softprior.statistics.points import Points
from softprior.statistics.probe import probe


def of_documents(documents: int, tokens: int, name: str, spread: float = 1.0, offset: float = 0.0) -> Points:
    """Documents with a centre of their own, `spread` times as wide as their tokens lie around it."""
    generator = torch_generator(0, name)
    centres = spread * torch.randn(documents, 20, generator=generator).repeat_interleave(tokens, 0)
    vectors = centres + torch.randn(documents * tokens, 20, generator=generator)
    vectors[:, 3:] += offset
    vectors[:, 0] = 7.0  # a constant dimension
    numbers = torch.arange(documents).repeat_interleave(tokens)
    return Points(vectors, numbers, torch.arange(tokens).repeat(documents))


def test_accuracy_equals_scikit_learns():
    a, b = of_documents(30, 5, "a"), of_documents(20, 9, "b", offset=0.4)
    found = probe(a, b, seed=3, share=0.3, permutations=0)
    generator = numpy_generator(3, "probe")
    # Documents are numbered through both tasks.
    held = np.concatenate([
        held_out(a.documents.numpy(), 0.3, generator),
        held_out(b.documents.numpy() + 30, 0.3, generator),
    ])  # fmt: skip
    vectors, task = torch.cat([a.vectors, b.vectors]).double().numpy(), np.repeat([0, 1], [150, 180])
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    predicted = model.fit(vectors[~held], task[~held]).predict(vectors[held])
    assert 0.6 < found.accuracy < 1
    assert found.accuracy == pytest.approx(balanced_accuracy_score(task[held], predicted), abs=1e-12)
    assert (found.tokens, found.documents, found.note) == ((9 * 5, 6 * 9), (9, 6), "")
    assert found.low < found.accuracy < found.high
    assert found.swaps.p == 1  # only the observed one


def test_tasks_apart_are_told_apart():
    found = probe(of_documents(20, 5, "a"), of_documents(20, 5, "b", offset=4.0), seed=0)
    assert (found.accuracy, found.low, found.high) == (1, 1, 1)
    assert found.swaps.p < 0.05


def test_p_survives_a_correction_over_sites_where_tasks_differ():
    a, b = of_documents(100, 1, "many"), of_documents(100, 12, "long", offset=0.7)
    found = probe(a, dataclasses.replace(b, positions=torch.zeros_like(b.positions)), seed=0)
    assert found.swaps.p == 1 / 1000
    assert found.swaps.pairs == 30


def test_p_keeps_its_level_whatever_the_tokens_a_document():
    """40 documents of a token against 16 of 12, of one distribution; the level is 10%."""
    reached = 0
    for trial in range(25):
        a, b = of_documents(40, 1, f"a {trial}", 2.0), of_documents(16, 12, f"b {trial}", 2.0)
        b = dataclasses.replace(b, positions=torch.zeros_like(b.positions))
        reached += probe(a, b, seed=trial, share=0.5, permutations=99, resamples=2).swaps.p <= 0.1
    # Binomial(25, 0.1) is above 7 with probability 0.2%.
    assert reached <= 7


def test_knowing_the_documents_does_not_help():
    """A probe that had seen tokens of the same texts would be right on nearly all of these."""
    accuracies = [
        probe(
            of_documents(16, 8, f"a{i}", 5.0), of_documents(16, 8, f"b{i}", 5.0), seed=i, permutations=0
        ).accuracy
        for i in range(10)
    ]
    # Ten probes on 8 documents each: a standard error of about 0.06.
    assert np.mean(accuracies) == pytest.approx(0.5, abs=0.15)


def test_alike_tasks_are_not_significant_and_the_same_seed_gives_the_same():
    a, b = of_documents(20, 5, "a"), of_documents(25, 4, "b")
    found = probe(a, b, seed=0, permutations=30)
    assert found.swaps.p > 0.05
    assert found.low < 0.5 < found.high
    assert found == probe(a, b, seed=0, permutations=30)
    assert found != probe(a, b, seed=1, permutations=30)


def test_too_few_documents_are_said():
    found = probe(of_documents(3, 30, "a"), of_documents(8, 5, "b"), seed=0)
    assert found.note == "each task needs 4 documents, but there are 3 and 8"
    assert found.accuracy is None
    assert probe(of_documents(4, 3, "a"), of_documents(4, 3, "b"), seed=0).documents == (2, 2)
