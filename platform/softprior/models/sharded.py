"""The sharded host: a model too large for one device, held by several ranks in equal shares (ZeRO-3).

The host itself holds no weights. Every request goes to all ranks, as they gather each layer's weights
from one another; the rows of a batch are split among them, so each computes its part of the answer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.assets.architecture import architecture
from softprior.assets.models import resolve_model
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.models.anchor import first_token, stands_behind
from softprior.models.crossing import detached
from softprior.models.load import device_of
from softprior.models.passes import in_passes
from softprior.models.protocol import (
    Attention,
    Comparison,
    Losses,
    ModelInfo,
    Request,
    StatisticT,
    Where,
)
from softprior.models.rank_group import Call, Limits, Processes, Ranks, Transport
from softprior.models.rank_process import Job, Memory
from softprior.prompt import Batch, Place, Prompt


class Share(NamedTuple):
    """A rank's part of a batch.

    Attributes:
        rows: rows of the whole batch, in the order of `batch`.
        batch: these rows; if there are none, a dummy row, so that the rank keeps step.
    """

    rows: Int[Tensor, "R"]
    batch: Batch


def dealt_to_ranks(batch: Batch, ranks: int, *prompts: Prompt | None, first: int = 0) -> list[Share]:
    """Deals rows to ranks, longest first and back and forth, so that all ranks get about as many tokens.

    Args:
        prompts: those that the rows will see.
        first: the rank that is dealt the longest row, counted cyclically.

    Raises:
        ValueError: no host accepts the batch, which only some of the ranks would notice.
        UserError: no host accepts it with such a prompt.
    """
    behind = any(map(stands_behind, prompts))
    if behind:
        first_token(batch)
    if bool(batch.labels[:, 0].any()):
        raise ValueError("the first token of a row cannot be a label: nothing of the text predicts it")
    order = batch.lengths.argsort(descending=True, stable=True).tolist()
    hands: list[list[int]] = [[] for _ in range(ranks)]
    for turn in range(0, len(order), ranks):
        dealt = order[turn : turn + ranks]
        back = (turn // ranks) % 2 == 1
        for hand, row in zip(reversed(hands) if back else hands, dealt, strict=False):
            hand.append(row)
    # A prompt behind the first token of the dummy row needs a text behind it, too.
    return [_share(batch, sorted(hands[(rank - first) % ranks]), 1 + behind) for rank in range(ranks)]


def _share(batch: Batch, rows: list[int], dummy: int) -> Share:
    """The rows of a rank, or a row of `dummy` tokens without a label."""
    if not rows:
        tokens = batch.tokens[:1, :dummy]
        length, nothing = batch.lengths.new_tensor([dummy]), torch.zeros_like(tokens, dtype=torch.bool)
        show = Batch(("",), tokens, length, nothing, nothing, torch.zeros(1))
        return Share(torch.tensor(rows, dtype=torch.long), show)
    lengths = batch.lengths[rows]
    width = int(lengths.max())
    part = Batch(
        ids=tuple(batch.ids[row] for row in rows),
        tokens=batch.tokens[rows, :width],
        lengths=lengths,
        labels=batch.labels[rows, :width],
        scored=batch.scored[rows, :width],
        weights=batch.weights[rows],
    )
    return Share(torch.tensor(rows, dtype=torch.long), part)


class ShardedLM:
    """A frozen decoder split over ranks; see `FrozenLM` for the contract.

    After a rank was lost, the current request fails with `RanksLostError`, and the next one restarts all
    ranks. A failed request has had no effect: it can be repeated, even an `observe`.
    """

    def __init__(self, count: int, transport: Transport, limits: Limits | None = None) -> None:
        """Starts the ranks.

        Raises:
            UserError: they cannot load the model.
            RanksLostError: one died or did not load it in time.
        """
        self._ranks = Ranks(count, transport, limits or Limits())
        self._info: ModelInfo = self._first("info")
        self._sites: tuple[str, ...] = self._first("sites")

    def info(self) -> ModelInfo:
        return self._info

    def sites(self) -> tuple[str, ...]:
        return self._sites

    def embed(self, ids: Int[Tensor, "T"]) -> Float[Tensor, "T H"]:
        found: Tensor = self._first("embed", ids.cpu())
        return found

    def width(self, place: Place) -> int:
        found: int = self._first("width", place)
        return found

    def normalise(self, place: Place, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        found: Tensor = self._first("normalise", place, vectors.detach().cpu())
        return found

    def project(self, place: Place, states: Float[Tensor, "N H"]) -> Float[Tensor, "N D"]:
        found: Tensor = self._first("project", place, states.detach().cpu())
        return found

    def rotate(
        self, place: Place, keys: Float[Tensor, "P D"], *, inverse: bool = False
    ) -> Float[Tensor, "P D"]:
        found: Tensor = self._first("rotate", place, keys.detach().cpu(), inverse=inverse)
        return found

    def loss(self, prompt: Prompt | None, batch: Batch, *, grad: bool = False) -> Losses:
        return self._together([Request(prompt, batch, grad)])[0]

    def loss_many(self, requests: Sequence[Request], tokens: int | None = None) -> list[Losses]:
        """See `PackingLM`; the budget is that of all ranks together."""
        return in_passes(self._together, requests, tokens)

    def _together(self, requests: list[Request]) -> list[Losses]:
        """Losses of requests of one shape, in one pass of every rank, which has rows of each request."""
        count = self._ranks.count
        # Each request begins with another rank, or all requests of one row would go to the first.
        shares = [
            dealt_to_ranks(request.batch, count, request.prompt, first=index)
            for index, request in enumerate(requests)
        ]
        prompts = [detached(request.prompt) or {} for request in requests]
        calls = [
            [
                Request(prompt, share[rank].batch, request.grad)
                for prompt, share, request in zip(prompts, shares, requests, strict=True)
            ]
            for rank in range(count)
        ]
        parts: list[list[Losses]] = self._ranks.ask([Call("loss_many", (call,)) for call in calls])
        return [
            _summed(list(part), share) for part, share in zip(zip(*parts, strict=True), shares, strict=True)
        ]

    def generate(
        self, prompt: Prompt | None, batch: Batch, *, max_new: int, stop: frozenset[int]
    ) -> list[list[int]]:
        travelling = detached(prompt) or {}
        shares = dealt_to_ranks(batch, self._ranks.count, prompt)
        parts = self._ranks.ask(
            [
                Call("generate", (travelling, share.batch), {"max_new": max_new, "stop": stop})
                if len(share.rows)
                else Call("finish", (travelling, share.batch), {"max_new": max_new})
                for share in shares
            ]
        )
        by_row = {
            row: out
            for share, part in zip(shares, parts, strict=True)
            for row, out in zip(share.rows.tolist(), part, strict=False)
        }
        return [by_row[row] for row in range(len(batch))]

    def compare(self, a: Prompt | None, b: Prompt | None, batch: Batch) -> Comparison:
        first, second = detached(a) or {}, detached(b) or {}
        shares = dealt_to_ranks(batch, self._ranks.count, a, b)
        parts: list[Comparison] = self._ranks.ask(
            [Call("compare", (first, second, share.batch)) for share in shares]
        )
        rows = [share.rows for share in shares]
        return Comparison(*(_in_order([part[column] for part in parts], rows) for column in range(3)))

    def attention(self, prompt: Prompt | None, batch: Batch) -> Attention:
        travelling = detached(prompt) or {}
        shares = dealt_to_ranks(batch, self._ranks.count, prompt)
        parts: list[Attention] = self._ranks.ask(
            [Call("attention", (travelling, share.batch)) for share in shares]
        )
        rows = [share.rows for share in shares]
        return Attention(*(_in_order([part[column] for part in parts], rows) for column in range(4)))

    def observe(
        self, prompt: Prompt | None, batch: Batch, sites: Sequence[str], statistic: StatisticT
    ) -> StatisticT:
        """See `FrozenLM`. The statistic stays with the caller: it receives each site's states in the order of
        rows, as from a local host, once all ranks have sent theirs."""
        travelling = detached(prompt) or {}
        shares = dealt_to_ranks(batch, self._ranks.count, prompt)
        parts = self._ranks.ask([Call("record", (travelling, share.batch, list(sites))) for share in shares])
        filled = [(share, part) for share, part in zip(shares, parts, strict=True) if len(share.rows)]
        for updates in zip(*(part for _, part in filled), strict=True):
            assert len({update.site for update in updates}) == 1, "ranks passed the sites in different orders"
            states = torch.cat([update.states for update in updates])
            rows = torch.cat(
                [share.rows[update.where.rows] for (share, _), update in zip(filled, updates, strict=True)]
            )
            positions = torch.cat([update.where.positions for update in updates])
            tokens = torch.cat([update.where.tokens for update in updates])
            order = rows.argsort(stable=True)  # within a row, one rank sent the positions in order
            statistic.update(
                updates[0].site, states[order], Where(rows[order], positions[order], tokens[order])
            )
        return statistic

    def prompt_states(
        self, prompt: Prompt, sites: Sequence[str], first: int | None = None
    ) -> dict[str, Float[Tensor, "_ H"]]:
        found: dict[str, Tensor] = self._first("prompt_states", detached(prompt) or {}, list(sites), first)
        return found

    def memory(self) -> list[Memory]:
        """What each rank holds now."""
        return self._everyone("memory")

    def close(self) -> None:
        """Ends the ranks; a later request starts them again."""
        self._ranks.end()

    def _first(self, name: str, *args: object, **kwargs: object) -> Any:
        """A request that has no rows to split: all ranks compute it, and the first one's answer is taken."""
        return self._everyone(name, *args, **kwargs)[0]

    def _everyone(self, name: str, *args: object, **kwargs: object) -> list[Any]:
        return self._ranks.ask([Call(name, args, kwargs)] * self._ranks.count)


