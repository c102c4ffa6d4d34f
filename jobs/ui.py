"""Opens the MLflow pages on the results: python -m jobs.ui"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from softprior.tracking.mlflow_tracker import default_uri


def main(arguments: list[str] | None = None) -> int:
    """Serves until Ctrl-C; returns 2 where there is nothing to show."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.ui", description="Serve MLflow's pages on the results."
    )
    parser.add_argument(
        "--results", type=Path, metavar="DIR", default=Path("results"), help="default: results"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument("--port", type=int, default=5000, help="default: 5000")
    options = parser.parse_args(arguments)
    results = options.results.expanduser().resolve()
    if not (results / "mlflow.db").exists():
        print(
            f"error: {results} has no mlflow.db; run a study first, or give its --results folder",
            file=sys.stderr,
        )
        return 2
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", default_uri(results)]
    command += ["--default-artifact-root", (results / "mlflow-artifacts").as_uri()]
    command += ["--host", options.host, "--port", str(options.port)]
    print(f"open http://{options.host}:{options.port} (Ctrl-C stops)", flush=True)
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    # In a session of its own, or Ctrl-C would reach every server process and each would complain.
    server = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603  our own words
    try:
        return server.wait()
    except KeyboardInterrupt:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
        return 0


if __name__ == "__main__":
    sys.exit(main())
