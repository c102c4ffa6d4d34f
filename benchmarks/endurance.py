"""A study whose processes are killed at random: python -m benchmarks.endurance --folder FOLDER

A study of trials that do next to nothing (`tiny`, three steps on one example, a checkpoint after each) runs
as a command of its own, with Ray and MLflow. At random moments a process in which a trial runs is killed, or
the driver alone, or the driver with all that it has started; whoever was killed is not waited for, and the
same command starts again at once, until it finds nothing left to do. Then this is checked:

- each trial of the plan has one record, and it is finished;
- no record was written again once it was there, and no end was told twice;
- MLflow has one run of each trial, which is finished;
- curves, test results and final vectors of a sample, trials whose process was killed first, equal those of
  the same trials in a process that nobody disturbs, bit for bit;
- no process, no half-written file and no checkpoint is left.

With --minutes kills end after so long, and the study with the seeds that it has reached by then.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import psutil
import torch
from mlflow import MlflowClient

from benchmarks.overhead import command, own_cluster
from benchmarks.overhead import study as small
from softprior.inputs.specs import TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.models.load import load_local
from softprior.results.files import TEMPORARY
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import Record, load_record, load_records
from softprior.studies.plan import plan_study
from softprior.training.setup import Setup
from softprior.training.threads import limit_threads
from softprior.training.trial import Trial

MARK = "SOFTPRIOR_ENDURANCE"
"""A variable by whose value all processes of a run are found, those without a parent too."""

PATIENCE = 120.0
"""Seconds that Ray has to end its processes once the last driver has ended."""

ENDED = re.compile(r"^ *\d+/\d+  ([0-9a-f]+)  (.*)$", re.MULTILINE)
"""The line that a trial's end leaves."""

LATE = "Ray did not start"
"""What a command says that had to give up because much else runs here; it may be started again."""

RESTARTED = re.compile(r"^ +([0-9a-f]+)  .*its process died \(", re.MULTILINE)
"""The line about a process that was lost."""


