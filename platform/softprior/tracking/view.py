"""The view that compares a study's trials on MLflow's pages: a flat list, columns and charts.

It is a tag of the experiment, which the pages list among the saved views and which an address opens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from softprior.inputs.entries import Entry
from softprior.tasks import TASKS, Task
from softprior.tracking.clock import now
from softprior.tracking.mlflow_private import KIND, TRAINING, VIEW, page

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME, KEY = "Compare trials", "softprior"
"""Name of the view in the pages' list, and in addresses."""

TRIAL = "softprior.trial"
"""Tag of a trial's run: its id."""

LOSS, REACH = "test_loss", "moved_over_reach"

AXES = ("task", "method", "prior", "rate", "seed")

DIMENSIONS = 8
"""Most parameters in a chart of parallel coordinates, to be readable."""

PRIORS = 10
"""Most priors that get such a chart of their own: a tag has 20,000 characters."""

RUNS = 100
"""Runs that a chart shows: as many as the pages load at a time."""

SECTION = "softprior-trials"

Parameters = Mapping[str, str]
"""A trial's parameters by the names that they have in MLflow."""


def address(experiment: str) -> str:
    """The address of an experiment's view, from the server's on."""
    return page(experiment, KEY)


def write_view(client: MlflowClient, experiment: str, trials: Sequence[Parameters]) -> None:
    """Makes the view of an experiment, or makes it again if its trials need another one.

    Args:
        trials: of all that it compares.
    """
    tags = client.get_experiment(experiment).tags
    if KIND not in tags:
        client.set_experiment_tag(experiment, KIND, TRAINING)
    state = json.dumps(view(trials))
    if has_view(tags) and _state(tags[VIEW + KEY]) == state:
        return
    value = json.dumps({"name": NAME, "createdAt": now(), "updatedAt": now(), "state": state})
    client.set_experiment_tag(experiment, VIEW + KEY, value)


def has_view(tags: Mapping[str, str]) -> bool:
    """Whether an experiment with these tags has the view."""
    return VIEW + KEY in tags


def view(trials: Sequence[Parameters]) -> dict[str, Any]:
    """What the pages show of trials: see `mlflow_private.STATE`."""
    headlines = _headlines(trials)
    relative = ["rate.relative"] if any("rate.relative" in trial for trial in trials) else []
    columns = [_column("params", name) for name in (*AXES[:4], *relative, AXES[4])]
    columns += [_column("metrics", name) for name in (LOSS, *headlines, REACH)]
    charts = _charts(trials, headlines)
    return {
        # Ordered by a metric, children are listed flat; the filter leaves their parent out.
        "searchFilter": f"tags.`{TRIAL}` != ''",
        "orderByKey": _column("metrics", LOSS),
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "viewMaximized": True,
        "compareRunSections": [
            {
                "uuid": SECTION,
                "name": "Trials",
                "display": True,
                "isReordered": True,
                "columns": 2,
                "cardHeight": 320,
            }
        ],
        "compareRunCharts": charts,
    }


def _charts(trials: Sequence[Parameters], headlines: Sequence[str]) -> list[dict[str, Any]]:
    return [
        _bars("bars", "Test loss, nats per label token", LOSS),
        _chart(
            "reach",
            "SCATTER",
            "Test loss against moved / reach",
            xaxis={"key": REACH, "type": "METRIC"},
            yaxis={"key": LOSS, "type": "METRIC"},
        ),
        *_parallel(trials),
        *(_bars(f"bars-{name}", f"Test {name.removeprefix('test_')}", name) for name in headlines),
        _curve("validation", "Validation loss by step", "validation_loss"),
        _curve("training", "Training loss by step", "train_loss"),
    ]


def _bars(key: str, title: str, metric: str) -> dict[str, Any]:
    return _chart(key, "BAR", title, metricKey=metric)


def _curve(key: str, title: str, metric: str) -> dict[str, Any]:
    return _chart(key, "LINE", title, metricKey=metric, selectedMetricKeys=[metric], xAxisKey="step")


def _parallel(trials: Sequence[Parameters]) -> list[dict[str, Any]]:
    """Parallel coordinates: one chart of all trained trials, and one for each prior whose parameters vary.

    The pages leave out a trial that lacks one of a chart's parameters, so a prior's own parameters need a
    chart of their own.
    """
    trained = [trial for trial in trials if "prior" in trial]
    if not trained:
        return []
    groups: dict[str, list[Parameters]] = {}
    for trial in trained:
        groups.setdefault(trial["prior"], []).append(trial)
    shared = dict.fromkeys(("prior", "rate", *_varying(trained)))
    charts = [_coordinates("parallel", "Test loss by axis", shared)]
    for prior, alike in groups.items():
        varying = _varying(alike)
        own = [name for name in varying if name.startswith("prior.")]
        if own:
            names = dict.fromkeys((*own, *varying))
            charts.append(_coordinates(f"parallel-{prior}", f"Test loss by parameters of {prior}", names))
    return charts[: PRIORS + 1]


def _coordinates(key: str, title: str, names: Iterable[str]) -> dict[str, Any]:
    chosen = list(names)[:DIMENSIONS]
    return _chart(key, "PARALLEL", title, selectedParams=chosen, selectedMetrics=[LOSS], showAllRuns=False)


def _chart(key: str, kind: str, title: str, **more: Any) -> dict[str, Any]:
    return {
        "uuid": f"softprior-{key}",
        "type": kind,
        "displayName": title,
        "metricSectionId": SECTION,
        "runsCountToCompare": RUNS,
        "deleted": False,
        "isGenerated": False,
        **more,
    }


def _varying(trials: Sequence[Parameters]) -> list[str]:
    """Parameters that all these trials have and in which they differ, the axes first."""
    first, *others = trials
    common = [name for name in first if all(name in trial for trial in others)]
    differ = [name for name in common if len({trial[name] for trial in trials}) > 1]
    return sorted(differ, key=lambda name: AXES.index(name) if name in AXES else len(AXES))


def _headlines(trials: Iterable[Parameters]) -> list[str]:
    """The metrics that stand for these trials' tasks, beside the loss; a task of unknown code has none."""
    tasks = [_task(trial) for trial in trials if "task" in trial]
    known = [(task.params, kind) for task in tasks if (kind := TASKS.kind(task)) is not None]
    found = dict.fromkeys(f"test_{_unchecked(kind, params).headline}" for params, kind in known)
    return [name for name in found if name != LOSS]


def _unchecked(kind: type[Task], params: Mapping[str, Any]) -> Task:
    """A task with MLflow's parameters: all are texts, which suffices for a headline and fails all checks."""
    return kind.model_construct(None, **{name: params[name] for name in kind.model_fields if name in params})


def _task(trial: Parameters) -> Entry:
    """The task's entry, whose parameters may say of what kind it is."""
    params = {name.removeprefix("task."): trial[name] for name in trial if name.startswith("task.")}
    return Entry(name=trial["task"], params=dict(params))


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _state(value: str) -> object:
    """The state in a view's tag, which a person may have written."""
    try:
        found = json.loads(value)
    except ValueError:
        return None
    return found.get("state") if isinstance(found, dict) else None
