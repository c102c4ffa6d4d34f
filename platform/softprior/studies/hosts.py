"""The frozen model of a trial: its own, or that of replicas which serve all trials; see `replicas`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from softprior.assets.tokens import Tokenizer
from softprior.inputs.specs import ModelSpec

if TYPE_CHECKING:
    from softprior.models.hosted import HostedLM
    from softprior.models.protocol import FrozenLM


class SharedModel(NamedTuple):
    """What trials on shared replicas work with: they need neither the model's files nor its code."""

    host: HostedLM
    tokenizer: Tokenizer


class TrialHost(NamedTuple):
    """What a trial works with.

    Attributes:
        fingerprint: of weights and tokenizer.
    """

    host: FrozenLM
    tokenizer: Tokenizer
    fingerprint: str


@contextmanager
def host_of(model: ModelSpec, shared: SharedModel | None) -> Iterator[TrialHost]:
    """The model for one trial: this process's own, or a client of replicas that hold it.

    Raises:
        UserError: the model is not available.
    """
    if shared is None:
        from softprior.models.load import load_local

        yield TrialHost(*load_local(model))
        return
    with shared.host.joined() as client:
        yield TrialHost(client, shared.tokenizer, client.info().fingerprint)
