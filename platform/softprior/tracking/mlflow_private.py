"""What softprior uses of MLflow's private parts, all of it; checked on MLflow 3.17.2.

None of it is promised to stay. `tests/test_private_parts.py` says which part another version has changed.
"""

from __future__ import annotations

PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
)
"""Tables and columns of MLflow's database that have absolute addresses of artifacts."""


def make_tables(address: str, artifacts: str) -> None:
    """Creates all tables of a database and disconnects from it.

    Args:
        address: of the database, as in `sqlite:///path`.
        artifacts: where the experiment `Default` keeps its artifacts.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(address, artifacts).engine.dispose()


VIEW = "mlflow.sharedViewState."
"""Begins the name of an experiment's tag with a saved view: its name, times, and state as JSON text."""

KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"
"""The tag that makes an experiment's pages those of trainings, not of conversations."""

STATE = (
    "searchFilter",
    "orderByKey",
    "orderByAsc",
    "startTime",
    "lifecycleFilter",
    "selectedColumns",
    "columnOrder",
    "runsHiddenMode",
    "hideEmptyCharts",
    "isAccordionReordered",
    "viewMaximized",
    "compareRunSections",
    "compareRunCharts",
)
"""Keys of a state that views use. What the pages do not know they leave out silently."""


def page(experiment: str, view: str) -> str:
    """The address of an experiment's view, from the server's on."""
    return (
        f"/#/experiments/{experiment}/runs?viewStateShareKey={view}"
        "&compareRunsMode=CHART&workflowType=machine_learning"
    )
