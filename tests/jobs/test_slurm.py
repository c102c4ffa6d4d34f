"""A study as a batch job of Slurm, with programs that stand in for Slurm; test_slurm_nodes has a real one."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from ray.scripts.scripts import cli

from jobs.slurm import __main__ as job
from jobs.slurm import node, requeueing, scratch
from jobs.slurm.allocation import LEAST_OBJECTS, MIB, Allocation, Share, memory_of
from jobs.slurm.progress import results_of, saved
from jobs.slurm.supervising import LOST
from jobs.support.stopping import SUBMITTED, how_to_go_on
from softprior.errors import UserError
from softprior.studies.nodes import await_nodes
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


def test_a_signal_before_python_listens_is_explained(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nkill -USR1 $PPID\n")
    python.chmod(0o755)
    status, said = batch(ROOT, "x.yaml", SOFTPRIOR_ENV=str(tmp_path))
    assert (status, said.count("\n")) == (2, 1)
    assert "the time limit was reached before the study began" in said


def test_a_study_of_a_batch_job_goes_on_by_submitting_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUBMITTED, "4711")
    assert how_to_go_on() == "submit the same job again to continue"


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
        ("SLURM_JOB_ID", "this is not a Slurm job"),
        ("SLURM_MEM_PER_NODE", "has requested no memory"),
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
        ("exec /bin/sleep 60", "(none began in 1 seconds)"),
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
    assert job.main(["--wait=1", str(study_file(tmp_path / "small.yaml"))]) == 2
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
    both = {"SLURM_MEM_PER_NODE": "500", "SLURM_MEM_PER_CPU": "1000"}
    assert memory_of(both, cpus=8, gpus=4) == 500 * MIB, "one rule holds, not their sum"
    for nothing in ({"SLURM_MEM_PER_GPU": "1000"}, {"SLURM_MEM_PER_CPU": "0"}):
        with pytest.raises(UserError, match=r"the job has no memory on a node .* give sbatch --mem=SIZE"):
            memory_of(nothing, cpus=8, gpus=0)
    with pytest.raises(UserError, match="not a step of a job"):
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
        assert given.get("--node-ip-address") == (None if index else "192.0.2.1")


def test_a_node_has_a_folder_of_its_own_that_goes_with_it(tmp_path: Path) -> None:
    share = Share.of(JOB | {"SLURM_NODEID": "2"})
    long = tmp_path / ("x" * 40)
    long.mkdir()
    with scratch.folder(share, {"TMPDIR": str(long)}) as own:
        assert own.parent == Path("/tmp"), "a socket below TMPDIR would have a path that is too long"
        assert own.stat().st_mode & 0o777 == 0o700
        socket = f"{own}/session_2026-11-26_22-07-25_123456_1234567/sockets/plasma_store"
        assert len(socket) <= 107
    assert not own.exists()
    short = Path(f"/tmp/{tmp_path.parts[-1][-6:]}{os.getpid()}")
    left = short / "sp-4711-2-12345678"
    left.mkdir(parents=True)
    kept = ("sp-4711-1-12345678", "sp-4712-0-12345678")
    for name in (*kept, "sp-4713-0-12345678"):
        (short / name).mkdir()
        (short / name / scratch.LOCK).touch()
        if name != kept[0]:
            os.utime(short / name, (0, 0))
    try:
        with (short / kept[1] / scratch.LOCK).open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with scratch.folder(share, {"TMPDIR": str(short)}) as own:
                assert own.parent == short
                assert not left.exists(), "a killed run of this job has left it"
        # One may only be starting, one is in use; a killed run of another job has left the third.
        assert sorted(path.name for path in short.iterdir()) == sorted(kept)
    finally:
        shutil.rmtree(short)


def test_a_node_waits_for_the_head_only_so_long() -> None:
    (port,) = node.free_ports(1)
    assert port not in node.free_ports(50, port)
    with pytest.raises(UserError, match=f"0 seconds for Ray on the first node, at 127.0.0.1:{port}"):
        node.await_head(f"127.0.0.1:{port}", 0)


def test_nodes_are_awaited_only_as_long_as_that_can_help() -> None:
    (port,) = node.free_ports(1)
    with pytest.raises(UserError, match=r"Ray on the first node, at .* give it longer with --wait") as none:
        await_nodes(f"127.0.0.1:{port}", count=1, patience=0)
    assert "RAY_ADDRESS" not in str(none.value), "the job has set it"
    asked = []

    class Refusing(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            asked.append(details.method)
            return grpc.unary_unary_rpc_method_handler(
                lambda _, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "another token")
            )

    server = grpc.server(ThreadPoolExecutor(1), handlers=[Refusing()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(UserError, match="asks for its token"):
            await_nodes(f"127.0.0.1:{port}", count=1, patience=60)
    finally:
        server.stop(None)
    assert len(asked) == 1


PYTHON = """#!/bin/sh
# In place of the environment's Python: Ray is there at once, and the study runs until it is stopped.
echo "$@" >> {folder}/python
case "$*" in
  *jobs.slurm.ready*) exit {ready} ;;
  *jobs.study*)
    echo "$RAY_ADDRESS $RAY_AUTH_MODE $RAY_AUTH_TOKEN" > {folder}/environment
    test {status} = 143 || exit {status}
    trap '{end}' TERM
    test -z "{saves}" || {{ mkdir -p {folder}/results/small/records; echo > {folder}/results/small/{saves}; }}
    echo "$SOFTPRIOR_SUBMITTED" > {folder}/submitted
    for one in {signal}; do kill -$one $PPID; done
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
case "$*" in *show*) echo "JobId=4711 JobState={state} Reason=None" ;; esac
"""

RUN = """
import sys
from jobs.slurm import __main__ as job, supervising
sys.executable, supervising.LOOK, supervising.PATIENCE = sys.argv[1], 0.05, 0.3
sys.exit(job.main(sys.argv[2:]))
"""


class StandIn:
    """Programs that stand in for Slurm and Ray, and write down what they are asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._study = study_file(folder / "small.yaml")

    def run(self, *options: str, **changes: object) -> tuple[int, str]:
        """The status and the error of a job; `changes` of what the programs do."""
        said = {"folder": self._folder, "ready": 0, "signal": "USR1", "status": 143, "state": "RUNNING"}
        said |= {"end": "exit 143", "saves": "records/0.json"}
        shutil.rmtree(self._folder / "results", ignore_errors=True)
        for name, text in {"python": PYTHON, "srun": SRUN, "scontrol": SCONTROL}.items():
            program = self._folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            (self._folder / name).unlink(missing_ok=True)
            program.write_text(text.format(**(said | changes)))
            program.chmod(0o755)
        path = f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [
                *(sys.executable, "-c", RUN, str(self._folder / "bin" / "python")),
                *(*options, str(self._study), "--results", str(self._folder / "results")),
            ],
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
    assert slurm.asked("scontrol") == ["--oneliner show job 4711", "requeue 4711"]
    assert slurm.asked("submitted") == ["4711"]


