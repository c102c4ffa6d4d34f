"""One rank of a sharded model: a process with its share of the weights, in step with the others.

Together with `deepspeed_private` the only module that imports deepspeed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed, nn

from softprior.assets.architecture import architecture
from softprior.assets.models import ResolvedModel
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.models import deepspeed_private
from softprior.models.crossing import on_cpu
from softprior.models.deepspeed_private import is_whole
from softprior.models.lengths import Part, crossing
from softprior.models.load import read_network
from softprior.models.local import LocalLM
from softprior.models.protocol import ModelInfo, Where
from softprior.models.rank_group import Call, Member, Reply, bounded, put, take
from softprior.models.verification import not_finite, verify_packing
from softprior.prompt import Batch, Prompt


class Job(NamedTuple):
    """The model that the ranks share.

    Attributes:
        device: `cpu` or `cuda`; a rank sees only its own GPU.
        threads: CPU threads of each rank.
    """

    model: ModelSpec
    resolved: ResolvedModel
    device: str
    threads: int


class Memory(NamedTuple):
    """What a rank holds between two requests, in bytes.

    Attributes:
        pid: process id.
        resident: resident memory of the process, with pages it shares (RSS).
        proportional: the same with shared pages divided by their users (PSS).
        device: allocated on the GPU; 0 on the CPU.
        shard: its share of the weights.
        gathered: weights that it holds whole in addition.
    """

    pid: int
    resident: int
    proportional: int
    device: int
    shard: int
    gathered: int


class Update(NamedTuple):
    """States of a site, as a statistic receives them."""

    site: str
    states: Float[Tensor, "N H"]
    where: Where


class Rank:
    """Loads its share of a model and answers requests; every rank gets every request.

    Each runs the same forwards in the same order, since all gather each layer's weights together.
    """

    def __init__(self, member: Member, job: Job) -> None:
        self._member = member
        with bounded(member.limits.loading):
            torch.set_num_threads(job.threads)
            self._host = _loaded(member, job)

    def answer(self, request: Call) -> Reply:
        """Runs a request; an error becomes a reply."""
        with bounded(self._member.limits.request):
            return replied(lambda: self._run(request))

    def _run(self, request: Call) -> object:
        try:
            return on_cpu(getattr(self._host, request.name)(*request.args, **request.kwargs))
        finally:
            self._host.release()


def replied(call: Callable[[], object]) -> Reply:
    """The outcome of a call, as a reply."""
    try:
        return Reply("done", call())
    except UserError as error:
        return Reply("refused", str(error))
    except Exception as error:  # whatever it is, the caller has to hear of it
        lines = [type(error).__name__, *str(error).strip().splitlines()]
        return Reply("failed", ": ".join(lines[:2]))


def serve(descriptor: int) -> None:
    """A rank as a process: receives its place and its job over the connection, and then requests."""
    link = Connection(descriptor)
    member, job = take(link)
    rank: list[Rank] = []
    put(link, replied(lambda: rank.append(Rank(member, job))))
    while rank:
        try:
            request = take(link)
        except EOFError:
            break  # the caller is gone
        put(link, rank[0].answer(request))
    os._exit(0)  # torch.distributed would wait for ranks that may have left already


class ShardedRank(LocalLM):
    """A local host whose weights are gathered layer by layer as they are used."""

    def __init__(self, network: nn.Module, fingerprint: str, offload: Any) -> None:
        super().__init__(network, fingerprint)
        self._offload = offload
        self._parameters = list(network.parameters())

    def info(self) -> ModelInfo:
        # A weight that is not gathered has no size of its own.
        count = sum(map(deepspeed_private.count, self._parameters))
        rows = deepspeed_private.rows(self._embedding.weight)
        own = super().info()
        computing = f"{own.computing}, {distributed.get_world_size()} ranks"
        return own._replace(vocabulary=rows, parameters=count, computing=computing)

    @property
    def lanes(self) -> int:
        """A single pass: ranks gather weights in the same order."""
        return 1

    def _apart(self, prompt: Prompt, lengths: Int[Tensor, "B"], ahead: int = 0) -> list[Part]:
        """The same number of parts on every rank; if one rank's rows are refused, all ranks refuse."""
        if self._regimes.longest is None:
            return super()._apart(prompt, lengths, ahead)
        self._places.check(prompt)
        parts: list[Part] = []
        with suppress(UserError):
            parts = super()._apart(prompt, lengths, ahead)
        agreed = torch.tensor([len(parts), int(not parts)], device=self.device)
        distributed.all_reduce(agreed, distributed.ReduceOp.MAX)
        if int(agreed[1]):
            raise crossing(self._regimes, self._family)
        nothing = Part(torch.zeros(0, dtype=torch.long))
        return parts + [nothing] * (int(agreed[0]) - len(parts))

    def _goes_on(self, over: bool) -> bool:
        going = torch.tensor([int(not over)], dtype=torch.int32, device=self.device)
        distributed.all_reduce(going, distributed.ReduceOp.MAX)
        return bool(going.item())

    def finish(self, prompt: Prompt | None, batch: Batch, *, max_new: int) -> list[list[int]]:
        """`generate` for a rank that has only dummy rows: they end at once, while it keeps step."""
        everything = frozenset(range(self.info().vocabulary))
        return self.generate(prompt, batch, max_new=max_new, stop=everything)

    def record(self, prompt: Prompt | None, batch: Batch, sites: Sequence[str]) -> list[Update]:
        """`observe`, returning what a statistic would receive."""
        return self.observe(prompt, batch, sites, _Updates()).updates

    def release(self) -> None:
        """Releases weights left gathered by a pass that ended early or stopped its backward pass."""
        deepspeed_private.release(self._offload, self._parameters)

    def memory(self) -> Memory:
        """What this rank holds now."""
        fields = _smaps()
        shards = sum(
            deepspeed_private.shard(weight).numel() * weight.element_size() for weight in self._parameters
        )
        whole = sum(w.numel() * w.element_size() for w in self._parameters if is_whole(w))
        return Memory(
            pid=os.getpid(),
            resident=fields.get("Rss", 0),
            proportional=fields.get("Pss", 0),
            device=torch.cuda.memory_allocated() if self.device.type == "cuda" else 0,
            shard=shards,
            gathered=whole,
        )


