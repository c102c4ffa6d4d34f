"""What softprior uses of DeepSpeed's private parts, all of it; checked on DeepSpeed 0.19.8.

ZeRO-3 leaves each rank a shard of every weight, and what the whole weight is in attributes `ds_...`.
None of it is promised to stay. `tests/test_private_parts.py` says which part another version has changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

SHARED_MEMORY = "deepspeed_shm_comm"
"""The operator with which ranks on CPUs would exchange through shared memory."""


def leave_out_shared_memory() -> None:
    """DeepSpeed does not compile its collectives in shared memory; call it before `init_distributed`."""
    import deepspeed

    deepspeed.ops.__compatible_ops__[SHARED_MEMORY] = False


def rows(weight: Any) -> int:
    """Rows of the whole weight, which has no size of its own as long as it is not gathered."""
    return int(weight.ds_shape[0])


def count(weight: Any) -> int:
    """Numbers in the whole weight."""
    return int(weight.ds_numel)


def shard(weight: Any) -> Tensor:
    """This rank's share of the weight; the last rank's is filled up."""
    found: Tensor = weight.ds_tensor
    return found


def is_whole(weight: Any) -> bool:
    """Whether the weight is gathered at the moment."""
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    return bool(weight.ds_status == ZeroParamStatus.AVAILABLE)


def release(offload: Any, weights: Iterable[Any]) -> None:
    """Releases weights that were left gathered, apart from those that stay whole on every rank.

    Args:
        offload: the engine's `optimizer`, which without trained weights only gathers and releases.
    """
    offload.release_backward_leftovers()
    if any(is_whole(weight) and not weight.ds_persist for weight in weights):
        offload.empty_partition_cache()
