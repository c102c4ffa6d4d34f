"""What Slurm has given to a job, from the variables that it sets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from softprior.errors import UserError

MIB = 2**20
"""Bytes of a mebibyte."""

OBJECTS, LEAST_OBJECTS = 0.2, 100 * MIB
"""Share of a node's memory for objects that Ray's processes exchange, and its minimum in bytes.

Ray itself would take 30% of the machine's memory, whatever part of the machine the job has.
"""


@dataclass(frozen=True)
class Allocation:
    """A job's nodes.

    Attributes:
        job: its number, as commands of Slurm take it.
        nodes: number of nodes.
        cpus: of each node.
        restarts: number of times that Slurm has put the job back into the queue.
    """

    job: str
    nodes: int
    cpus: int
    restarts: int

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Allocation:
        """Reads it in the batch script of a job.

        Raises:
            UserError: this is not a batch job, or it lacks what Ray must know.
        """
        if "SLURM_JOB_ID" not in variables or "SLURM_JOB_NUM_NODES" not in variables:
            raise UserError(
                "SLURM_JOB_ID is not set, so this is not a Slurm job; submit one with sbatch "
                "jobs/slurm/study.sbatch STUDY, or run python -m jobs.study STUDY without Slurm"
            )
        require_memory(variables)
        return cls(
            job=variables["SLURM_JOB_ID"],
            nodes=int(variables["SLURM_JOB_NUM_NODES"]),
            cpus=cpus_of(variables),
            restarts=int(variables.get("SLURM_RESTART_COUNT", 0)),
        )


@dataclass(frozen=True)
class Share:
    """What the job has of one node.

    Attributes:
        head: whether it is the job's first node, where the study runs.
        job: its number.
        index: of the node in the job, from 0.
        cpus, gpus: number of each.
        memory: bytes.
    """

    head: bool
    job: str
    index: int
    cpus: int
    gpus: int
    memory: int

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Share:
        """Reads it on that node, in the one task that a step has there.

        Raises:
            UserError: this is not a step of a job, or the job lacks what Ray must know.
        """
        if "SLURM_NODEID" not in variables:
            raise UserError(
                "SLURM_NODEID is not set, so this is not a step of a job; run sbatch jobs/slurm/study.sbatch"
            )
        index, cpus = int(variables["SLURM_NODEID"]), cpus_of(variables)
        gpus = int(variables.get("SLURM_GPUS_ON_NODE") or 0)
        memory = memory_of(variables, cpus, gpus)
        return cls(index == 0, variables["SLURM_JOB_ID"], index, cpus, gpus, memory)

    @property
    def objects(self) -> int:
        """Bytes for objects that Ray's processes exchange."""
        return max(LEAST_OBJECTS, round(OBJECTS * self.memory))


def cpus_of(variables: Mapping[str, str]) -> int:
    """CPUs of each node.

    Raises:
        UserError: the job does not say.
    """
    if "SLURM_CPUS_PER_TASK" not in variables:
        raise UserError(
            "SLURM_CPUS_PER_TASK is not set, so Ray cannot tell how many CPUs it has on each node; "
            "give sbatch --ntasks-per-node=1 and --cpus-per-task=NUMBER"
        )
    return int(variables["SLURM_CPUS_PER_TASK"])


def require_memory(variables: Mapping[str, str]) -> None:
    """Checks that the job has asked for memory.

    Raises:
        UserError: it has not.
    """
    if not any(f"SLURM_MEM_PER_{unit}" in variables for unit in ("NODE", "CPU", "GPU")):
        raise UserError(
            "the job has requested no memory, so Ray would take a share of the whole machine's; give sbatch "
            "--mem=SIZE, such as --mem=32G (or --mem=0 for all of a node that is yours alone)"
        )


def memory_of(variables: Mapping[str, str], cpus: int, gpus: int) -> int:
    """Bytes of memory that the job has on this node; Slurm writes mebibytes, and 0 for all of them.

    Raises:
        UserError: the job has not asked for any, or has none here.
    """
    require_memory(variables)
    if (whole := variables.get("SLURM_MEM_PER_NODE")) is not None:
        return int(whole) * MIB or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    unit, count = ("CPU", cpus) if "SLURM_MEM_PER_CPU" in variables else ("GPU", gpus)
    each = int(variables[f"SLURM_MEM_PER_{unit}"])
    if each * count == 0:
        raise UserError(
            f"the job has no memory on a node ({each} MiB for each of {count} {unit}s); give sbatch "
            "--mem=SIZE, such as --mem=32G"
        )
    return each * count * MIB
