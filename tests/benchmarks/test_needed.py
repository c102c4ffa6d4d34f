"""What benchmarks count as needed is what PyTorch counts in a pass without pads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.needed import NOTHING, needed
from benchmarks.sides import plain
from softprior.inputs.specs import ModelSpec
from softprior.prompt import Place, Row, collate

LENGTH, FRONT = 11, 3
TEXT = collate([Row("a", list(range(LENGTH)), [True] * LENGTH, [True] * LENGTH)])


@pytest.fixture(scope="module")
def model() -> Any:
    return plain(ModelSpec(id="tiny", device="cpu")).requires_grad_(False)


def counted(model: Any, positions: int, *, backward: bool) -> int:
    """Operations that PyTorch counts in the products of a pass, those of attention apart."""
    states = torch.zeros(1, positions, model.config.hidden_size, requires_grad=backward)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        loss = model(inputs_embeds=states, use_cache=False).logits.sum()
        if backward:
            loss.backward()
    return counter.get_flop_counts()["Global"][torch.ops.aten.mm]


@pytest.mark.parametrize("backward", [False, True])
def test_products_are_those_of_a_pass(model: Any, backward: bool) -> None:
    found = needed(model, {}, [TEXT], backward=backward)
    assert found.tokens == LENGTH
    assert found.operations - found.attention == counted(model, LENGTH, backward=backward)


def test_vectors_in_front_are_positions_of_every_block_but_have_no_logits(model: Any) -> None:
    vectors = torch.zeros(FRONT, model.config.hidden_size)
    found = needed(model, {Place(0): vectors}, [TEXT])
    longer = counted(model, LENGTH + FRONT, backward=True)
    head = model.lm_head
    assert found.operations - found.attention == longer - 4 * FRONT * head.in_features * head.out_features
    seen = LENGTH + FRONT
    config = model.config
    one = 12 * config.num_attention_heads * config.head_dim * config.num_hidden_layers
    assert found.attention == one * seen * (seen + 1) / 2, (
        "every position attends to those before it and itself"
    )


def test_keys_and_values_are_attended_to_and_pass_through_no_block(model: Any) -> None:
    place = Place(model.config.num_hidden_layers - 1, kind="key")
    bare = needed(model, {}, [TEXT], backward=False)
    found = needed(model, {place: torch.zeros(FRONT, 1)}, [TEXT], backward=False)
    assert found.products == bare.products
    config = model.config
    assert (
        found.attention - bare.attention == 4 * LENGTH * FRONT * config.num_attention_heads * config.head_dim
    )


def test_vectors_that_stay_stand_beside_those_of_later_blocks(model: Any) -> None:
    first, last = Place(0), Place(model.config.num_hidden_layers - 1, after="cut")
    vectors = torch.zeros(FRONT, model.config.hidden_size)
    one, both = (
        needed(model, prompt, [TEXT]) for prompt in ({first: vectors}, {first: vectors, last: vectors})
    )
    linears = [m for m in model.model.layers[-1].modules() if isinstance(m, torch.nn.Linear)]
    more = sum(4 * FRONT * linear.in_features * linear.out_features for linear in linears)
    assert both.operations - both.attention == one.operations - one.attention + more


def test_what_is_kept_is_not_needed_again(model: Any) -> None:
    last = Place(model.config.num_hidden_layers - 1, kind="key")
    prompt = {last: torch.zeros(FRONT, 1)}
    whole, kept = (needed(model, prompt, [TEXT], kept=kept) for kept in (False, True))
    head = model.lm_head
    logits = 2 * LENGTH * head.in_features * head.out_features
    below = needed(model, {}, [TEXT], backward=False).operations - logits
    share = (model.config.num_hidden_layers - 1) / model.config.num_hidden_layers
    assert whole.operations - kept.operations == pytest.approx(share * below)


def test_batches_add_up(model: Any) -> None:
    one, two = needed(model, {}, [TEXT]), needed(model, {}, [TEXT, TEXT])
    assert one + one == two == NOTHING + two
    assert one.seconds() > 0
