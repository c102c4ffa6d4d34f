"""Losses of the sample that a trial starts from, computed once on a machine for all trials of a study.

Trials that differ in rate, regularisers or steps start from the same vectors, whose losses are the same bits
in each of them. They are kept in the study's folder under all that decides them: the model, how and with what
it is computed, the vectors, the rows, and how rows are batched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from filelock import FileLock, Timeout

from softprior.assets.cache import lock
from softprior.errors import UserError
from softprior.liveness import waiting
from softprior.models.identity import identity
from softprior.models.protocol import FrozenLM
from softprior.prompt import Prompt, Row
from softprior.results.files import write_atomically
from softprior.results.folder import StudyFolder
from softprior.results.provenance import SOURCES
from softprior.results.storage import Location
from softprior.training.checkpoint import TrialState
from softprior.training.cost import START, WAITING
from softprior.training.events import Phase, Report
from softprior.training.row_losses import RowLosses, row_losses


@dataclass(frozen=True)
class Untrained:
    """The sample of one trial.

    Attributes:
        sample: its vectors, `[P, H]` at each residual place; none for a baseline.
        folder: where losses are that other trials have computed.
        state: of the trial; its meter counts computing and waiting apart from the phase they are in.
        report: receives both as phases.
        shared: whether losses of other trials are read and own ones kept for them.
    """

    sample: Prompt
    folder: StudyFolder
    state: TrialState
    report: Report
    shared: bool = True

    def losses(self, host: FrozenLM, rows: Sequence[Row], batch: int) -> RowLosses:
        """`row_losses` of the sample, unless the study has them: per row, `[rows]`, in nats.

        Of several trials of the study that ask at once on a machine, one computes and the others wait. If it
        fails or is killed, the next one computes.

        Args:
            batch: number of rows of a pass.
        """
        if not self.shared:
            return self._computed(host, rows, batch)
        key = _key(host, self.sample, rows, batch)
        path = self.folder.untrained(key)
        found = _read(path, key)
        if found is None:
            with self._turn(key):
                found = _read(path, key)
                if found is None:
                    found = self._computed(host, rows, batch)
                    _write(path, key, found)
        return found

    def _computed(self, host: FrozenLM, rows: Sequence[Row], batch: int) -> RowLosses:
        self.report(Phase(self.state.step, "losses of the start"))
        with self.state.meter.phase(START):
            return row_losses(host, self.sample, rows, batch)

    @contextmanager
    def _turn(self, key: str) -> Iterator[None]:
        """Waits until no other trial of the study on this machine holds the key, if the cache takes locks."""
        held = None
        with suppress(OSError, UserError):
            held = _lock(self.folder, key)
            try:
                held.acquire(blocking=False)
            except Timeout:
                self.report(Phase(self.state.step, "waiting for another trial"))
                with waiting(), self.state.meter.phase(WAITING):
                    held.acquire()
        try:
            yield
        finally:
            if held is not None:
                held.release()


def _lock(folder: StudyFolder, key: str) -> FileLock:
    """A lock for the key in this folder; they share 65,536 names, so that files stay few."""
    return lock(f"untrained/{_sha256(json.dumps([str(folder.root), key]).encode())[:4]}")


def _key(host: FrozenLM, sample: Prompt, rows: Sequence[Row], batch: int) -> str:
    """Names losses by all that decides them, the sources first."""
    info = host.info()
    how = [type(host).__name__, *identity(info, torch.device(info.device)), info.frozen_cache, info.computing]
    vectors = [
        (place.name, str(value.dtype), value.shape, _sha256(value.detach().cpu().numpy().tobytes()))
        for place, value in sample.items()
    ]
    texts = [(row.tokens, row.labels, row.scored) for row in rows]
    return f"{SOURCES[:8]}-{_sha256(json.dumps([how, vectors, texts, batch]).encode())[:32]}"


def _read(path: Location, key: str) -> RowLosses | None:
    """Kept losses; a file that is not there, cannot be read, is damaged or of another key counts as none."""
    try:
        found = json.loads(path.read_bytes())
        losses = RowLosses(**found["losses"])
        return losses if _digest(key, losses) == found["sha256"] else None
    except (OSError, UserError, ValueError, TypeError, KeyError):
        return None


def _write(path: Location, key: str, losses: RowLosses) -> None:
    """Keeps losses; they can be computed again, so that a folder that does not take them is no failure."""
    content = json.dumps({"losses": losses._asdict(), "sha256": _digest(key, losses)}).encode()
    with suppress(OSError, UserError):
        write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _digest(key: str, losses: RowLosses) -> str:
    return _sha256(json.dumps([key, losses]).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
