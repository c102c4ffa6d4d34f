"""A small Slurm of a test's own: two nodes of this machine, with Debian's slurmctld, slurmd and munged."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.ray_head import ROOT, end, free_ports

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")

MISSING = [name for name in PROGRAMS if shutil.which(name) is None]

CONFIGURATION = """
ClusterName=softprior
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
MinJobAge=7200
SlurmdParameters=config_overrides
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={one} CPUs=2 RealMemory=8000
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={two} CPUs=2 RealMemory=8000
PartitionName=main Nodes=one,two Default=YES State=UP
"""


class Slurm:
    """The controller and both nodes, for as long as the context lasts.

    Attributes:
        environment: of commands that use it.
    """

    def __enter__(self) -> Slurm:
        self._folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))
        self._started: list[subprocess.Popen[bytes]] = []
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            end(process)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_all(self) -> None:
        for name in ("munge", "state"):
            (self._folder / name).mkdir(mode=0o700)
        key = self._folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        ports = dict(zip(("controller", "one", "two"), free_ports(3), strict=True))
        written = CONFIGURATION.format(
            host=socket.gethostname(), user=getpass.getuser(), folder=self._folder, **ports
        )
        (self._folder / "slurm.conf").write_text(written)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM_", "SBATCH_"))}
        self.environment = {
            **kept,
            "SLURM_CONF": str(self._folder / "slurm.conf"),
            "SOFTPRIOR_ENV": str(Path(sys.executable).parents[1]),
        }
        munge = [
            f"--{name}={self._folder}/munge/{name.split('-')[0]}"
            for name in ("key-file", "socket", "pid-file")
        ]
        munge += [f"--{name}={self._folder}/munge/{name.split('-')[0]}" for name in ("log-file", "seed-file")]
        self._start("munged", "--foreground", "--force", *munge)
        self._start("slurmctld", "-D", "-c")
        for node in ("one", "two"):
            self._start("slurmd", "-D", "-N", node)
        while self.ask("sinfo", "--noheader", "--format=%D %T").split() != ["2", "idle"]:
            for process in self._started:
                assert process.poll() is None, self.said()
            time.sleep(0.2)

    def _start(self, *command: str) -> None:
        with (self._folder / f"{len(self._started)}.log").open("wb") as log:
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT)
        self._started.append(process)

    def said(self) -> str:
        """What the programs of Slurm have logged."""
        return "\n".join(log.read_text(errors="replace") for log in sorted(self._folder.glob("*.log")))

    def ask(self, *command: str) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True)
        return done.stdout

    def submit(self, *arguments: str) -> str:
        """Submits a job from the root of the checkout and returns its number."""
        done = subprocess.run(
            ["sbatch", "--parsable", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self, job: str) -> tuple[str, str]:
        """A job's state and its `STATUS:SIGNAL`, as Slurm has it."""
        shown = self.ask("scontrol", "show", "job", job)
        found = dict(re.findall(r"\b(JobState|ExitCode)=(\S+)", shown))
        return found["JobState"], found["ExitCode"]