def test_a_run_that_saves_nothing_is_not_put_back(slurm: StandIn) -> None:
    """It ended while it imported or planned, or its checkpoints are further apart than its time limit."""
    status, said = slurm.run(saves="")
    assert (status, said.count("\n")) == (2, 1)
    assert "finished no trial and saved no checkpoint" in said
    assert not slurm.asked("scontrol")


def test_a_study_that_does_not_stop_is_killed_in_time_to_go_back(slurm: StandIn) -> None:
    assert slurm.run(end=":") == (137, "the study has not stopped within 0.3 seconds and is killed\n")
    assert slurm.asked("scontrol")[-1] == "requeue 4711"


def test_a_job_that_is_cancelled_near_its_time_limit_stays_out_of_the_queue(slurm: StandIn) -> None:
    assert slurm.run(signal="USR1 TERM") == (143, "")
    assert not slurm.asked("scontrol")
    assert slurm.run(state="COMPLETING") == (143, "")
    assert slurm.asked("scontrol") == ["--oneliner show job 4711"]


def test_what_a_study_has_saved_is_where_its_file_and_arguments_say(tmp_path: Path) -> None:
    study = study_file(tmp_path / "small.yaml")
    folder = results_of(
        "jobs.study", study, ["seeds=[0]", "--results", str(tmp_path), "name=other", "--again"]
    )
    assert folder == tmp_path / "other"
    assert results_of("jobs.study", study, []) == Path.cwd() / "results" / "small"
    assert results_of("jobs.study", study, ["--results"]) is None
    assert saved(None) == saved(folder) == frozenset()
    checkpoint = tmp_path / "other" / "checkpoints" / "1a.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    (tmp_path / "other" / "parts").mkdir()
    (tmp_path / "other" / "parts" / "w.beat.json").touch()  # a worker writes one at its start
    (before,) = saved(folder)
    assert before[0] == str(checkpoint)
    os.utime(checkpoint, (1, 1))
    assert len(saved(folder) - {before}) == 1, "a later checkpoint has the same name"


