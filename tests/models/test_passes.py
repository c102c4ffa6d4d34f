"""Which losses share a pass."""

from collections import Counter
from itertools import combinations, pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from softprior import liveness
from softprior.models.passes import in_passes, one_batch, passes, positions, shape, some_rows
from softprior.models.protocol import Losses, Request
from softprior.prompt import Place, Row, collate


def request(lengths: list[int], vectors: int = 2, block: int = 0, grad: bool = True) -> Request:
    rows = [Row(f"{i}", list(range(n)), [False] * n, [False] * n) for i, n in enumerate(lengths)]
    prompt = {Place(block, after="cut"): torch.zeros(vectors, 3)} if vectors else None
    return Request(prompt, collate(rows), grad)


requests = st.lists(
    st.builds(
        request,
        st.lists(st.integers(1, 9), min_size=1, max_size=4),
        st.integers(0, 2),
        st.integers(0, 1),
        st.booleans(),
    ),
    max_size=6,
)


@given(requests, st.none() | st.integers(1, 40))
def test_every_row_is_in_one_pass_of_its_shape_within_the_budget(requests, tokens):
    laid = passes(requests, tokens)
    rows = Counter((piece.request, row) for one in laid for piece in one for row in range(*piece.rows))
    assert rows == Counter((i, row) for i, r in enumerate(requests) for row in range(len(r.batch)))
    for one in laid:
        assert len({shape(requests[piece.request]) for piece in one}) == 1
        assert len({piece.request for piece in one}) == len(one)
        parts = [
            requests[p.request]._replace(batch=some_rows(requests[p.request].batch, p.rows)) for p in one
        ]
        used = sum(positions(part) for part in parts)
        alone = len(parts) == 1 and len(parts[0].batch) == 1
        assert tokens is None or used <= tokens or alone
    if tokens is None:
        assert len(laid) == len({shape(request) for request in requests})


def test_a_request_is_cut_only_if_it_is_too_large_for_a_pass():
    requests = [request([5, 5]), request([6]), request([4, 4])]
    assert [[tuple(piece) for piece in one] for one in passes(requests, 20)] == [
        [(0, (0, 2)), (1, (0, 1))],
        [(2, (0, 2))],
    ]
    assert [[tuple(piece) for piece in one] for one in passes(requests, 8)] == [
        [(0, (0, 1))],
        [(0, (1, 2))],
        [(1, (0, 1))],
        [(2, (0, 1))],
        [(2, (1, 2))],
    ]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.integers(0, 2), st.integers(1, 30))
def test_a_request_is_cut_into_as_few_passes_as_possible_and_these_are_as_equal_as_possible(
    lengths, vectors, tokens
):
    """Against all ways to cut it; a row alone may be longer than a pass."""
    known = [
        [lengths[first:last] for first, last in pairwise((0, *cuts, len(lengths)))]
        for number in range(len(lengths))
        for cuts in combinations(range(1, len(lengths)), number)
    ]
    fitting = [runs for runs in known if all(len(run) == 1 or sum(run) + vectors <= tokens for run in runs)]
    best = min((len(runs), sum((sum(run) + vectors) ** 2 for run in runs)) for runs in fitting)
    laid = passes([request(lengths, vectors)], tokens)
    found = [sum(lengths[slice(*piece.rows)]) + vectors for (piece,) in laid]
    assert (len(found), sum(used**2 for used in found)) == best


def test_each_pass_is_a_sign_of_life():
    signs: list[float] = []

    def together(parts: list[Request]) -> list[Losses]:
        signs.append(liveness._last)
        zeros = [torch.zeros(len(part.batch)) for part in parts]
        return [Losses(rows, rows, rows, rows, None) for rows in zeros]

    (found,) = in_passes(together, [request([5, 5, 5])], 8)
    assert len(found.nll) == 3
    assert signs[0] < signs[1] < signs[2]


def test_prompts_that_differ_in_places_or_gradient_never_share_a_pass():
    kinds = [request([3]), request([3], vectors=1), request([3], block=1), request([3], grad=False)]
    assert len(passes(kinds)) == 4
    assert len(passes([request([3]), request([2, 9])])) == 1


def test_batches_joined_and_parted_again_are_the_same():
    batches = [request([5, 2]).batch, request([7]).batch]
    joined = one_batch(batches)
    assert joined.tokens.shape == (3, 7)
    for batch, rows in zip(batches, [(0, 2), (2, 3)], strict=True):
        part = some_rows(joined, rows)
        assert part.ids == batch.ids
        width = batch.tokens.shape[1]
        for name in ("tokens", "labels", "scored"):
            assert torch.equal(getattr(part, name)[:, :width], getattr(batch, name))
            assert not getattr(part, name)[:, width:].any()
        for name in ("lengths", "weights"):
            assert torch.equal(getattr(part, name), getattr(batch, name))
    assert one_batch(batches[:1]) is batches[0]