class _Updates:
    """A statistic that keeps what it is given, on the CPU."""

    def __init__(self) -> None:
        self.updates: list[Update] = []

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        self.updates.append(Update(site, states.cpu(), Where(*(part.cpu() for part in where))))


def _loaded(member: Member, job: Job) -> ShardedRank:
    """The model under ZeRO-3, at no time whole on one rank's device."""
    os.environ["DS_ACCELERATOR"] = job.device
    # Every rank has one device, the first it sees; DeepSpeed asks for the variable wherever it runs.
    os.environ |= {"RANK": str(member.rank), "WORLD_SIZE": str(member.ranks), "LOCAL_RANK": "0"}
    import deepspeed
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    backend = "nccl" if job.device == "cuda" else "gloo"
    timeout = timedelta(seconds=max(member.limits))
    distributed.init_process_group(
        backend, init_method=member.rendezvous, rank=member.rank, world_size=member.ranks, timeout=timeout
    )
    # DeepSpeed would compile collectives in shared memory for CPUs, for which g++ and half a minute are
    # needed, and whose segments a killed rank leaves behind; gloo's serve.
    deepspeed_private.leave_out_shared_memory()
    deepspeed.init_distributed(backend, timeout=timeout)
    config = zero_config(job.model, job.resolved.folder)
    alive = HfDeepSpeedConfig(config)  # from_pretrained shards the weights while this object lives
    network = read_network(job.model, job.resolved)
    network.requires_grad_(False)
    engine, *_ = deepspeed.initialize(model=network, config=config)
    del alive
    _require_finite(engine.module, job.model, member)
    host = ShardedRank(engine.module, job.resolved.fingerprint, engine.optimizer)
    host.ragged = job.model.kernels != "padded"
    verify_packing(engine.module, host)
    host.release()
    return host


def _require_finite(network: nn.Module, model: ModelSpec, member: Member) -> None:
    """As for a whole model; all ranks give the same answer, or some would wait for others in vain.

    Raises:
        UserError: a weight is infinite or not a number, on whichever rank.
    """
    names = [name for name, _ in network.named_parameters()]
    wrong = len(names)
    for index, weight in enumerate(network.parameters()):
        shard = deepspeed_private.shard(weight).flatten()
        own = deepspeed_private.count(weight) - member.rank * shard.numel()
        # What fills up the last rank's share was never written.
        if wrong == len(names) and not bool(shard[: max(0, own)].isfinite().all()):
            wrong = index
    first = torch.tensor([wrong], device=next(network.parameters()).device)
    distributed.all_reduce(first, distributed.ReduceOp.MIN)
    if int(first) < len(names):
        raise not_finite(model, names[int(first)])


def zero_config(model: ModelSpec, folder: Path) -> dict[str, object]:
    """DeepSpeed's settings: stage 3, each weight gathered where it is used and released right after.

    Norms stay on every rank. There is neither prefetch nor reuse: both follow the order of the last pass,
    and here requests of different kinds follow one another.
    """
    hidden = architecture(folder).config.hidden_size
    return {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": model.dtype == "bfloat16"},
        "fp16": {"enabled": model.dtype == "float16"},
        "zero_optimization": {
            "stage": 3,
            "stage3_param_persistence_threshold": hidden,
            "stage3_prefetch_bucket_size": 0,
            "stage3_max_reuse_distance": 0,
        },
    }


def _smaps() -> dict[str, int]:
    """Sums over the process's memory in bytes, by Linux's names; empty elsewhere."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {name: int(size.split()[0]) * 1024 for name, size in (line.split(":") for line in lines)}