def load_sharded(
    model: ModelSpec, ranks: int, *, threads: int = 1, limits: Limits | None = None
) -> ShardedLM:
    """Loads a model into `ranks` new processes of this machine, each on a GPU of its own or on the CPU.

    Raises:
        UserError: DeepSpeed is missing, the model is not available, or there are fewer GPUs than ranks.
        RanksLostError: a rank died, or did not load its share in time.
    """
    if find_spec("deepspeed") is None:
        raise UserError(
            "a sharded model needs DeepSpeed, which is not installed; run "
            "pip install -c requirements.lock -e '.[deepspeed]'"
        )
    resolved = resolve_model(model)
    if architecture(resolved.folder).config.is_encoder_decoder:
        raise UserError(
            f"model {model.id} is an encoder-decoder, and only decoders can be sharded; load it unsharded"
        )
    device = device_of(model).type
    devices = _gpus() if device == "cuda" else [""] * ranks
    if len(devices) < ranks:
        raise UserError(
            f"{ranks} ranks of a sharded model need a GPU each, but this machine has {len(devices)}; use "
            "fewer ranks, or set model.device to cpu"
        )
    environment = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    if device == "cpu" and sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"  # gloo asks for the host's name, which may lead elsewhere
    job = Job(model, resolved, device, threads)
    transport = Processes(ranks, "softprior.models.rank_process:serve", job, environment, devices)
    return ShardedLM(ranks, transport, limits)


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` has them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]


def _summed(parts: list[Losses], shares: list[Share]) -> Losses:
    """One request's losses: rows put in order, gradients of the ranks' rows added up."""
    rows = [share.rows for share in shares]
    nll, tokens, correct, scored = (
        _in_order(list(column), rows) for column in zip(*(part[:4] for part in parts), strict=True)
    )
    gradients = [part.gradient for part in parts if part.gradient is not None]
    gradient = (
        {place: torch.stack([one[place] for one in gradients]).sum(0) for place in gradients[0]}
        if gradients
        else None
    )
    return Losses(nll, tokens, correct, scored, gradient)


def _in_order(parts: Sequence[Tensor], rows: Sequence[Tensor]) -> Tensor:
    """Numbers of the ranks' rows, put where the rows stand in the whole batch."""
    whole = torch.cat([part[: len(mine)] for part, mine in zip(parts, rows, strict=True)])
    return torch.empty_like(whole).index_copy(0, torch.cat(list(rows)), whole)