@pytest.mark.parametrize("wait", ["inf", "nan", "-1", "0", "1.5"])
def test_the_patience_of_a_job_is_a_number_of_seconds(wait: str, capsys) -> None:
    with pytest.raises(SystemExit):
        job._parser().parse_args([f"--wait={wait}", "study.yaml"])
    assert f"'{wait}' must be a positive whole number of seconds" in capsys.readouterr().err


def test_a_head_whose_address_is_the_loopback_is_refused_elsewhere() -> None:
    node.require_way("127.0.1.1:5000", os.uname().nodename)
    node.require_way("192.0.2.1:5000", "other")
    with pytest.raises(UserError, match=r"address of other is 127\.0\.1\.1, by which .* reaches only itself"):
        node.require_way("127.0.1.1:5000", "other")


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
    monkeypatch.setattr(requeueing, "PAUSE", 0)
    with pytest.raises(UserError, match=r"\(Requested operation is presently disabled\); submit it again"):
        job.requeue(Allocation("4711", nodes=1, cpus=1, restarts=99))
    with pytest.raises(UserError, match="100 times and now stays out of it"):
        job.requeue(Allocation("4711", nodes=1, cpus=1, restarts=100))
    asked = tmp_path / "asked"
    scontrol.write_text(
        f"#!/bin/sh\necho >> {asked}\n"
        'case "$*" in *show*) echo JobState=RUNNING ;; esac\n'
        f"test $(/usr/bin/wc -l < {asked}) -ne 1\n"
    )
    assert job.requeue(Allocation("4711", nodes=1, cpus=1, restarts=0)), "a busy controller is asked again"
    assert asked.read_text().count("\n") == 3
    monkeypatch.setattr(requeueing, "TIMEOUT", 0.05)
    scontrol.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    with pytest.raises(UserError, match=r"scontrol has not answered in 0\.05 seconds"):
        job.requeue(Allocation("4711", nodes=1, cpus=1, restarts=0))
    scontrol.unlink()
    with pytest.raises(UserError, match="scontrol: No such file"):
        job.requeue(Allocation("4711", nodes=1, cpus=1, restarts=0))


SUPERVISED = """
import signal, sys
from jobs.slurm import supervising
supervising.LOOK = 0.05
def run(step, *codes):
    signals = supervising.Signals()
    with supervising.running_nodes(["sh", "-c", step], {}, signals) as nodes:
        print([nodes.run(["sh", "-c", code]) for code in codes], signals.asked)
run("exec cat", "exit 3", "kill -9 $$", "exit 0")
run("exit 1", "exec sleep 60")
run("exit 2", "exec sleep 60")
run("exit 1", "trap 'exit 0' TERM; while :; do sleep 0.02; done")
run("exec cat", "kill -USR1 $PPID; exec sleep 60")
run("sleep 0.2", "trap 'sleep 0.4; exit 1' TERM; kill -USR1 $PPID; while :; do sleep 0.02; done")
"""


