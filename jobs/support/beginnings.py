"""What a study or a search prints before it runs: what will run, what that can show, what is finished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf

from rich.console import Console

from jobs.support.evidence import forecast
from jobs.support.screen import tell
from softprior.errors import UserError
from softprior.inputs.labels import by_number, counted
from softprior.inputs.specs import PlacementSpec, ResourcesSpec
from softprior.library.studies import Runnable
from softprior.results.folder import StudyFolder
from softprior.studies.again import reused_note
from softprior.studies.cluster import Cluster, elsewhere, lacks_gpu
from softprior.studies.components import Components
from softprior.studies.describe import at_hand, extending
from softprior.studies.downloads import Download, downloads
from softprior.studies.downloads import in_words as downloads_in_words
from softprior.studies.observers import Work
from softprior.training.also import other_tasks
from softprior.training.continuing import any_kept, longest, without_checkpoint

FEW = 40
"""Most trials that a dry run lists one by one unless all are requested."""


def tell_dry_run(
    console: Console, planned: Runnable, work: Work, folder: StudyFolder, most: float = FEW
) -> None:
    """Prints everything that the study would run, whatever of it is finished.

    Args:
        most: trials of a grid that are listed one by one; for more there is one line per task and method.

    Raises:
        UserError: the study could not run on the cluster that exists already.
    """
    study, components = planned.study, planned.components
    begun, unused = _begun(work, folder)
    found = _found(study.name, work)
    if found:
        left = (
            "nothing is left to run"
            if work.over
            else "the costs below are those of the whole study; what is left costs less"
        )
        found.append(f"study {study.name}: {left}")
    lines = [*found, *planned.described(most=most, begun=begun), *unused]
    lines += [f"  {line}" for line in downloads_in_words(_downloads_of_all(planned))]
    if (reason := lacks_gpu(study.model)) is not None:
        lines.append(f"  note: {reason}")
    lines += _forecast(planned, work, folder, dry=True, whole=most == inf)
    lines += _at_hand(study.resources, study.placement)
    tell(console, [*lines, *_further(study.name, work, components)])


def tell_beginning(
    console: Console, planned: Runnable, work: Work, folder: StudyFolder, wanted: Sequence[Download]
) -> Sequence[str]:
    """Says what is finished already, and what will run; the notes among that.

    Args:
        wanted: what is fetched first, see `downloads_of`.
    """
    name = planned.study.name
    tell(console, _found(name, work))
    begun, unused = _begun(work, folder)
    lines = planned.described(work, begun=begun)
    if lines:
        lines += [*unused, *(f"  {line}" for line in downloads_in_words(wanted))]
        tell(console, [*lines, *_forecast(planned, work, folder)])
    tell(console, _further(name, work, planned.components))
    return planned.notes if lines else ()


def downloads_of(planned: Runnable, work: Work) -> list[Download]:
    """What the trials that are missing need and this machine does not have; nothing where others run them."""
    if work.over or elsewhere():
        return []
    known = planned.components
    own = [known.task(trial) for trial in work.missing]
    tested = [task for trial in work.missing for task in known.others(trial)]
    return downloads(planned.study.model, own, planned.model.fingerprint, tested)


def _downloads_of_all(planned: Runnable) -> list[Download]:
    """The same of all trials, including those that a search has yet to propose."""
    known = planned.components
    own = {trial.task.canonical() for trial in planned.trials}
    others = {entry.canonical() for trial in planned.trials for entry in other_tasks(trial)} - own
    tasks = [task for text, task in known.tasks.items() if text not in others]
    tested = [task for text, task in known.tasks.items() if text in others]
    return [] if elsewhere() else downloads(planned.study.model, tasks, planned.model.fingerprint, tested)


def _forecast(
    planned: Runnable, work: Work, folder: StudyFolder, dry: bool = False, whole: bool = False
) -> list[str]:
    """What the seeds of a whole study can show, whatever of it is finished; a search tests nothing."""
    if not work.designed:
        return []
    try:
        lines = forecast(planned.trials, planned.components, planned.model.shape, folder, dry, whole)
    except UserError:
        raise
    except Exception as error:  # a forecast; trials run without it
        lines = [f"note: what the seeds can show could not be computed ({type(error).__name__}: {error})"]
    return [f"  {line}" for line in lines]


def _begun(work: Work, folder: StudyFolder) -> tuple[dict[str, int], list[str]]:
    """The steps of earlier trials that new ones go on from, by trial id, and notes on those that cannot."""
    begun: dict[str, int] = {}
    unused: Counter[str] = Counter()
    fresh = []
    kept = any_kept(folder)
    for trial in work.new:
        found = longest(folder, trial) if kept else None
        if isinstance(found, str):
            unused[found] += 1
        elif found is not None:
            begun[trial.id] = found.step
        else:
            fresh.append(trial)
    notes = [f"{counted(count, 'trial')}: {said}" for said, count in unused.items()]
    if lost := without_checkpoint(folder, fresh, {trial.id for trial in work.trials}):
        notes.append(
            f"{counted(lost, 'finished trial')} with fewer steps left no checkpoint for new ones to go on "
            "from; training.keep_checkpoint=true keeps one of each trial from now on"
        )
    return begun, [f"  note: {note}" for note in notes]


def _found(name: str, work: Work) -> list[str]:
    """Lines about what is finished already, and what of it will run again."""
    again, done = len(work.superseded), work.number(work.reused)
    lines = []
    if again:
        lines.append(f"study {name}: {counted(again, 'earlier trial')} made by other code will run again")
    if done:
        state = "finished" if all(r.status == "finished" for r in work.reused.values()) else "done"
        of = f"{done} of {counted(work.total, 'trial')} {by_number(done, 'is', 'are')}"
        lines.append(f"study {name}: {of} {state} already")
    return lines


def _further(name: str, work: Work, components: Components) -> list[str]:
    """Lines about finished trials that are measured further, and about results of other code."""
    lines = [f"study {name}: {extending(work.extended.values(), components)}"] if work.extended else []
    note = reused_note(work.reused.values(), work.remedy)
    return lines if note is None else [*lines, note]


def _at_hand(resources: ResourcesSpec, placement: PlacementSpec) -> list[str]:
    """A line about the cluster that the study would run on, if it exists already.

    Raises:
        UserError: the study could not run on it.
    """
    if not elsewhere():
        return []
    with Cluster(resources, placement, quiet=True) as cluster:
        return [f"  {at_hand(cluster.nodes, resources, placement)}"]
