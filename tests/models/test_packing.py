"""The index arithmetic of packed rows, and who sees whom."""

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from softprior.models import causal_chunks, packing
from softprior.models.causal_chunks import MOST, chunks_of
from softprior.models.packing import UNWRITTEN, Cache, RowPass, Rows, attend, running

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)
windows = st.one_of(st.none(), st.integers(1, 8))
sizes = st.one_of(st.none(), st.integers(1, 4))
# A deadline would be a limit on wall-clock time, which says nothing on a shared machine.
untimed = settings(deadline=None, max_examples=60)


@untimed
@given(lengths)
def test_padding_and_unpadding_are_inverse(lengths):
    rows = Rows.of(torch.tensor(lengths))
    packed = torch.arange(sum(lengths)) + 100
    padded = packed[rows.pad].view(len(lengths), max(lengths))
    assert (rows.count, rows.longest) == (len(lengths), max(lengths))
    assert torch.equal(padded.flatten()[rows.unpad], packed)
    start = 100
    for row, length in enumerate(lengths):
        assert padded[row, :length].tolist() == list(range(start, start + length))
        # Pads repeat a token of their own row: no other row is read, even where it is masked.
        assert set(padded[row].tolist()) == set(range(start, start + length))
        start += length


@untimed
@given(lengths, st.integers(0, 5), windows)
def test_a_mask_shows_the_front_and_the_past_within_the_window(lengths, front, window):
    current = RowPass(Rows.of(torch.tensor(lengths)), kept=front)
    mask = current.mask(front + max(lengths), front, window)
    assert mask.shape == (max(lengths), front + max(lengths))
    for query in range(max(lengths)):
        for key in range(front + max(lengths)):
            back = front + query - key
            assert bool(mask[query, key]) == (back >= 0 and (window is None or back < window))
    assert current.mask(front + max(lengths), front, window) is mask
    added = current.mask(front + max(lengths), front, window, torch.float32)
    assert torch.equal(added, torch.zeros(mask.shape).masked_fill(~mask, -torch.inf))


