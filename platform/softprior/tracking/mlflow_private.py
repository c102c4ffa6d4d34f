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