def main() -> None:
    """Prints a line for each command, then the verdict; the status is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.endurance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, required=True, help="where results and outputs go; new")
    parser.add_argument("--trials", type=int, default=1000, help="of the study (default: 1000)")
    parser.add_argument("--every", type=float, default=10.0, help="mean trials between kills (default: 10)")
    parser.add_argument("--drivers", type=float, default=0.15, help="share of kills that are the driver's")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of kills (default: no limit)")
    parser.add_argument("--sample", type=int, default=20, help="trials that run again alone (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the kills (default: 0)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    started = time.monotonic()
    run = Run(options.folder, options.trials, Random(options.seed))
    run.to_its_end(options.every, options.drivers, started + 60 * options.minutes)
    print(f"{run.told()} in {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    wrong = [*run.left(), *run.records_wrong(), *run.tracking_wrong(), *run.sample_wrong(options.sample)]
    print("\n".join(wrong) or "nothing is wrong")
    sys.exit(1 if wrong else 0)


class Run:
    """A study that is started until it ends well, and what was seen of it meanwhile."""

    def __init__(self, folder: Path, trials: int, chance: Random) -> None:
        self._at = folder
        self._chance = chance
        self._study = small(trials) | {"name": "endurance"}
        self._study["training"] = {"steps": 3, "batch": 1, "snapshots": 0, "checkpoint": 1}
        self._command = command(folder, self._study)
        self._mark = uuid.uuid4().hex
        self.folder = StudyFolder(folder / "endurance")
        self.kills: Counter[str] = Counter()
        self.outputs: list[str] = []
        self._written: dict[str, int] = {}
        """When the record of each finished trial was written, as it was seen first."""
        self._rewritten: set[str] = set()
        self._status = 0
        """What the last command ended with: 1 if a trial failed, or a check of its numbers."""

    def to_its_end(self, every: float, drivers: float, until: float) -> None:
        """Starts the command, kills, and starts it again, until it finds nothing left to do."""
        late = False
        while True:
            path = self._at / f"output-{len(self.outputs):03d}.txt"
            environment = own_cluster() | {MARK: self._mark}
            with open(path, "w") as output:
                process = subprocess.Popen(  # noqa: S603  our own
                    self._command, env=environment, stdout=output, stderr=output, start_new_session=True
                )
                killed = "" if late else self._disturb(process, every, drivers, until)
                status = process.wait()
            self.outputs.append(path.read_text())
            self._look()
            print(f"{path.name}: {killed or f'status {status}'}, {len(self._written)} finished", flush=True)
            if not killed and status not in (0, 1) and LATE not in self.outputs[-1]:
                sys.exit(self.outputs[-1])
            if not killed and status in (0, 1) and not ENDED.search(self.outputs[-1]):
                self._status = status
                return
            if not late and time.monotonic() > until:
                late = True
                self._keep_what_is_reached()

    def _disturb(self, process: subprocess.Popen[bytes], every: float, drivers: float, until: float) -> str:
        """Kills trials' processes until the command ends or its driver is killed; returns how it was."""
        while True:
            count = len(self._records()) + int(self._chance.expovariate(1 / every))
            while len(self._records()) < count and time.monotonic() < until:
                if process.poll() is not None:
                    return ""
                time.sleep(0.1)
            with suppress(subprocess.TimeoutExpired):
                process.wait(self._chance.random())
                return ""
            self._look()
            if time.monotonic() > until or self._chance.random() < drivers:
                how = self._chance.choice(["driver killed alone", "driver killed with all it started"])
                self.kills[how] += 1
                if how == "driver killed alone":
                    process.kill()
                else:
                    os.killpg(process.pid, signal.SIGKILL)
                return how
            trials = [one for one in self._processes() if one.name().startswith("ray::ImplicitFunc")]
            if trials:
                with suppress(psutil.NoSuchProcess):
                    self._chance.choice(trials).kill()
                    self.kills["trial's process killed"] += 1

    def _keep_what_is_reached(self) -> None:
        """Leaves the study with the seeds that it has reached; it takes them in order."""
        reached = [spec.seed or 0 for trial, spec in self._plan().items() if trial in self._written]
        self._study["seeds"] = list(range(max(reached, default=0) + 1))
        self._command = command(self._at, self._study)

    def _look(self) -> None:
        """Notes which trials have finished, and whose record was written again."""
        for path in self._records():
            written = path.stat().st_mtime_ns
            if path.stem not in self._written and load_record(path).status == "finished":
                self._written[path.stem] = written
            if self._written.get(path.stem, written) != written:
                self._rewritten.add(path.stem)

    def _records(self) -> list[Path]:
        return list(Path(str(self.folder.records)).glob("[!.]*.json"))

    def _processes(self) -> Iterator[psutil.Process]:
        """All processes of this run."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    yield process

    def told(self) -> str:
        """What was done, in words."""
        counts = ", ".join(f"{number} {how}" for how, number in sorted(self.kills.items()))
        restarted = sum(len(RESTARTED.findall(output)) for output in self.outputs)
        return f"{len(self.outputs)} commands, {counts}, {restarted} trials started again by their driver"

    def left(self) -> Iterator[str]:
        """Processes, half-written files and checkpoints that are still there."""
        deadline = time.monotonic() + PATIENCE
        while (processes := list(self._processes())) and time.monotonic() < deadline:
            time.sleep(1)
        yield from (f"process {one.pid} is left: {' '.join(one.cmdline())[:100]}" for one in processes)
        for path in sorted(self._at.rglob("*")):
            if re.match(TEMPORARY, path.name) or path.parent.name == "checkpoints" or path.name == ".tune":
                yield f"{path.relative_to(self._at)} is left"

    def records_wrong(self) -> Iterator[str]:
        """What does not hold of the records."""
        if self._status:
            yield f"the last command ends with status {self._status}"
        records, plan = load_records(self.folder.records), self._plan()
        found = set(records)
        yield from (f"{trial} has no record" for trial in set(plan) - found)
        yield from (f"{trial} is not in the plan" for trial in found - set(plan))
        yield from (
            f"{i} is {one.status}: {one.error}" for i, one in records.items() if one.status != "finished"
        )
        yield from (f"the record of {trial} was written again" for trial in self._rewritten)
        lines = [line for output in self.outputs for line in ENDED.findall(output)]
        ends = Counter(trial for trial, what in lines if "failed" not in what)
        yield from (
            f"the end of {trial} was told {number} times" for trial, number in ends.items() if number > 1
        )
        trained = [trial for trial, spec in plan.items() if spec.prior is not None]
        for kind, place in ("posterior", self.folder.posterior), ("figure", self.folder.figure):
            yield from (f"{trial} has no {kind}" for trial in trained if not place(trial).exists())

    def tracking_wrong(self) -> Iterator[str]:
        """What does not hold of MLflow's runs."""
        client = MlflowClient(f"sqlite:///{self._at}/mlflow.db")
        experiment = client.get_experiment_by_name("softprior/endurance")
        assert experiment is not None
        states: dict[str, list[str]] = {trial: [] for trial in self._plan()}
        token: str | None = None
        while token != "":
            page = client.search_runs([experiment.experiment_id], page_token=token)
            token = page.token or ""
            for run in page:
                trial = run.data.tags.get("softprior.trial")
                if trial is not None:
                    states.setdefault(trial, []).append(run.info.status)
        for trial, said in states.items():
            if said != ["FINISHED"]:
                yield f"MLflow has of {trial} the runs {said}"

    def sample_wrong(self, count: int) -> Iterator[str]:
        """Trials that are not what they are without kills."""
        plan, records = self._plan(), load_records(self.folder.records)
        short = {trial for output in self.outputs for trial in RESTARTED.findall(output)}
        first = [trial for trial in plan if any(trial.startswith(name) for name in short)]
        others = [trial for trial in plan if trial not in first]
        self._chance.shuffle(others)
        limit_threads(1)
        alone = StudyFolder(self._at / "alone")
        chosen = [*first, *others][:count]
        print(
            f"{len(chosen)} trials run again alone, {len(first[:count])} of them had lost a process",
            flush=True,
        )
        given = load_local(load_grid(self._at / "study.yaml").model)
        for trial in chosen:
            own = Trial(Setup(plan[trial], *given), alone, lambda _: None).run()
            if trial in records and not self._equal(own, records[trial], alone):
                yield f"{trial} has other numbers than alone"

    def _equal(self, own: Record, found: Record, alone: StudyFolder) -> bool:
        if (own.steps, own.validation, own.test) != (found.steps, found.validation, found.test):
            return False
        if own.spec.prior is None:
            return True
        one, other = (load_posterior(folder.posterior(own.id)).final for folder in (alone, self.folder))
        return one.keys() == other.keys() and all(torch.equal(one[place], other[place]) for place in one)

    def _plan(self) -> dict[str, TrialSpec]:
        return {trial.id: trial for trial in plan_study(load_grid(self._at / "study.yaml")).trials}


if __name__ == "__main__":
    main()
