"""A study as a batch job of Slurm, with programs that stand in for Slurm; test_slurm_nodes has a real one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ray.scripts.scripts import cli

from jobs.slurm import __main__ as job
from jobs.slurm import node
from jobs.slurm.allocation import LEAST_OBJECTS, MIB, Allocation, Share
from softprior.errors import UserError
from tests.builders import study_file

ROOT = Path(__file__).parents[2]
BATCH = ROOT / "jobs" / "slurm" / "study.sbatch"

JOB = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_CPUS_PER_TASK": "8",
    "SLURM_MEM_PER_NODE": "32768",
}
"""What Slurm sets in the batch script of a job of three nodes."""


def test_the_batch_file_is_one_for_bash_and_asks_slurm_for_what_a_study_needs() -> None:
    subprocess.run(["bash", "-n", BATCH], check=True)
    lines = BATCH.read_text(encoding="utf-8").splitlines()
    asked = [line.split()[1] for line in lines if line.startswith("#SBATCH ")]
    assert {"--ntasks-per-node=1", "--requeue", "--open-mode=append"} <= set(asked)
    assert f"--signal=B:{job.LIMIT.name.removeprefix('SIG')}@180" in asked
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not [line for line in lines[first:] if line.startswith("#SBATCH")], "Slurm does not read these"


def batch(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """The status and the error of the batch file where there is no Slurm."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SOFTPRIOR_ENV", "VIRTUAL"))}
    command = ["bash", str(BATCH), *arguments]
    done = subprocess.run(command, cwd=folder, env=kept | variables, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_what_is_missing_before_anything_starts_is_said_in_one_sentence(tmp_path: Path) -> None:
    here = str(Path(sys.executable).parents[1])
    bare = tmp_path / "bare" / "bin"
    bare.mkdir(parents=True)
    (bare / "python").write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')  # without any package
    (bare / "python").chmod(0o755)
    status, said = batch(ROOT, "x.yaml", SOFTPRIOR_ENV=str(bare.parent))
    assert status == 2
    assert "has no Python with Ray and softprior" in said
    status, said = batch(ROOT, "x.yaml", SOFTPRIOR_ENV="/nowhere")
    assert (status, said.count("\n")) == (2, 1)
    assert "SOFTPRIOR_ENV=/nowhere has no bin folder" in said
    status, said = batch(tmp_path, "x.yaml", SOFTPRIOR_ENV=here)
    assert (status, said.count("\n")) == (2, 1)
    assert f"{tmp_path} is not the root of a softprior checkout" in said


@pytest.fixture
def in_job(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The variables of the job, and none of another that the tests themselves may run in."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(
    ("missing", "rule"),
    [
        ("SLURM_JOB_ID", "this is no job of Slurm"),
        ("SLURM_MEM_PER_NODE", "has not asked for memory"),
        ("SLURM_CPUS_PER_TASK", "--cpus-per-task=NUMBER"),
        (None, "there is no study file nothing.yaml"),
    ],
)
def test_a_job_that_cannot_run_says_why_in_one_sentence(
    missing: str | None, rule: str, in_job: pytest.MonkeyPatch, capsys
) -> None:
    if missing is not None:
        in_job.delenv(missing)
    assert job.main(["nothing.yaml"]) == 2
    said = capsys.readouterr().err
    assert (said.startswith("error: "), said.count("\n")) == (True, 1)
    assert rule in said


@pytest.mark.parametrize(
    ("srun", "rule"),
    [
        (None, "there is no srun in PATH"),
        ("echo srun: error: Invalid account >&2; exit 1", "(srun: error: Invalid account)"),
        ("exec /bin/sleep 60", "(none began in 0.2 seconds)"),
    ],
)
def test_a_job_that_cannot_start_steps_says_why(
    srun: str | None, rule: str, in_job: pytest.MonkeyPatch, capsys, tmp_path: Path
) -> None:
    if srun is not None:
        program = tmp_path / "srun"
        program.write_text(f"#!/bin/sh\n{srun}\n")
        program.chmod(0o755)
    in_job.setenv("PATH", str(tmp_path))
    assert job.main(["--wait=0.2", str(study_file(tmp_path / "small.yaml"))]) == 2
    said = capsys.readouterr().err
    assert (said.startswith("error: "), said.count("\n")) == (True, 1)
    assert rule in said


def test_a_job_is_what_the_variables_of_slurm_say() -> None:
    again = Allocation.of(JOB | {"SLURM_RESTART_COUNT": "2"})
    assert again == Allocation("4711", nodes=3, cpus=8, restarts=2)
    second = JOB | {"SLURM_NODEID": "1", "SLURM_GPUS_ON_NODE": "4"}
    assert Share.of(second) == Share(False, "4711", 1, cpus=8, gpus=4, memory=32 * 2**30)
    for unit, count in (("CPU", 8), ("GPU", 4)):
        variables = {k: v for k, v in second.items() if "MEM" not in k} | {f"SLURM_MEM_PER_{unit}": "1000"}
        assert Share.of(variables).memory == count * 1000 * MIB
    whole = Share.of(second | {"SLURM_MEM_PER_NODE": "0"}).memory
    assert whole == int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    first = Share.of(JOB | {"SLURM_NODEID": "0", "SLURM_MEM_PER_NODE": "200"})
    assert (first.head, first.gpus, first.objects) == (True, 0, LEAST_OBJECTS)
    with pytest.raises(UserError, match="no step of a job"):
        Share.of(JOB)


def test_a_node_takes_what_the_job_has_and_ports_that_are_free() -> None:
    options = cli.commands["start"].params
    known = {name for option in options for name in option.opts}
    fixed = {"10001", *(str(option.default) for option in options if "port" in option.name)}
    for index in (0, 1):
        share = Share.of(JOB | {"SLURM_NODEID": str(index)})
        command = node.start_command(share, "192.0.2.1:5000", Path("/tmp/own"))
        given = dict(option.partition("=")[::2] for option in command if option.startswith("--"))
        assert set(given) <= known
        ports = [value for name, value in given.items() if name.endswith("port") and "worker" not in name]
        assert len(set(ports)) == len(ports) == 8 - 2 * index
        assert not fixed & set(ports)
        assert (given["--num-cpus"], given["--num-gpus"]) == ("8", "0")
        assert int(given["--memory"]) + int(given["--object-store-memory"]) == 32 * 2**30
        assert ("--head" in given) is (index == 0)
        assert given.get("--address") == ("192.0.2.1:5000" if index else None)


def test_a_node_has_a_folder_of_its_own_that_goes_with_it(tmp_path: Path) -> None:
    share = Share.of(JOB | {"SLURM_NODEID": "2"})
    long = tmp_path / ("x" * 40)
    long.mkdir()
    with node.folder(share, {"TMPDIR": str(long)}) as own:
        assert own.parent == Path("/tmp"), "a socket below TMPDIR would have a path that is too long"
        assert own.stat().st_mode & 0o777 == 0o700
        socket = f"{own}/session_2026-11-26_22-07-25_123456_1234567/sockets/plasma_store"
        assert len(socket) <= 107
    assert not own.exists()
    short = Path(f"/tmp/{tmp_path.parts[-1][-6:]}{os.getpid()}")
    left = short / "sp-4711-2-12345678"
    left.mkdir(parents=True)
    (short / "sp-4711-1-12345678").mkdir()
    try:
        with node.folder(share, {"TMPDIR": str(short)}) as own:
            assert own.parent == short
            assert not left.exists(), "a killed run of this job has left it"
        assert [path.name for path in short.iterdir()] == ["sp-4711-1-12345678"], "another node's"
    finally:
        shutil.rmtree(short)


def test_a_node_waits_for_the_head_only_so_long() -> None:
    (port,) = node.free_ports(1)
    with pytest.raises(UserError, match=f"0 seconds for Ray on the first node, at 127.0.0.1:{port}"):
        node.await_head(f"127.0.0.1:{port}", 0)


PYTHON = """#!/bin/sh
# In place of the environment's Python: Ray is there at once, and the study runs until it is stopped.
echo "$@" >> {folder}/python
case "$*" in
  *jobs.slurm.ready*) exit {ready} ;;
  *jobs.study*)
    echo "$RAY_ADDRESS $RAY_AUTH_MODE $RAY_AUTH_TOKEN" > {folder}/environment
    test {status} = 143 || exit {status}
    trap 'exit 143' TERM
    kill -{signal} $PPID
    while :; do sleep 0.05; done ;;
esac
"""

SRUN = """#!/bin/sh
# In place of Slurm's own: the nodes are there for as long as standard input is open.
echo "$@" >> {folder}/srun
case "$*" in *printenv*) echo 192.0.2.7 ;; *) exec cat ;; esac
"""

SCONTROL = """#!/bin/sh
echo "$@" >> {folder}/scontrol
"""

RUN = """
import sys
from jobs.slurm import __main__ as job, supervising
sys.executable, supervising.LOOK = sys.argv[1], 0.05
sys.exit(job.main(sys.argv[2:]))
"""


class StandIn:
    """Programs that stand in for Slurm and Ray, and write down what they are asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._study = study_file(folder / "small.yaml")

    def run(self, *options: str, **changes: object) -> tuple[int, str]:
        """The status and the error of a job; `changes` of what the programs do."""
        said = {"folder": self._folder, "ready": 0, "signal": "USR1", "status": 143}
        for name, text in {"python": PYTHON, "srun": SRUN, "scontrol": SCONTROL}.items():
            program = self._folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            (self._folder / name).unlink(missing_ok=True)
            program.write_text(text.format(**(said | changes)))
            program.chmod(0o755)
        path = f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(self._folder / "bin" / "python"), *options, str(self._study)],
            cwd=ROOT,
            env=os.environ | JOB | {"PATH": path},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr

    def asked(self, name: str) -> list[str]:
        """What a program was asked, a line each time."""
        written = self._folder / name
        return written.read_text().splitlines() if written.exists() else []


@pytest.fixture
def slurm(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)


def test_a_study_near_its_time_limit_stops_in_order_and_goes_back_into_the_queue(slurm: StandIn) -> None:
    assert slurm.run() == (143, "")
    ask, step = slurm.asked("srun")
    assert "--nodes=1 --ntasks=1" in ask
    for option in ("--overlap", "--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "--cpus-per-task=8"):
        assert option in step.split()
    ready, study = slurm.asked("python")
    address, mode, token = slurm.asked("environment")[0].split()
    assert address.startswith("192.0.2.7:")
    assert f"jobs.slurm.node {address} " in step
    assert f"jobs.slurm.ready {address} 3 " in ready
    assert mode == "token"
    assert len(token) == 64
    assert token not in "".join([ask, step, ready, study]), "other users see command lines"
    assert slurm.asked("scontrol") == ["requeue 4711"]


def test_a_job_has_the_status_of_its_study_and_is_requeued_only_to_get_on(slurm: StandIn) -> None:
    assert slurm.run(signal="TERM") == (143, "")
    assert slurm.run(status=1) == (1, "")
    assert not slurm.asked("scontrol")
    assert slurm.run(ready=2) == (2, "")
    assert len(slurm.asked("python")) == 1, "no study runs on nodes that are not there"


def test_a_job_that_cannot_go_back_into_the_queue_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\necho Requested operation is presently disabled >&2; exit 1\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"\(Requested operation is presently disabled\); submit it again"):
        job.requeue(Allocation("4711", nodes=1, cpus=1, restarts=99))
    with pytest.raises(UserError, match="100 times and stays out of it"):
        job.requeue(Allocation("4711", nodes=1, cpus=1, restarts=100))


SUPERVISED = """
import signal, sys
from jobs.slurm import supervising
supervising.LOOK = 0.05
with supervising.held(["cat"], {}) as nodes:
    print([nodes.run(["sh", "-c", code]) for code in ("exit 3", "kill -9 $$", "exit 0")], nodes.asked)
with supervising.held(["true"], {}) as nodes:
    print(nodes.run(["sleep", "60"]), nodes.asked)
with supervising.held(["cat"], {}) as nodes:
    print(nodes.run(["sh", "-c", "kill -USR1 $PPID; exec sleep 60"]), nodes.asked == signal.SIGUSR1)
"""


def test_nothing_goes_on_without_ray_or_against_a_signal() -> None:
    done = subprocess.run([sys.executable, "-c", SUPERVISED], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[3, 137, 0] None", "1 None", "143 True"], done.stderr
    assert done.stderr == "error: Ray has ended on the nodes of the job; the lines above say why\n"
