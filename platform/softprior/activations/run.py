"""The driver of an activations run: shards to workers through Ray Data, partial sums to a store."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, cast

from safetensors import SafetensorError

from softprior.activations.folder import RunFolder
from softprior.activations.merging import Summary, chosen, finish, saved_shards
from softprior.activations.outcome import Outcome
from softprior.activations.plan import RunPlan
from softprior.activations.shards import Shard
from softprior.errors import UserError
from softprior.inputs.labels import by_number, counted
from softprior.results.digested import read_header, write_digested
from softprior.results.lease import locked
from softprior.results.storage import Location, listed, remove_folder
from softprior.statistics.store import other_data
from softprior.training.own_code import in_use

ROUNDS = 3
"""How often shards that were lost with their worker are given out again."""


class Reached(NamedTuple):
    """How far a run is.

    Attributes:
        tokens: tokens read so far, shuffled texts included.
        shards: shards that are on disk, of all sessions.
    """

    tokens: int
    shards: int


Report = Callable[[Reached], None]


def run_activations(
    plan: RunPlan, folder: RunFolder, cluster: AbstractContextManager[object], report: Report
) -> Summary:
    """Reads what is missing, writes the store, and returns the summary.

    Args:
        cluster: Ray, connected while the context is open; it is not opened if nothing is missing.

    Raises:
        UserError: another process runs this, the folder is another run's or cannot be written, a setting
            does not fit the model, or nothing could be read.
    """
    with locked(folder.lock):
        with _full_disk_told(plan, folder):
            _claim(folder, plan)
        if folder.summary.exists():
            found = cast(Summary, read_header(folder.summary, "remove it, and run the command again"))
            if not found["failed"]:
                require_whole(folder.store, found)
                with _full_disk_told(plan, folder):
                    remove_folder(folder.parts)  # if that was interrupted
                return found
        failed: dict[str, str] = {}
        lost = LOST
        for _ in range(ROUNDS):
            missing = _missing(plan, folder)
            if not missing:
                break
            with cluster:
                failed, lost = _read(plan, folder, missing, report)
            if failed:
                break
        failed = {
            shard.name: f"{shard.place}: {failed.get(shard.name, lost)}" for shard in _missing(plan, folder)
        }
        with _full_disk_told(plan, folder):
            return finish(plan, folder, failed)


LOST = "its worker died"


@contextmanager
def _full_disk_told(plan: RunPlan, folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise _unwritable(plan, folder, str(error)) from None


def _unwritable(plan: RunPlan, folder: RunFolder, problem: str) -> UserError:
    done = len(plan.shards) - len(_missing(plan, folder))
    shards = f"{done} of {counted(len(plan.shards), 'shard')} {by_number(done, 'is', 'are')} kept"
    return UserError(
        f"{folder.root} cannot be written ({problem}); {shards}, so free some space and run the command again"
    )


def require_own(folder: RunFolder, plan: RunPlan) -> None:
    """Refuses a folder that contains anything else than this run, or the beginning of it.

    Raises:
        UserError: it does.
    """
    try:
        remedy = f"remove {folder.root}, and run the command again"
        found = read_header(folder.plan, remedy)["key"] if folder.plan.exists() else None
        study = (folder.root / "study.json").exists()
    except OSError as error:
        raise UserError(
            f"{folder.root} cannot be read ({error.strerror}); give --results another folder"
        ) from None
    except KeyError:
        raise UserError(f"{folder.plan} is damaged: it has no key; {remedy}") from None
    if found is not None:
        if found != plan.key:
            raise UserError(
                f"{folder.root} contains another run (with other settings, data or weights); give this one "
                "another name, or remove the folder"
            )
        return
    if study:
        raise UserError(f"{folder.root} is the results folder of a study; give this run another name")


def require_whole(store: Location, summary: Summary) -> None:
    """Checks that a store still has the files that its run has written, each with what its name says.

    Raises:
        UserError: a file is missing, damaged, or of another task, site, model or data.
    """
    remedy = "put it back, or remove the folder of the run to have all read again"
    for task, read in summary["tasks"].items():
        there = {path.name: path for path in listed(store / task, "*.safetensors")}
        for site in read["sites"]:
            path = there.get(f"{site}.safetensors")
            if path is None:
                raise UserError(
                    f"{store / task} lacks {site}.safetensors, which the run has written; {remedy}"
                )
            if isinstance(path, Path) and (said := other_data(path, task, summary["identity"])) is not None:
                raise UserError(f"{path} is of {said} than the run; {remedy}")


def _claim(folder: RunFolder, plan: RunPlan) -> None:
    require_own(folder, plan)
    if not folder.plan.exists():
        value = {"key": plan.key, "identity": plan.identity, "shards": plan.shard_facts()}
        write_digested(folder.plan, value)


def _missing(plan: RunPlan, folder: RunFolder) -> list[Shard]:
    covered = {name for task in plan.groups for partial in chosen(folder, task) for name in partial.shards}
    return [shard for shard in plan.shards if shard.name not in covered]


def _read(
    plan: RunPlan, folder: RunFolder, missing: Sequence[Shard], report: Report
) -> tuple[dict[str, str], str]:
    """Runs the shards through a pool of workers.

    Returns:
        The shards that failed, and why; and why others are missing, if any are.

    Raises:
        UserError: a worker cannot start, or the results folder cannot be written.
    """
    import ray
    from ray.data import ActorPoolStrategy

    from softprior.activations.worker import Worker

    _silence()
    spec = plan.spec
    model = spec.model
    if model.device == "auto" and not spec.resources.gpus:
        model = model.model_copy(update={"device": "cpu"})  # a GPU nobody asked for may be somebody else's
    workers = min(spec.workers, len(missing))
    rows = [
        {"shard": json.dumps(facts)}
        for facts in plan.shard_facts()
        if facts["name"] in {s.name for s in missing}
    ]
    results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Worker,
        batch_size=1,
        compute=ActorPoolStrategy(size=workers),
        num_cpus=spec.resources.cpus,
        num_gpus=spec.resources.gpus,
        fn_constructor_kwargs={
            "spec": spec.model_copy(update={"model": model}).model_dump_json(),
            "identity": plan.identity,
            "folder": str(folder.root),
            "code": [[code.name, code.text] for code in in_use()],
        },
    )
    failed: dict[str, str] = {}
    lost = LOST
    with _watching(plan, folder, report):
        try:
            for row in results.iter_rows():
                outcome = Outcome.of(row["result"])
                if outcome.error is None:
                    continue
                if outcome.ends == "refused":
                    raise UserError(outcome.error)
                if outcome.ends == "unwritable":
                    raise _unwritable(plan, folder, outcome.error)
                failed[outcome.shard] = outcome.error
        except ray.exceptions.RayError as error:
            cause = _user_error(error)
            if cause is not None:
                raise cause from None
            kind = "" if isinstance(error, ray.exceptions.RayTaskError) else f"{type(error).__name__}: "
            lost = f"{LOST} ({kind}{_last_line(error)})"
    return failed, lost


def _silence() -> None:
    """Keeps Ray Data from printing: what there is to say, the summary says."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for handler in logging.getLogger("ray.data").handlers:
        if type(handler) is not logging.NullHandler:
            handler.setLevel(logging.CRITICAL)


def _last_line(error: BaseException) -> str:
    """The last line of what Ray says, which for an exception is its traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def _user_error(error: BaseException) -> UserError | None:
    """What a worker said about the user's settings, out of what Ray wraps it in."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, UserError):
            return UserError(_last_line(seen))
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


@contextmanager
def _watching(plan: RunPlan, folder: RunFolder, report: Report) -> Iterator[None]:
    """Adds up what was read before, what the workers of this session report, and what is on disk."""
    for path in folder.beats():
        path.unlink()
    earlier = saved_shards(plan, folder)
    before = sum(
        plan.expected(shard) + plan.expected_again(shard) for shard in plan.shards if shard.name in earlier
    )
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(folder.pause):
            # A bucket may be away for a moment, and a worker writes its note anew.
            with suppress(UserError, OSError, ValueError, KeyError):
                tokens = sum(json.loads(path.read_text())["tokens"] for path in folder.beats())
                report(Reached(before + tokens, len(saved_shards(plan, folder))))

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