def naive(query, key, value, window, scaling, softcap):
    """Attention of one row, number by number, in double precision."""
    heads, count, width = query.shape
    groups = heads // key.shape[0]
    out = torch.zeros(count, heads, width, dtype=torch.double)
    for head in range(heads):
        for i in range(count):
            seen = [j for j in range(i + 1) if window is None or i - j < window]
            scores = torch.stack([query[head, i] @ key[head // groups, j] for j in seen]).double() * scaling
            if softcap is not None:
                scores = softcap * torch.tanh(scores / softcap)
            out[i, head] = scores.softmax(0) @ value[head // groups, seen].double()
    return out


@pytest.mark.parametrize(("device", "heads"), [("cpu", 2), ("meta", 4)])
def test_grouped_keys_are_repeated_elsewhere_than_on_cpus(device, heads, monkeypatch):
    seen, kernel = [], packing.functional.scaled_dot_product_attention

    def spied(query, key, value, **how):
        seen.append((key.shape[1], value.shape[1], how["enable_gqa"]))
        return kernel(query, key, value, **how)

    monkeypatch.setattr(packing.functional, "scaled_dot_product_attention", spied)
    q, k = (torch.zeros(1, number, 3, 4, device=device) for number in (4, 2))
    packing._Attention(None, None, None)(q, k, k, None)
    assert seen == [(heads, heads, device == "cpu")]


@contextmanager
def chunked(size, most=MOST):
    """Has chunks of `size` queries, or of more if a row then had too many; None for a single call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(causal_chunks, "LEAST", size)
        patch.setattr(causal_chunks, "MOST", most)
        yield


def states(heads, count):
    return torch.randn(1, heads, count, 4)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.integers(0, 2),
    st.integers(0, 3),
    windows,
    st.sampled_from([None, 1.5]),
    sizes,
)
def test_packed_attention_is_that_of_each_row_alone(lengths, kept, cut, window, softcap, size):
    torch.manual_seed(sum(lengths))
    block = torch.nn.Module()
    block.layer_idx = 3
    front, total = kept + cut, kept + cut + sum(lengths)
    q, k, v = states(4, total), states(2, total), states(2, total)
    current = RowPass(Rows.of(torch.tensor(lengths)), kept=kept, cut={3: cut}, ragged=size is not None)
    with running(current), chunked(size, most=3):
        found, _ = attend(block, q, k, v, None, scaling=0.5, sliding_window=window, softcap=softcap)
        assert (current.chunks is None) == (size is None or max(lengths) <= size)
    start = front
    for length in lengths:
        alone = [*range(front), *range(start, start + length)]
        expected = naive(q[0][:, alone], k[0][:, alone], v[0][:, alone], window, 0.5, softcap)
        # float32 against double precision, numbers of the size of 1.
        torch.testing.assert_close(found[0, alone].double(), expected, rtol=0, atol=1e-5)
        start += length


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(0, 3), windows, sizes)
def test_decoding_steps_give_what_one_pass_over_the_longer_rows_gives(lengths, front, window, size):
    torch.manual_seed(sum(lengths))
    block = torch.nn.Module()
    block.layer_idx = 0
    new, count = 3, len(lengths)
    whole = [length + new for length in lengths]
    q, k, v = (states(heads, front + sum(whole)) for heads in (4, 2, 2))
    with running(RowPass(Rows.of(torch.tensor(whole)), kept=front)):
        expected, _ = attend(block, q, k, v, None, sliding_window=window)

    starts = [front + sum(whole[:row]) for row in range(count)]
    texts = [start + i for start, n in zip(starts, lengths, strict=True) for i in range(n)]
    first = [*range(front), *texts]
    cache = Cache()
    prefill = RowPass(
        Rows.of(torch.tensor(lengths)), kept=front, cache=cache, room=new, ragged=size is not None
    )
    with running(prefill), chunked(size):
        attend(block, q[:, :, first], k[:, :, first], v[:, :, first], None, sliding_window=window)
    assert bool((cache.positions[0][:, -new:] == UNWRITTEN).all())

    active = torch.arange(count)
    for step in range(new):
        if step == 1 and count > 1:  # a row that has ended leaves, and the others are undisturbed
            active = active[1:]
            cache.select(torch.arange(1, count))
        now = torch.tensor(lengths)[active] + step
        at = torch.tensor(starts)[active] + now
        with running(RowPass(None, cache=cache, room=new - step, now=now)):
            found, _ = attend(block, q[:, :, at], k[:, :, at], v[:, :, at], None, sliding_window=window)
        # float32, numbers of the size of 1 summed in another order.
        torch.testing.assert_close(found[0], expected[0, at], rtol=0, atol=1e-5)


@untimed
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 9), st.integers(1, 5))
def test_each_token_is_in_one_chunk_of_rows_that_reach_it(lengths, size, most):
    rows = Rows.of(torch.tensor(lengths))
    with chunked(size, most):
        chunks = chunks_of(rows.lengths, rows.pad)
    if max(lengths) <= size:
        assert chunks is None
        return
    assert len(chunks.parts) <= most or max(lengths) <= size * most
    packed = chunks.pad.view(len(lengths), max(lengths))
    outputs = torch.cat([packed[:rows, first:last].flatten() for rows, first, last in chunks.parts])
    assert torch.equal(outputs[chunks.back], torch.arange(sum(lengths)))
    assert all(bool((packed[:n, a] != packed[:n, a - 1]).all()) for n, a, _ in chunks.parts if a)


@pytest.mark.parametrize(
    "beside", [{"attention_mask": torch.zeros(1)}, {"dropout": 0.1}, {"position_bias": object()}]
)
def test_what_packed_attention_does_not_have_is_never_ignored(beside):
    block = torch.nn.Module()
    block.layer_idx = 0
    arguments = {"attention_mask": None, **beside}
    with running(RowPass(Rows.of(torch.tensor([2])))), pytest.raises(RuntimeError, match="not support this"):
        attend(block, states(2, 2), states(2, 2), states(2, 2), **arguments)


def test_attention_outside_of_a_pass_is_refused():
    block = torch.nn.Module()
    block.layer_idx = 0
    with pytest.raises(RuntimeError, match="no pass"):
        attend(block, states(2, 2), states(2, 2), states(2, 2), None)
