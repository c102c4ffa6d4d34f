"""Places by name, and batches by collation."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softprior.errors import UserError
from softprior.prompt import Batch, Place, Row, collate

PLACES = [
    Place(block, kind, after, stack)
    for block, kind, after, stack in itertools.product(
        (0, 7, 29, 100), ("residual", "key", "value"), ("keep", "cut"), ("decoder", "encoder")
    )
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_a_place_is_found_again_by_its_name(place):
    assert Place.parse(place.name) == place


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"after": "cutt"}, "Place: after = 'cutt' is not a choice; did you mean 'cut'"),
        ({"kind": "keys"}, "Place: kind = 'keys' is not a choice; did you mean 'key'"),
        ({"stack": None}, "Place: stack = None is not a choice; known: decoder, encoder"),
        ({"block": "0"}, "Place: block = '0': must be a whole number, such as 0"),
    ],
)
def test_a_misspelt_place_is_refused(given, sentence):
    with pytest.raises(UserError, match=sentence):
        Place(**{"block": 0, **given})


def test_names_are_frozen_and_all_different():
    """They stand in files: posteriors and checkpoints."""
    assert Place(0).name == "decoder.0.residual.keep"
    assert Place(27, after="cut").name == "decoder.27.residual.cut"
    assert Place(3, "key", "keep", "encoder").name == "encoder.3.key.keep"
    assert len({place.name for place in PLACES}) == len(PLACES)


@pytest.mark.parametrize(
    "name",
    [
        *["", "decoder", "decoder.0.residual", "decoder.0.residual.keep.x", "decoder.x.residual.keep"],
        *["decoder.-1.residual.keep", "decoder.007.residual.keep", "decoder.².residual.keep"],
        *[
            "decoder.٣.residual.keep",
            "decoder.0.residuals.keep",
            "decoder.0.residual.kept",
            "middle.0.key.cut",
        ],
        *["decoder.0\n.residual.keep", "decoder.0.residual.keep\n", "decoder..residual.keep"],
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=r"is not the name of a place, such as decoder\.0"):
        Place.parse(name)


def test_a_block_is_any_integer_but_no_truth_value():
    assert Place(np.int64(3), after="cut") == Place(3, after="cut")
    assert type(Place(np.int64(3)).block) is int
    for block in (True, np.True_, 1.0, "1", None):
        with pytest.raises(UserError, match="must be a whole number, such as 0"):
            Place(block)


def test_places_order_by_block():
    assert sorted([Place(29), Place(0, after="cut"), Place(3)]) == [
        Place(0, after="cut"),
        Place(3),
        Place(29),
    ]


rows = st.lists(
    st.lists(st.tuples(st.integers(0, 50_000), st.booleans(), st.booleans()), min_size=1, max_size=8).map(
        lambda columns: [list(column) for column in zip(*columns, strict=True)]
    ),
    min_size=1,
    max_size=5,
).map(lambda rows: [Row(f"row-{i}", *columns) for i, columns in enumerate(rows)])


@given(rows)
def test_collation_keeps_every_row_and_pads_with_nothing(rows):
    batch = collate(rows)
    longest = max(len(row.tokens) for row in rows)
    assert len(batch) == len(rows)
    assert batch.ids == tuple(row.id for row in rows)
    assert batch.lengths.tolist() == [len(row.tokens) for row in rows]
    assert batch.positions == sum(len(row.tokens) for row in rows)
    assert batch.weights.tolist() == [1.0] * len(rows)
    kinds = {"tokens": torch.int64, "labels": torch.bool, "scored": torch.bool}
    for name, kind in kinds.items():
        table = getattr(batch, name)
        assert table.dtype == kind
        assert table.shape == (len(rows), longest)
        for found, row in zip(table.tolist(), rows, strict=True):
            given = getattr(row, name)
            assert found[: len(given)] == given
            assert not any(found[len(given) :])


def test_weights_change_and_nothing_else():
    batch = collate([Row("a", [1, 2], [False, True], [False, True]), Row("b", [3], [False], [False])])
    other = batch.weighted(torch.tensor([0.25, 0.75]))
    assert other.weights.tolist() == [0.25, 0.75]
    assert batch.weights.tolist() == [1.0, 1.0]
    for name in set(Batch.__dataclass_fields__) - {"weights"}:
        assert getattr(other, name) is getattr(batch, name)
