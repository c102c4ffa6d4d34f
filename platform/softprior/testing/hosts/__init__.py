"""The contract of model hosts: what every `FrozenLM` promises, held against the literal form.

A host is checked together with an oracle: the same weights in a plain transformers model on the CPU,
loaded with `attn_implementation="eager"`, of the host's dtype. Give both a model of at least four
blocks (two, where prompts stand before an encoder), and windows (if it has any) shorter than the texts
of `examples`, so that every window is reached. The suite is for float32 and float64: rounding to fewer
bits would hide the mistakes it looks for.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from softprior.models.protocol import FrozenLM
from softprior.prompt import Stack
from softprior.testing.hosts.attention import check_attention, check_no_attention
from softprior.testing.hosts.behind import (
    check_behind_the_first_token,
    check_nothing_behind_the_first_token,
)
from softprior.testing.hosts.closeness import CLOSE
from softprior.testing.hosts.comparison import check_comparison
from softprior.testing.hosts.examples import LENGTHS, MAX_NEW, example_batch, example_prompts
from softprior.testing.hosts.generation import (
    check_generation,
    check_generation_agrees_with_loss,
    check_stop,
)
from softprior.testing.hosts.gradients import check_finite_differences, check_gradients, check_weights
from softprior.testing.hosts.keys import (
    check_key_sites,
    check_no_keys,
    check_prefix_of_a_text,
    check_projections,
)
from softprior.testing.hosts.losses import check_labels, check_losses
from softprior.testing.hosts.padding import check_padding_and_order
from softprior.testing.hosts.recorder import Recorder
from softprior.testing.hosts.refusals import check_refusals
from softprior.testing.hosts.several import check_several
from softprior.testing.hosts.sizes import check_embed, check_info, check_normalise
from softprior.testing.hosts.states import check_no_prompt_states, check_prompt_states, check_states

__all__ = [
    "CHECKS",
    "CLOSE",
    "LENGTHS",
    "MAX_NEW",
    "PASSED_ON",
    "Recorder",
    "check_attention",
    "check_behind_the_first_token",
    "check_comparison",
    "check_embed",
    "check_finite_differences",
    "check_generation",
    "check_generation_agrees_with_loss",
    "check_gradients",
    "check_host",
    "check_info",
    "check_key_sites",
    "check_labels",
    "check_losses",
    "check_no_attention",
    "check_no_keys",
    "check_no_prompt_states",
    "check_normalise",
    "check_nothing_behind_the_first_token",
    "check_padding_and_order",
    "check_prefix_of_a_text",
    "check_projections",
    "check_prompt_states",
    "check_refusals",
    "check_several",
    "check_states",
    "check_stop",
    "check_weights",
    "example_batch",
    "example_prompts",
]

_Check = Callable[[FrozenLM, nn.Module], None]

_ANY: tuple[_Check, ...] = (
    check_info,
    check_embed,
    check_normalise,
    check_losses,
    check_gradients,
    check_padding_and_order,
    check_weights,
    check_several,
    check_labels,
    check_generation,
    check_stop,
    check_generation_agrees_with_loss,
    check_comparison,
    check_states,
    check_refusals,
)

CHECKS: dict[Stack, tuple[_Check, ...]] = {
    "decoder": (
        *_ANY,
        check_attention,
        check_behind_the_first_token,
        check_prompt_states,
        check_projections,
        check_key_sites,
        check_prefix_of_a_text,
    ),
    "encoder": (
        *_ANY,
        check_no_attention,
        check_no_keys,
        check_no_prompt_states,
        check_nothing_behind_the_first_token,
    ),
}
"""The suite for a host of any dtype, by the stack where its prompts stand; `check_finite_differences`
comes on top for float64."""


ON_EACH_TOKEN = (check_padding_and_order, check_labels)
"""Checks that take as long as all others together; only a host that runs the model itself can fail them."""

PASSED_ON: dict[Stack, tuple[_Check, ...]] = {
    stack: tuple(check for check in checks if check not in ON_EACH_TOKEN) for stack, checks in CHECKS.items()
}
"""The suite for a host that passes requests on to one that has passed all of it."""


def check_host(host: FrozenLM, oracle: nn.Module) -> None:
    """Runs the whole suite.

    Raises:
        AssertionError: the host breaks its contract.
    """
    for check in CHECKS[host.info().stack]:
        check(host, oracle)
    if host.info().dtype == "float64":
        check_finite_differences(host)
