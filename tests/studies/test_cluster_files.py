"""cluster.yaml and cluster-local.yaml, as `ray up` reads them, without a cloud."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import yaml
from ray.autoscaler._private.aws.config import DEFAULT_RAY_IAM_ROLE, DEFAULT_RAY_INSTANCE_PROFILE
from ray.autoscaler._private.command_runner import _with_interactive
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli

from softprior.errors import UserError
from softprior.inputs.specs import PlacementSpec, ResourcesSpec
from softprior.studies import cluster
from softprior.studies.placement import require_room
from tests.ray_head import free_ports

ROOT = Path(__file__).parents[2]


def prepared(name: str) -> dict[str, Any]:
    """What `ray up` makes of a file, and leaves on the head."""
    config = prepare_config(yaml.safe_load((ROOT / name).read_text(encoding="utf-8")))
    validate_config(config)
    return config


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster-local.yaml"])
def test_the_launcher_accepts_the_file(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(
        "HOME", str(tmp_path)
    )  # the launcher keeps the state of a local cluster below /tmp/ray
    config = prepared(name)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    assert any("-c requirements.lock" in command for command in config["setup_commands"])
    assert '".[cluster]"' in config["setup_commands"][-1]
    assert "cluster" in extras
    for here in config["file_mounts"].values():
        assert here.startswith("~") or (ROOT / here).exists(), here
    commands = "\n".join(config["head_start_ray_commands"])
    assert "mlflow server" in commands
    assert "--host 127.0.0.1" in commands
    told = commands + str(config.get("docker", {}))
    assert "RAY_AUTH_MODE=token" in told
    assert "RAY_AUTH_TOKEN_PATH" in told


def test_images_have_the_locked_ray() -> None:
    docker = prepared("cluster.yaml")["docker"]
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert f"\nray=={ray.__version__}\n" in locked
    for key in ("image", "head_image", "worker_image"):
        assert docker[key].startswith(f"rayproject/ray:{ray.__version__}-py311"), key


def test_the_ten_commands_fit_the_files_and_the_launcher() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    block = page.split("```sh\n")[1].split("```")[0]
    assert re.findall(r"# (\d+)\b", block) == [str(number) for number in range(1, 11)]
    for name in re.findall(r"\bray ([a-z][a-z-]+) ", page):
        assert name in cli.commands or name in ("job", "start", "stop"), name
    for file in re.findall(r"jobs/[\w/.]+\.yaml", page):
        assert (ROOT / file).exists(), file

    (edit,) = re.findall(r'sed -i "(.*)" cluster\.yaml', block)
    edit = edit.replace("$AMI", "ami-123")
    done = subprocess.run(["sed", edit, ROOT / "cluster.yaml"], capture_output=True, text=True, check=True)
    assert "CHANGE-" not in done.stdout
    kinds = yaml.safe_load(done.stdout)["available_node_types"]
    assert {kind["node_config"]["ImageId"] for kind in kinds.values()} == {"ami-123"}

    # The launcher gives the head a role of its own making, and the head must be allowed to hand it on.
    assert kinds["gpu_worker"]["node_config"]["IamInstanceProfile"] == {"Name": DEFAULT_RAY_INSTANCE_PROFILE}
    assert "IamInstanceProfile" not in kinds["head"]["node_config"]
    assert f"--role-name {DEFAULT_RAY_IAM_ROLE} " in block
    (policy,) = re.findall(r"--policy-document '(.*?)'", block, re.DOTALL)
    (statement,) = json.loads(policy)["Statement"]
    assert statement["Resource"].endswith(f":role/{DEFAULT_RAY_IAM_ROLE}")


def test_nodes_that_are_not_there_yet_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    left = tmp_path / "ray_bootstrap_config.yaml"
    left.write_text(yaml.safe_dump(prepared("cluster.yaml")))
    monkeypatch.setattr(cluster, "LAUNCHER", left)
    head = {"CPU": 0.0}
    nodes = cluster._at_largest([head])
    assert len(nodes) == 9
    require_room(nodes, ResourcesSpec(cpus=4, gpus=1), PlacementSpec())
    with pytest.raises(UserError, match="the largest node has 4 and 1"):
        require_room(nodes, ResourcesSpec(cpus=5, gpus=1), PlacementSpec())
    left.write_text(yaml.safe_dump(prepared("cluster-local.yaml")))
    assert cluster._at_largest([head]) == [head]
    monkeypatch.setattr(cluster, "LAUNCHER", tmp_path / "nothing")
    assert cluster._at_largest([head]) == [head]


REAL = 'exec {python} -m mlflow "$@"'

STAND_IN = 'cd {folder} && exec {python} -m http.server --bind "$3" "$5"'
"""Takes the server's arguments, and answers in its place with what the file `health` says."""

Run = Callable[[str], None]


def writers(file: Path) -> list[psutil.Process]:
    """The processes that have a file open."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(opened.path == str(file) for opened in process.open_files()):
                found.append(process)
    return found


@pytest.fixture
def logged_in(tmp_path: Path) -> Iterator[Run]:
    """Runs a command as the launcher does over ssh: in a login shell with a terminal, which then goes."""
    variables = {"HOME": str(tmp_path), "SHELL": "/bin/bash", "MLFLOW_WORKERS": "1"}
    variables["MLFLOW_DISABLE_TELEMETRY"] = "true"

    def run(command: str) -> None:
        shell = ["script", "--quiet", "--return", "--command", " ".join(_with_interactive(command))]
        subprocess.run(
            [*shell, "/dev/null"],
            cwd=tmp_path,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )

    yield run
    for log in tmp_path.rglob("mlflow.log"):
        for process in writers(log):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def health(port: int) -> str | None:
    """What a server says of itself; None while there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
            return answer.read().decode().strip()
    except OSError:
        return None


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["cluster.yaml", "cluster-local.yaml"])
@pytest.mark.parametrize(
    "program", [STAND_IN, pytest.param(REAL, marks=pytest.mark.faults)], ids=["stand-in", "mlflow"]
)
def test_the_head_starts_its_mlflow_server_once(
    name: str, program: str, logged_in: Run, tmp_path: Path
) -> None:
    where = tmp_path / "softprior" / ".venv" / "bin"
    where.mkdir(parents=True)
    (tmp_path / ".bashrc").write_text(f'PATH="{where}:$PATH"\n')
    (tmp_path / "health").write_text("OK")
    (where / "mlflow").write_text("#!/bin/sh\n" + program.format(python=sys.executable, folder=tmp_path))
    (where / "mlflow").chmod(0o700)
    (port,) = free_ports(1)
    commands = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))["head_start_ray_commands"]
    (command,) = (command for command in commands if "mlflow server" in command)
    # The port of a test, and folders of it for what the clusters have.
    for there, here in (
        (r"\b5000\b", str(port)),
        (r"postgresql:///mlflow", f"sqlite:///{tmp_path}/mlflow.db"),
        (r"s3://CHANGE-bucket/mlflow|/shared/mlflow-artifacts", f"{tmp_path}/artifacts"),
    ):
        command = re.sub(there, here, command)

    logged_in(command)
    while (said := health(port)) is None:
        time.sleep(0.1)
    assert said == "OK"
    (log,) = tmp_path.rglob("mlflow.log")
    before = log.read_bytes()
    assert before
    logged_in(command)
    time.sleep(1)
    assert log.read_bytes().startswith(before), "a second server empties the log of the first"
    assert health(port) == "OK"
