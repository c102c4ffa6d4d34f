"""The view that compares trials: what it holds, and that studies of earlier versions get it too."""

from __future__ import annotations

import json
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from softprior.inputs.specs import Rate
from softprior.priors import PRIORS
from softprior.tasks import TASKS
from softprior.tracking.contents import parameters
from softprior.tracking.mlflow_private import VIEW, page
from softprior.tracking.studies import Compared, add_files, studies
from softprior.tracking.view import DIMENSIONS, KEY, view, write_view
from softprior.tracking.view import PRIORS as OWN
from tests.builders import trial

LOSSY = {"model": "tiny", "task": "arithmetic", "method": "none"}


def trained(prior: str, **more: object) -> dict[str, str]:
    known = {**LOSSY, "method": "soft", "prior": prior, "rate": "0.1", "seed": "0", "training.steps": "6"}
    return known | {name.replace("__", "."): str(value) for name, value in more.items()}


def charts(trials: list[dict[str, str]], kind: str) -> list[dict]:
    return [chart for chart in view(trials)["compareRunCharts"] if chart["type"] == kind]


def test_a_view_has_the_axes_the_loss_the_headlines_and_what_moved_as_columns() -> None:
    trials = [LOSSY, trained("fitted"), trained("fitted", task="squad"), trained("fitted", task="language")]
    names = ["task", "method", "prior", "rate", "seed"]
    metrics = ["test_loss", "test_exact_match", "test_f1", "moved_over_reach"]
    columns = [f"params.`{name}`" for name in names] + [f"metrics.`{name}`" for name in metrics]
    found = view(trials)
    assert found["selectedColumns"] == found["columnOrder"] == columns
    assert (found["orderByKey"], found["orderByAsc"]) == ("metrics.`test_loss`", True)
    relative = view([*trials, trained("fitted", rate__relative=True)])["selectedColumns"]
    assert relative == [*columns[:4], "params.`rate.relative`", *columns[4:]]
    assert [c["metricKey"] for c in charts(trials, "BAR")] == ["test_loss", "test_exact_match", "test_f1"]
    (scatter,) = charts(trials, "SCATTER")
    assert (scatter["xaxis"]["key"], scatter["yaxis"]["key"]) == ("moved_over_reach", "test_loss")
    assert [c["metricKey"] for c in charts(trials, "LINE")] == ["validation_loss", "train_loss"]


def test_a_cloze_has_its_name_and_the_column_of_its_headline() -> None:
    """Trials write it as a kind of language, as they did before it was a task; so did MLflow's runs."""
    found = parameters(trial(task=TASKS["cloze"]()))
    assert found["task"] == "cloze"
    for written in (found, found | {"task": "language"}):
        columns = [name for name in view([written])["selectedColumns"] if name.startswith("metrics")]
        assert columns == [
            f"metrics.`{name}`" for name in ("test_loss", "test_exact_match", "moved_over_reach")
        ]


def test_parallel_coordinates_hold_what_their_trials_share_and_differ_in() -> None:
    """The pages leave out a trial that lacks one of the parameters."""
    trials = [
        LOSSY,
        trained("fitted", seed=1),
        trained("isotropic", prior__scale=0.02, prior__other=1),
        trained("isotropic", prior__scale=0.5, prior__other=1, rate=0.2),
    ]
    everyone, isotropic = charts(trials, "PARALLEL")
    assert everyone["selectedParams"] == ["prior", "rate", "seed"]
    assert isotropic["selectedParams"] == ["prior.scale", "rate"]
    assert everyone["selectedMetrics"] == isotropic["selectedMetrics"] == ["test_loss"]
    assert charts([LOSSY], "PARALLEL") == []


def test_the_longest_view_fits_into_a_tag(uri: str) -> None:
    names = [f"prior.{'n' * 60}{i}" for i in range(2 * DIMENSIONS)]
    priors = [f"{'p' * 30}{i}" for i in range(OWN + 5)]
    trials = [trained(prior) | dict.fromkeys(names, value) for prior in priors for value in "12"]
    client = MlflowClient(uri)
    experiment = client.create_experiment("softprior/long")
    write_view(client, experiment, trials)
    tag = client.get_experiment(experiment).tags[VIEW + KEY]
    assert len(charts(trials, "PARALLEL")) == 1 + OWN
    assert json.loads(json.loads(tag)["state"]) == view(trials)
    write_view(client, experiment, trials)
    assert client.get_experiment(experiment).tags[VIEW + KEY] == tag, "nothing is written twice"


def test_rates_and_parameters_of_priors_are_numbers() -> None:
    mixture = PRIORS["mixture"].model_validate({"priors": [{"isotropic": {"scale": 0.3}}, "fitted"]})
    found = parameters(trial(prior=mixture, rate=Rate(value=0.0123456789, relative=True)))
    assert (float(found["rate"]), found["rate.relative"]) == (0.0123456789, "True")
    assert float(found["prior.priors.0.scale"]) == 0.3
    assert [found[name] for name in ("prior", "prior.priors.0", "prior.priors.1")] == [
        "mixture",
        "isotropic",
        "fitted",
    ]
    assert parameters(trial(prior=PRIORS["vocabulary"]()))["prior"] == "vocabulary", "it has no parameters"
    assert "rate.relative" not in parameters(trial(rate=Rate(value=0.5)))


def test_a_study_of_an_earlier_version_is_listed_and_gets_its_view(tmp_path: Path, uri: str) -> None:
    client = MlflowClient(uri)
    client.create_experiment("somebody's")
    client.create_experiment("softprior/without-trials")
    old = client.create_experiment("softprior/old", artifact_location=str(tmp_path / "artifacts"))
    parent = client.create_run(old, run_name="old", tags={"softprior.study": "old"})
    for rate, loss in (("0.05 relative", 1.5), ("0.1 relative", 0.5)):
        made = client.create_run(
            old, tags={"softprior.trial": rate, "mlflow.parentRunId": parent.info.run_id}, run_name=rate
        )
        params = [Param(name, value) for name, value in (trained("fitted") | {"rate": rate}).items()]
        metrics = [Metric(name, loss, 0, 14) for name in ("test_loss", "moved_over_reach/decoder.0")]
        client.log_batch(made.info.run_id, params=params, metrics=metrics)
    assert studies(uri) == [Compared("old", page(old, KEY))]
    state = json.loads(json.loads(client.get_experiment(old).tags[VIEW + KEY])["state"])
    (everyone,) = (chart for chart in state["compareRunCharts"] if chart["type"] == "PARALLEL")
    assert everyone["selectedParams"] == ["prior", "rate"]
    found = client.search_runs([old], state["searchFilter"], order_by=[f"{state['orderByKey']} ASC"])
    assert [run.info.run_name for run in found] == ["0.1 relative", "0.05 relative"]

    report = tmp_path / "report.html"
    report.write_text("<p>what it says</p>")
    assert add_files(uri, "old", [report]) is None
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["report.html"]
    assert "no run of the study 'new'; run the study again" in str(add_files(uri, "new", [report]))
