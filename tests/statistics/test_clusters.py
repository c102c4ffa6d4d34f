"""Kernel distances against literal double loops, and what they say about known distributions."""

import dataclasses
import math
from itertools import combinations

import numpy as np
import pytest
import torch

from softprior.seeding import numpy_generator, torch_generator
from softprior.statistics.clusters import nearest_tasks, separation
from softprior.statistics.gaussian_kernel import gaussian_kernel, mmd2
from softprior.statistics.points import Points, matched


def draws(count: int, name: str, dimension: int = 5, offset: float = 0.0) -> torch.Tensor:
    return torch.randn(count, dimension, generator=torch_generator(0, name, count)) + offset


def points(vectors: torch.Tensor, documents: int, name: str = "points") -> Points:
    """Tokens of documents of unequal lengths; every document has some."""
    count = len(vectors)
    generator = numpy_generator(0, name, count)
    numbers = np.concatenate([np.arange(documents), generator.integers(0, documents, count - documents)])
    return Points(vectors, torch.from_numpy(numbers), torch.from_numpy(generator.integers(0, 90, count)))


def of_documents(documents: int, tokens: int, name: str, spread: float, offset: float = 0.0) -> Points:
    """Documents with a centre of their own, `spread` times as wide as their tokens lie around it."""
    centres = spread * draws(documents, f"{name} centres").repeat_interleave(tokens, 0)
    numbers = torch.arange(documents).repeat_interleave(tokens)
    vectors = centres + draws(documents * tokens, f"{name} tokens") + offset
    return Points(vectors, numbers, torch.arange(tokens).repeat(documents))


def literal(x, y, bandwidth=None, x_documents=None, y_documents=None) -> float:
    """Gretton et al. 2012, eq. 3, pair by pair; pairs within a document are left out."""
    x, y = x.double().numpy(), y.double().numpy()
    x_documents = range(len(x)) if x_documents is None else x_documents
    y_documents = range(len(y)) if y_documents is None else y_documents
    if bandwidth is None:
        distances = [np.linalg.norm(p - q) for p, q in combinations(np.concatenate([x, y]), 2)]
        bandwidth = np.median([distance for distance in distances if distance > 0])

    def kernel(p, q):
        return math.exp(-np.sum((p - q) ** 2) / (2 * bandwidth**2))

    def within(points, documents):
        values = []
        for i, p in enumerate(points):
            for j, q in enumerate(points):
                if documents[i] != documents[j]:
                    values.append(kernel(p, q))
        return np.mean(values)

    across = np.mean([kernel(p, q) for p in x for q in y])
    return within(x, x_documents) + within(y, y_documents) - 2 * across


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("sizes", [(4, 4), (9, 4), (12, 13)])
def test_with_a_token_a_document_the_separation_is_the_double_loop(offset, sizes):
    x, y = draws(sizes[0], "x", offset=offset), draws(sizes[1], "y", offset=offset + 0.4)
    found = separation(points(x, sizes[0]), points(y, sizes[1]), seed=0)
    assert found.between == pytest.approx(literal(x, y), abs=1e-10)


def test_equal_points_do_not_decide_the_bandwidth():
    vectors = torch.cat([draws(3, "x"), draws(1, "x").repeat(12, 1), draws(4, "y")]).double() + 1e3
    kernel, bandwidth = gaussian_kernel(vectors.numpy())
    distances = [np.linalg.norm(p - q) for p, q in combinations(vectors.numpy(), 2)]
    assert bandwidth == pytest.approx(np.median([distance for distance in distances if distance > 0]))
    assert kernel[0, 18] == pytest.approx(math.exp(-(distances[17] ** 2) / (2 * bandwidth**2)))
    assert math.isnan(gaussian_kernel(np.ones((4, 3)))[1])


def test_pairs_within_a_document_are_left_out():
    a, b = points(draws(20, "a"), 6), points(draws(15, "b", offset=0.5), 5)
    expected = literal(a.vectors, b.vectors, None, a.documents.tolist(), b.documents.tolist())
    assert separation(a, b, seed=0).between == pytest.approx(expected, abs=1e-10)
    # Document numbers are names within a task: those of `a` are also in `b`.
    renamed = dataclasses.replace(b, documents=b.documents * 10**15 - 5)
    assert separation(a, renamed, seed=0).between == pytest.approx(expected, abs=1e-10)


def test_copies_of_a_document_are_one_document():
    """A resample's weights against the double loop over the copies."""
    a, b = points(draws(12, "a"), 4), points(draws(9, "b"), 4)
    vectors = torch.cat([a.vectors, b.vectors]).double()
    kernel = torch.exp(-(torch.cdist(vectors, vectors) ** 2) / 8).numpy()
    numbers = torch.cat([a.documents, b.documents + 4]).numpy()
    member = (numbers == np.arange(8)[:, None]).astype(float)
    first = np.array([[2, 0, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0, 0, 0]]).T
    second = np.array([[0, 0, 0, 0, 1, 3, 0, 0], [0, 0, 0, 0, 0, 2, 2, 0], [0, 0, 0, 0, 1, 1, 1, 1]]).T
    found = mmd2(member @ kernel @ member.T, member.sum(1), first * 1.0, second * 1.0)
    for r in range(2):
        one, other = (np.repeat(np.arange(21), weights[:, r][numbers]) for weights in (first, second))
        expected = literal(vectors[one], vectors[other], 2.0, numbers[one], numbers[other])
        assert found[r] == pytest.approx(expected, abs=1e-10)
    assert math.isnan(found[2])


