"""The cluster of a study: what it says when there is none, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import psutil
import pytest

from jobs import study as command
from jobs.support.exits import WRONG
from softprior.errors import UserError
from softprior.inputs.specs import ResourcesSpec
from softprior.library.studies import load_study, plan, run
from softprior.studies import cluster
from softprior.studies.cluster import PRELOADED, Cluster
from softprior.training.threads import thread_environment
from tests.builders import study_file
from tests.ray_head import free_ports

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


def ours() -> dict[str, str | None]:
    """The variables that a cluster sets; Ray sets some of its own as it is imported."""
    names = (*thread_environment(1), "RAY_CHDIR_TO_TRIAL_DIR", "RAY_preload_python_modules")
    return {name: os.environ.get(name) for name in names}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the study command says of something that it refuses."""
    assert command.main([*arguments]) == WRONG
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def test_a_machine_too_busy_for_ray_is_one_sentence(monkeypatch, tmp_path, capsys) -> None:
    import ray

    def late(**_: object) -> None:
        ray._private.services.get_node("no cluster", "no node")

    def unknown(*_: object) -> None:
        raise RuntimeError("no such node")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", late)
    monkeypatch.setattr(ray._private.services, "get_node", unknown)
    monkeypatch.setattr(cluster, "WAIT", 0)
    file = study_file(tmp_path / "small.yaml", tracking={"enabled": False})
    said = refused(capsys, str(file), "--results", str(tmp_path))
    assert "Ray did not start on this machine within 0 seconds" in said


def test_more_cpus_than_the_machine_has_are_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    file = study_file(tmp_path / "small.yaml", resources={"cpus": 999})
    said = refused(capsys, str(file), "--results", str(tmp_path / "results"))
    assert re.search(r"asks for 999 CPUs, but this machine has \d+; lower resources\.cpus", said)
    with pytest.raises(UserError, match="asks for 999 CPUs, but this machine has"):
        run(plan(load_study(file)), tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_only_workers_that_run_trials_import_what_trials_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for trials, imported in ((True, PRELOADED), (False, "")):
        assert Cluster(ResourcesSpec(cpus=1), trials=trials)._preloaded() == imported


def test_more_gpus_than_any_node_has_are_refused_and_ray_is_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = ours()
    file = study_file(
        tmp_path / "small.yaml", tracking={"enabled": False}, resources={"cpus": 1, "gpus": 999}
    )
    said = refused(capsys, str(file), "--results", str(tmp_path / "results"))
    assert re.search(r"asks for 999 GPUs, but torch sees \d+ on this machine; lower resources\.gpus", said)
    assert not (tmp_path / "results").exists()
    monkeypatch.setenv("RAY_USE_MULTIPROCESSING_CPU_COUNT", "1")  # it is left to Ray
    said = refused(capsys, str(file), "--results", str(tmp_path))
    assert re.search(r"a trial or worker asks for 1 CPU and 999 GPUs, but .* lower resources\.cpus", said)
    monkeypatch.delenv("RAY_USE_MULTIPROCESSING_CPU_COUNT")
    import ray

    assert not ray.is_initialized()
    assert ours() == before
    with Cluster(ResourcesSpec(cpus=1)):
        assert ray.is_initialized()
        assert os.environ["OMP_NUM_THREADS"] == "1"
        commands = [" ".join(child.cmdline()) for child in psutil.Process().children()]

        @ray.remote(num_cpus=1)
        def stands_for_platform() -> str:
            import platform

            return f"{platform.__file__} {platform.system()}"

        found = ray.get(stands_for_platform.remote())
    assert not ray.is_initialized()
    assert ours() == before
    assert found.endswith("/platform.py Linux"), "the source root hides the standard library's module"
    # A signal to the whole process group would reach an autoscaler, and its traceback the screen.
    assert any("gcs_server" in command for command in commands)
    assert not any(name in command for name in ("monitor.py", "dashboard.py") for command in commands)


def test_what_a_quiet_backend_says_first_is_not_on_the_screen() -> None:
    """In a process of its own, since the backend says it once; what others say meanwhile is kept."""
    code = (
        "import os\n"
        "from ray import _raylet\n"
        "from softprior.inputs.specs import ResourcesSpec\n"
        "from softprior.studies.cluster import Cluster\n"
        "begin = _raylet.CoreWorker\n"
        "_raylet.CoreWorker = lambda *given: (os.write(2, b'a warning\\n'), begin(*given))[1]\n"
        "with Cluster(ResourcesSpec(cpus=1), quiet=True):\n"
        "    os.write(2, b'connected\\n')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == ["a warning", "connected"]


@pytest.mark.parametrize("address", ["nonsense:abc", "127.0.0.1"])
def test_an_address_that_is_none_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with (
        pytest.raises(UserError, match=f"no Ray cluster answers at RAY_ADDRESS={address}") as refused,
        Cluster(ResourcesSpec(cpus=1)),
    ):
        pytest.fail("there is nothing")
    assert "\n" not in str(refused.value)


def test_a_dry_run_on_an_address_that_is_none_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nonsense:abc")
    file = study_file(tmp_path / "small.yaml", tracking={"enabled": False})
    said = refused(capsys, str(file), "--dry-run", "--results", str(tmp_path))
    assert "no Ray cluster answers at RAY_ADDRESS=nonsense:abc" in said


def test_a_cluster_of_this_machine_that_is_gone_is_told_in_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ray._private import services

    monkeypatch.setattr(services, "find_gcs_addresses", cache(set))  # without those of other tests
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    started = time.monotonic()
    with (
        pytest.raises(UserError, match=r"=auto \(this machine has none"),
        Cluster(ResourcesSpec()),
    ):
        pytest.fail("there is nothing")
    (port,) = free_ports(1)
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")
    with pytest.raises(UserError, match=rf"RAY_ADDRESS=\S+:{port} "), Cluster(ResourcesSpec()):
        pytest.fail("it is gone")
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:8265", "is where jobs are submitted"),
        ("ray://127.0.0.1:10001", "is for Ray's client"),
    ],
)
def test_other_addresses_of_a_cluster_are_told_from_that_of_drivers(
    monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with (
        pytest.raises(UserError, match=rf"{said}.* HOST:PORT"),
        Cluster(ResourcesSpec()),
    ):
        pytest.fail("there is nothing")


def test_a_ray_that_cannot_be_imported_is_an_error_and_no_wait_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError), Cluster(ResourcesSpec(cpus=1)):
        pytest.fail("Ray is not there")


def test_a_long_folder_for_temporary_files_has_room_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "/tmp/" + 5 * "verylongdirectoryname"
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    assert cluster._short_folder() == {}
    monkeypatch.setattr("tempfile.tempdir", long)
    assert cluster._short_folder() == {"_temp_dir": f"/tmp/ray-{os.getuid()}"}
    monkeypatch.setenv("RAY_TMPDIR", long)
    with pytest.raises(
        UserError, match=r"RAY_TMPDIR = .* has 110 characters, and .* at most 38; set it to a shorter"
    ):
        cluster._short_folder()


def test_ray_does_not_hear_passwords_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import utils

    monkeypatch.setattr(
        utils, "get_entrypoint_name", lambda: "python -m jobs.study tracking.uri=http://u:geheim@h"
    )
    with cluster._hidden_command():
        assert utils.get_entrypoint_name() == "python -m jobs.study tracking.uri=http://u:***@h"
    assert "geheim" in utils.get_entrypoint_name()
