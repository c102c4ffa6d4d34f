"""What runs in a Ray Data actor: one model, shard after shard, sums on disk after each."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
from safetensors import SafetensorError

from softprior.activations.folder import RunFolder
from softprior.activations.outcome import Outcome
from softprior.activations.prompts import identities
from softprior.activations.reader import Reader
from softprior.activations.shards import Shard, Source
from softprior.activations.spec import ActivationsSpec
from softprior.activations.state import Partial, TaskState
from softprior.activations.texts import sources
from softprior.assets import fingerprints
from softprior.assets.named import here
from softprior.errors import UserError
from softprior.results.digested import read_header, write_digested
from softprior.results.files import write_json
from softprior.results.storage import local_copy, location
from softprior.statistics.units import PROMPTS, VOCABULARY
from softprior.tasks.prepared import Text

ATTEMPTS = 2
"""How often a worker tries a shard that fails."""

UNUSABLE = (OSError, SafetensorError, UserError)
"""What is raised on reading and writing in the results folder, a bucket's refusals included."""


class Worker:
    """Called by Ray Data with one shard at a time; returns what came of it."""

    def __init__(
        self, spec: str, identity: dict[str, str], folder: str, code: Sequence[Sequence[str]] = ()
    ) -> None:
        """
        Args:
            spec: as JSON.
            identity: of the plan.
            folder: where sums go.
            code: the names and texts of the user's own files.
        """
        from softprior.models.load import load_local
        from softprior.training.own_code import OwnCode, use_code
        from softprior.training.threads import limit_threads

        for name, text in code:
            use_code(OwnCode(name, text))
        self._spec = ActivationsSpec.model_validate_json(spec)
        limit_threads(self._spec.resources.cpus)
        loaded = load_local(self._spec.model)
        self._sources = sources(self._spec, loaded)
        self._folder = RunFolder(location(folder))
        self._name = uuid.uuid4().hex[:12]
        self._reader = Reader(self._spec, loaded, self._tell)
        found = {"model": loaded.fingerprint}
        if self._spec.prompt is not None:
            found["prompt"] = fingerprints.of_file(here(self._spec.prompt))
        found |= identities(self._spec)
        found |= {f"data.{name}": source.fingerprint for name, source in self._sources.items()}
        changed = [name for name, value in found.items() if identity[name] != value]
        if changed:
            raise UserError(
                f"{changed[0]} changed after the run was planned, or this worker has other files or package "
                "versions; run the command again"
            )
        self._state: TaskState | None = None
        self._beat = 0.0
        self._done = 0

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        shards = [Shard(**json.loads(text)) for text in batch["shard"]]
        return {"result": [self._outcome(shard).to_json() for shard in shards]}

    def _outcome(self, shard: Shard) -> Outcome:
        """Reads a shard, unless that was done before, and writes its sums."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if not self._covered(shard):
                    state = self._read(shard)
                    with _of_the_folder():
                        state.save(self._folder.partial(state.name, self._name))
                return Outcome(shard.name)
            except _FolderError as error:
                self._state = None
                refused = isinstance(error.__cause__, UserError)
                return Outcome(shard.name, str(error), "refused" if refused else "unwritable")
            except Exception as error:
                self._state = None  # it may have half of the shard in it; what was written has not
                if attempt == ATTEMPTS:
                    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
                    return Outcome(shard.name, f"{kind}{error}")
        raise AssertionError("a shard is read or has failed")

    def _covered(self, shard: Shard) -> bool:
        """Whether a worker wrote the shard before it died; nothing is counted twice."""
        with _of_the_folder():
            partials = self._folder.partials(shard.source)
        return any(shard.name in partial.shards for partial in partials)

    def _read(self, shard: Shard) -> TaskState:
        """Adds the texts of a shard to this worker's state of the task."""
        started = time.monotonic()
        if shard.source == VOCABULARY:
            return self._reader.read_vocabulary(shard)
        if shard.source == PROMPTS:
            return self._reader.read_prompts()
        source = self._sources[shard.source]
        reading = source.read(shard)
        state = self._load(source)
        self._reader.read(shard, reading, state, self._medians(source), started)
        return state

    def _tell(self, shard: Shard, tokens: int) -> None:
        """Leaves a sign of how far this worker is, now and then."""
        self._done += tokens
        if time.monotonic() - self._beat > self._folder.pause:
            self._beat = time.monotonic()
            with suppress(*UNUSABLE):  # a display has no part in the result
                write_json(self._folder.beat(self._name), {"shard": shard.name, "tokens": self._done})

    def _load(self, source: Source) -> TaskState:
        """This worker's state of a task: in memory, on disk, or new. Only one is in memory at a time."""
        if self._state is None or self._state.name != source.name:
            path = self._folder.partial(source.name, self._name)
            spec = self._spec
            with _of_the_folder():
                if path.exists():
                    with local_copy(path) as file:
                        self._state = Partial(file).load()
                else:
                    self._state = TaskState(source.name, spec.sample, spec.exact, source.groups)
        return self._state

    def _medians(self, source: Source) -> dict[str, float]:
        """The median norm of each site, measured by the first worker that gets to the task."""
        path = self._folder.calibration(source.name)
        with _of_the_folder():
            measured = path.exists()
        if not measured:
            medians = self._reader.medians(self._first_readable(source))
            with _of_the_folder():
                write_digested(path, {"task": source.name, "medians": medians})
        with _of_the_folder():
            found = read_header(path, "remove it, and it is measured again")
            if found.get("task") != source.name:
                raise UserError(f"{path} has norms of {found.get('task')}, not of {source.name}; remove it")
        values: dict[str, float] = found["medians"]
        return values

    def _first_readable(self, source: Source) -> list[Text]:
        """Texts of the first shard that can be read: a damaged one is reported when its turn comes."""
        *others, last = source.shards(self._spec.shard_tokens)
        for shard in others:
            with suppress(Exception):
                return source.read(shard).texts
        return source.read(last).texts


class _FolderError(Exception):
    """The results folder cannot be read or written, which is no fault of the shard at hand."""


@contextmanager
def _of_the_folder() -> Iterator[None]:
    """Distinguishes errors of the results folder from those of the data being read."""
    try:
        yield
    except UNUSABLE as error:
        raise _FolderError(str(error)) from error
