"""A job's one run in MLflow: written once, however often it is sent."""

from __future__ import annotations

from mlflow import MlflowClient

from softprior.tracking.client import default_uri
from softprior.tracking.runs import log_run


def send(tmp_path, key: str = "a", whole: bool = True, **metrics: dict[int, float]) -> str | None:
    figure = tmp_path / "figures" / "depth.png"
    figure.parent.mkdir(exist_ok=True)
    figure.write_bytes(b"a picture")
    return log_run(
        default_uri(tmp_path),
        tmp_path,
        "small",
        key,
        {"model_fingerprint": "f"},
        {"sample": 40, "model": "tiny"},
        metrics or {"squad/ratio": {0: 1.5, 3: 2.5}},
        [figure.parent],
        whole=whole,
    )


def test_a_run_is_written_once_and_with_other_numbers_anew(tmp_path, uri):
    assert send(tmp_path, whole=False, **{"squad/ratio": {0: 1.0}, "squad/gone": {0: 1.0}}) is None
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("softprior/small")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]
    for _ in range(2):
        assert send(tmp_path, **{"squad/ratio": {0: 1.5, 3: 2.5}, "squad/norm": {0: 7.0}}) is None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"sample": "40", "model": "tiny"}
    assert run.data.tags["model_fingerprint"] == "f"
    history = client.get_metric_history(run.info.run_id, "squad/ratio")
    assert [(point.step, point.value) for point in history] == [(0, 1.5), (3, 2.5)]
    assert run.data.metrics == {"squad/ratio": 2.5, "squad/norm": 7.0}
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["depth.png"]


def test_other_work_is_another_run(tmp_path, uri):
    assert send(tmp_path, "a") is None
    assert send(tmp_path, "b") is None
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("softprior/small")
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_a_server_that_is_away_is_told_and_stops_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    problem = log_run("http://127.0.0.1:9", tmp_path, "small", "a", {}, {}, {}, [], whole=True)
    assert problem is not None
    assert "127.0.0.1" in problem
