"""The sample against sorting everything by key; the hash against its literal form and for uniformity."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from softprior.seeding import derive
from softprior.statistics.keyed_sample import KeyedSample, hash_keys


def rows(documents: int, length: int, seed: int = 0) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    """Keys and columns of documents of one length; the vectors say where they stood."""
    names = np.repeat([derive(0, "document", i) for i in range(documents)], length)
    positions = np.tile(np.arange(length), documents)
    index = torch.arange(len(names))
    columns = {
        "vectors": torch.stack([index, index + 0.5], 1).float(),
        "token": index % 7,
        "position": torch.from_numpy(positions),
        "document": torch.from_numpy(names),
    }
    return hash_keys(seed, names, positions), columns


def pick(columns: dict[str, torch.Tensor], chosen) -> dict[str, torch.Tensor]:
    return {name: column[chosen] for name, column in columns.items()}


def sampled(size: int, keys: np.ndarray, columns: dict[str, torch.Tensor]) -> KeyedSample:
    result = KeyedSample(size)
    result.add(keys, columns)
    return result


def same(one: KeyedSample, two: KeyedSample) -> bool:
    found, expected = one.tensors("x"), two.tensors("x")
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def literal_mix(word: int) -> int:
    """splitmix64 in Python's integers, as published."""
    word = (word + 0x9E3779B97F4A7C15) % 2**64
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % 2**64
    return word ^ (word >> 31)


def test_hashes_equal_their_literal_form():
    assert literal_mix(0) == 0xE220A8397B1DCDAF  # the generator's published first output at seed 0
    documents = np.array([0, 1, derive(0, "a"), 2**63 - 1])
    positions = np.array([0, 5, 17, 2**40])
    start = literal_mix(derive(3, "keyed sample"))
    expected = [
        literal_mix(literal_mix(start ^ d) ^ literal_mix(p))
        for d, p in zip(documents.tolist(), positions.tolist(), strict=True)
    ]
    found = hash_keys(3, documents, positions)
    assert found.dtype == np.int64
    assert [key % 2**64 for key in found.tolist()] == expected


def test_hashes_differ_by_seed_document_and_position():
    keys, _ = rows(300, 200)
    assert len(np.unique(keys)) == len(keys)
    assert not np.isin(rows(300, 200, seed=1)[0], keys).any()


def test_hashes_are_uniform_and_do_not_follow_position_or_document():
    keys, columns = rows(500, 200)
    share = (keys.view(np.uint64) ^ np.uint64(2**63)) / 2.0**64  # in the order of signed integers
    assert scipy.stats.kstest(share, "uniform").pvalue > 0.01
    for part in (columns["position"].numpy(), columns["document"].numpy(), np.arange(len(keys)) // 200):
        assert scipy.stats.spearmanr(part, share).pvalue > 0.01
    for bit in range(64):
        ones = int(((keys.view(np.uint64) >> np.uint64(bit)) & np.uint64(1)).sum())
        assert scipy.stats.binomtest(ones, len(keys)).pvalue > 1e-4


def test_every_row_is_sampled_equally_often():
    """Over 4000 seeds, 10 of 40 rows each: counts of rows against the uniform distribution, chi-square."""
    counts = np.zeros(40)
    for seed in range(4000):
        keys, columns = rows(4, 10, seed)
        chosen = sampled(10, keys, columns).columns["vectors"][:, 0].long().numpy()
        counts[chosen] += 1
    # Drawing 10 of 40 without replacement makes counts vary less than multinomial ones, by 30 of 39.
    statistic = float(((counts - 1000) ** 2 / 1000).sum()) * 39 / 30
    assert 0.01 < scipy.stats.chi2.sf(statistic, 39) < 0.99


@pytest.mark.parametrize("size", [1, 7, 60, 1000])
def test_the_sample_is_the_rows_with_the_smallest_keys(size):
    keys, columns = rows(6, 10)
    found = sampled(size, keys, columns)
    order = np.argsort(keys)[:size]
    assert len(found) == min(size, 60)
    assert (found.keys == keys[order]).all()
    expected = pick(columns, torch.from_numpy(order))
    assert all(torch.equal(found.columns[name], column) for name, column in expected.items())
    assert all(found.columns[name].dtype == column.dtype for name, column in columns.items())


@given(
    st.integers(1, 30),
    st.lists(st.integers(0, 25), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_any_split_order_and_tree_with_rows_met_twice_gives_the_whole(size, cuts, random):
    keys, columns = rows(5, 12)
    order = list(range(60))
    random.shuffle(order)
    order += order[:13]
    bounds = sorted({0, 73, *(cut for cut in np.cumsum(cuts).tolist() if cut < 73)})
    blocks = [torch.tensor(order[a:b]) for a, b in pairwise(bounds)]
    whole = sampled(size, keys, columns)

    one_by_one = KeyedSample(size)
    for block in blocks:
        one_by_one.add(keys[block.numpy()], pick(columns, block))
    assert same(one_by_one, whole)

    parts = [sampled(size, keys[block.numpy()], pick(columns, block)) for block in blocks]
    parts.append(KeyedSample(size))
    random.shuffle(parts)
    while len(parts) > 1:
        i = random.randrange(len(parts) - 1)
        parts[i].merge(parts.pop(i + 1))
    assert same(parts[0], whole)


def test_merging_leaves_the_other_alone_and_copies_are_copies():
    keys, columns = rows(6, 10)
    one, two = (
        sampled(8, keys[:30], pick(columns, slice(30))),
        sampled(8, keys[30:], pick(columns, slice(30, 60))),
    )
    before = two.tensors("x")
    one.merge(two)
    taken = one.columns
    taken["token"].fill_(-1)
    one.keys.fill(0)
    assert same(one, sampled(8, keys, columns))
    assert all(torch.equal(before[name], tensor) for name, tensor in two.tensors("x").items())


@pytest.mark.parametrize("size", [5, 100])
def test_tensors_go_through_a_file_and_on(size):
    keys, columns = rows(6, 10)
    found = sampled(size, keys[:30], pick(columns, slice(30)))
    tensors = load(save(found.tensors("all/sample") | {"all/mean": torch.zeros(2)}))
    again = KeyedSample.from_tensors(tensors, "all/sample", size)
    assert same(again, found)
    again.add(keys[30:], pick(columns, slice(30, 60)))
    assert same(again, sampled(size, keys, columns))
    assert len(KeyedSample.from_tensors(KeyedSample(3).tensors("x"), "x", 3)) == 0


def test_what_would_not_merge_exactly_is_refused():
    keys, columns = rows(2, 10)
    found = sampled(5, keys, columns)
    copy = sampled(5, keys, columns)
    with pytest.raises(ValueError, match="samples of one size merge exactly, got 5 and 6"):
        found.merge(sampled(6, keys, columns))
    with pytest.raises(ValueError, match="a row for each of the 19 keys"):
        found.add(keys[1:], columns)
    with pytest.raises(ValueError, match="as in the first call"):
        found.add(keys, {"token": columns["token"]})
    with pytest.raises(ValueError, match="as in the first call"):
        found.add(keys, columns | {"vectors": columns["vectors"].double()})
    with pytest.raises(ValueError, match="at least one row, got a size of 0"):
        KeyedSample(0)
    assert same(found, copy)