def test_resamples_without_a_pair_of_documents_are_left_out():
    """One document, however often: its own sum and the rounding of it are all that is there."""
    sizes = np.array([3.0, 2.0, 5.0])
    sums = np.diag([0.1 + 0.2, 1 / 3, 0.7]) + 0.01
    first, second = np.eye(3)[:, [0, 1, 2]] * 3, np.eye(3)[:, [1, 2, 0]] + np.eye(3)[:, [2, 0, 1]]
    assert np.isnan(mmd2(sums, sizes, first, second)).all()


def test_tasks_apart_and_tasks_alike():
    a, alike = of_documents(40, 6, "a", 1.0), of_documents(30, 8, "alike", 1.0)
    far = of_documents(30, 8, "far", 1.0, offset=1.5)
    apart, same = separation(a, far, seed=0), separation(a, alike, seed=0)
    assert apart.ratio > 10
    assert 0 < apart.low < apart.between < apart.high < 2
    assert abs(same.ratio) < 2
    assert same.low < 0.02
    for found in (apart, same):
        assert (found.tokens, found.documents, found.note) == ((240, 240), (40, 30), "")
        assert abs(found.within) < found.scale
        assert found.ratio == pytest.approx(found.between / found.scale)
        assert found.excess == pytest.approx((found.between - found.within) / found.scale)
        assert (found.ratio_low, found.ratio_high) == pytest.approx(
            (found.low / found.scale, found.high / found.scale)
        )


def test_the_order_of_tokens_is_of_no_consequence():
    a, b = of_documents(10, 4, "a", 1.0), of_documents(12, 4, "b", 1.0, 0.5)
    shuffled = a.take(numpy_generator(0).permutation(40))
    one, other = (separation(some, b, seed=3).model_dump() for some in (a, shuffled))
    for name in set(one) - {"note"}:
        assert other[name] == pytest.approx(one[name], rel=1e-9, abs=1e-12)
    assert one != separation(a, b, seed=4).model_dump()


def test_what_cannot_be_compared_is_said():
    few = of_documents(3, 20, "few", 1.0)
    found = separation(few, of_documents(9, 4, "a", 1.0), seed=0)
    assert found.note == "each task needs 4 documents, but there are 3 and 9"
    assert found.between is None
    equal = points(torch.ones(20, 3), 5)
    assert separation(equal, equal, seed=0).note == "all vectors are equal"


def test_a_task_without_spread_has_no_ratio():
    found = separation(points(torch.zeros(20, 3), 5), points(torch.ones(20, 3), 5), seed=0)
    assert found.between == pytest.approx(2 - 2 * math.exp(-0.5))  # the bandwidth is their distance
    assert found.ratio is None
    assert found.note == "halves of one task do not differ, so there is no ratio"


def three(name: str, offsets: tuple[float, float, float]) -> dict[str, Points]:
    """Tasks with different numbers of tokens per document, offset from a common distribution."""
    shapes = ((30, 3), (20, 6), (40, 3))
    return {
        task: of_documents(*shape, f"{name} {task}", 0.5, offset)
        for task, shape, offset in zip("abc", shapes, offsets, strict=True)
    }


def test_the_nearest_pair_is_found_on_one_kernel():
    tasks = three("found", (0.0, 1.0, 1.2))
    found = nearest_tasks(tasks, seed=0, resamples=399)
    assert found.pairs == ("a / b", "a / c", "b / c")
    assert found.nearest == "b / c"
    assert found.p == pytest.approx(2 / 400)
    assert 0 < found.low < found.margin < found.high
    assert found.margin == pytest.approx(sorted(found.between)[1] - min(found.between))
    used = [own.vectors for own in matched(list(tasks.values()), 0)]
    _, bandwidth = gaussian_kernel(torch.cat(used).numpy())
    numbers = [own.documents.tolist() for own in matched(list(tasks.values()), 0)]
    expected = literal(used[0], used[1], bandwidth, numbers[0], numbers[1])
    assert found.between[0] == pytest.approx(expected, abs=1e-10)
    few = nearest_tasks({**tasks, "c": of_documents(3, 5, "few", 1.0)}, seed=0)
    assert few.note == "each task needs 4 documents at the positions of all, but one has 3"


def test_two_pairs_that_are_equally_near_are_rarely_told_apart():
    """`b` lies half way; the level here is 10%."""
    reached = sum(
        nearest_tasks(three(f"equal {trial}", (-0.7, 0.0, 0.7)), seed=trial, resamples=199).p <= 0.1
        for trial in range(40)
    )
    assert reached <= 9