def test_nothing_goes_on_without_ray_or_against_a_signal() -> None:
    done = subprocess.run([sys.executable, "-c", SUPERVISED], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "[3, 137, 0] None",
        f"[{LOST}] None",
        "[2] None",  # a node has said what must be mended
        "[0] None",  # all was done when Ray ended
        "[143] 10",
        "[1] 10",  # the study's own status: its failed trials are not put back
    ], done.stderr
    assert done.stderr == "error: Ray has ended on the nodes of the job; the lines above say why\n"


RAY = """#!/bin/sh
# In place of the environment's Python: Ray as far as a node sees it.
echo "$TMPDIR" >> {folder}/started
mkdir -p "$TMPDIR/session_2026/logs" "$TMPDIR/session_2026/sockets"
{does}
"""

HOLD = """
import sys
from jobs.slurm import node
sys.executable, node.LOOK = sys.argv[1], 0.05
sys.exit(node.main(["127.0.0.1:" + sys.argv[2], "--wait=5", "--machine=other"]))
"""


def a_node(folder: Path, does: str, index: int = 0) -> subprocess.Popen[str]:
    """A node whose Ray is a script; it lives as long as its standard input, or that script."""
    ray = folder / "ray"
    ray.write_text(RAY.format(folder=folder, does=does))
    ray.chmod(0o755)
    variables = JOB | {"SLURM_NODEID": str(index), "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": "/tmp"}
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(ray), str(node.free_ports(1)[0])],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("SLURM_")} | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("told", ["end of input", "SIGTERM"])
def test_a_node_ends_ray_when_it_is_told_to(told: str, tmp_path: Path) -> None:
    held = a_node(
        tmp_path,
        f"trap 'echo > {tmp_path}/ended; exit 1' TERM\necho > {tmp_path}/traps\nwhile :; do sleep 0.05; done",
    )
    while not (tmp_path / "traps").exists():
        assert held.poll() is None
        time.sleep(0.01)
    if told == "SIGTERM":
        held.send_signal(signal.SIGTERM)
        assert held.wait() == 0
    assert held.communicate() == ("", "")
    assert held.returncode == 0
    assert (tmp_path / "ended").exists(), "Ray had its time to end"
    assert not Path((tmp_path / "started").read_text().strip()).exists()


def test_a_node_says_why_ray_has_ended_and_keeps_its_log(tmp_path: Path) -> None:
    held = a_node(
        tmp_path,
        'echo "the store is full" > "$TMPDIR/session_2026/logs/raylet.out"\n'
        'echo nothing > "$TMPDIR/session_2026/logs/monitor.out"\n'
        "for i in $(seq 30); do echo line $i; done; echo 'raylet [exit code=7]'; exit 7",
    )
    assert held.wait() == 1
    lines = held.communicate()[1].splitlines()
    assert lines[0] == "line 12", "twenty lines"
    assert lines[19:21] == [
        "raylet [exit code=7]",
        f"error: Ray has ended on {os.uname().nodename} with status 7",
    ]
    assert (tmp_path / "softprior-4711-node0-raylet.out").read_text() == "the store is full\n"
    assert sorted(path.name for path in tmp_path.glob("softprior-*")) == ["softprior-4711-node0-raylet.out"]


def test_a_node_starts_again_if_its_port_was_taken(tmp_path: Path) -> None:
    held = a_node(
        tmp_path, f"test $(wc -l < {tmp_path}/started) -gt 1 || {{ echo Address already in use; exit 1; }}"
    )
    assert held.wait() == 1, "the head ended by itself, the second time"
    held.communicate()
    assert (tmp_path / "started").read_text().count("\n") == 2


def test_a_worker_does_not_ask_itself_for_the_head(tmp_path: Path) -> None:
    said = a_node(tmp_path, "exit 0", index=1).communicate()[1]
    assert "error: Slurm's address of other is 127.0.0.1" in said
    assert not (tmp_path / "started").exists()
