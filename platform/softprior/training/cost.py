"""What a trial costs: seconds by phase, positions, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from softprior.results.records import Cost

TRAINING = "training"
"""The phase of the optimizer's steps."""

START = "start"
"""The phase of the losses of the untrained sample, if this trial has computed them and not another one."""

WAITING = "waiting"
"""The phase of waiting for another trial that computes them; no work."""

_STATUS = Path("/proc/self/status")
_PEAKS = Path("/proc/self/clear_refs")


@dataclass
class Meter:
    """Measures a trial over all its attempts; checkpoints keep it.

    Attributes:
        seconds: by phase; what is measured inside another phase is not counted there.
        positions: text positions that went forward and backward.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    positions: int = 0
    _inside: list[float] = field(default_factory=list, repr=False)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time until the context ends to a phase."""
        began = time.monotonic()
        self._inside.append(0.0)
        try:
            yield
        finally:
            whole = time.monotonic() - began
            own = whole - self._inside.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + own
            if self._inside:
                self._inside[-1] += whole

    @property
    def waited(self) -> float:
        """Seconds without work, for another trial."""
        return self.seconds.get(WAITING, 0.0)

    def add(self, other: Meter) -> None:
        """Adds what another one has measured: an earlier attempt."""
        for name, seconds in other.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.positions += other.positions

    def cost(self, values: int) -> Cost:
        """What has been measured until now.

        Args:
            values: number of trained values.
        """
        training = self.seconds.get(TRAINING, 0.0)
        return Cost(
            values=values,
            positions=self.positions,
            per_second=self.positions / training if training else None,
            seconds={name: round(seconds, 3) for name, seconds in self.seconds.items()},
            memory=host_peak(),
            gpu_memory=gpu_peak(),
        )


def forget_peaks() -> None:
    """Lets the peaks of memory begin anew, as far as the system allows: a worker runs many trials."""
    with suppress(OSError):
        _PEAKS.write_text("5", encoding="ascii")  # Linux: resets VmHWM of this process
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def host_peak() -> int | None:
    """Largest resident memory of this process in bytes; None where the system does not say."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    return None if found is None else int(found) * 1024


def gpu_peak() -> int | None:
    """Largest memory of tensors on this process's GPU in bytes; None without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
