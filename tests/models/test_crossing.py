"""What crosses between processes arrives as it was sent, tensors writable and in the CPU's memory."""

from __future__ import annotations

import pickle
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from softprior.models.crossing import as_arrays, as_tensors
from softprior.models.protocol import Losses, Request
from softprior.prompt import Batch, Place, Row, collate


def through(value: Any) -> Any:
    """By way of buffers that nobody may write to, as Ray hands them out."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(as_arrays(value), protocol=5, buffer_callback=buffers.append)
    return as_tensors(pickle.loads(text, buffers=[bytes(buffer) for buffer in buffers]))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6).reshape(2, 3).T,
        torch.tensor([True, False]),
        torch.tensor(0.5, dtype=torch.float64),
        torch.zeros(0, 3),
        torch.full((2,), float("nan")),
        torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        torch.ones(2, 2, requires_grad=True),
    ],
    ids=str,
)
def test_tensors_keep_type_shape_and_bits(tensor: torch.Tensor) -> None:
    found = through(tensor)
    assert not found.requires_grad
    torch.testing.assert_close(found, tensor.detach(), rtol=0, atol=0, equal_nan=True)
    found.zero_()


def test_requests_and_answers_keep_their_form() -> None:
    batch = collate([Row("one", [5, 6, 7], [False, True, True], [False, True, False])])
    request = Request(MappingProxyType({Place(0): torch.ones(2, 4)}), batch, True)
    found = through(request)
    assert isinstance(found, Request)
    assert isinstance(found.batch, Batch)
    assert found.batch.ids == ("one",)
    assert all(torch.equal(getattr(found.batch, name), getattr(batch, name)) for name in ("tokens", "labels"))
    assert list(found.prompt) == [Place(0)]
    one = torch.ones(1)
    losses = Losses(one, one.long(), one.long(), one.long(), {Place(0): torch.ones(2, 4)})
    assert isinstance(through(losses), Losses)
    assert through(losses._replace(gradient=None)).gradient is None
    assert through(("info", [], {"inverse": True})) == ("info", [], {"inverse": True})


def test_arrays_stay_arrays() -> None:
    assert isinstance(through([np.ones(2)])[0], np.ndarray)
