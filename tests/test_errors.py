"""Secrets in addresses are hidden, and nothing else is."""

import pytest

from softprior.errors import UserError, hidden, hidden_in, without_mask
from softprior.inputs.specs import TrackingSpec
from softprior.inputs.validation import shown
from softprior.results.storage import location

SECRETS = {
    "postgresql://user:geheim@host/db": "postgresql://user:***@host/db",
    "postgresql+psycopg2://u:geheim%40x@h:5432/db?sslmode=require": (
        "postgresql+psycopg2://u:***@h:5432/db?sslmode=require"
    ),
    "http://user:geheim/@?x@host:5000/a": "http://user:***@host:5000/a",
    "https://geheim@host/x": "https://***@host/x",
    "postgresql://h/db?user=u&password=geheim": "postgresql://h/db?user=u&password=***",
    "https://h/x?api_key=geheim&b=1": "https://h/x?api_key=***&b=1",
    "s3://bucket/k?X-Amz-Signature=geheim": "s3://bucket/k?X-Amz-Signature=***",
    "postgresql:/u:geheim@h/db": "postgresql:/u:***@h/db",
    "postgresql://u:12345/6@h": "postgresql://u:***@h",
    "the storage mysql+pymysql://u:1/geheim@h:3306/db": "the storage mysql+pymysql://u:***@h:3306/db",
    "HTTPS://u:geheim@h:5000": "HTTPS://u:***@h:5000",
    "is u.v:geheim@h": "is u.v:***@h",
    "tracking.uri=u:geheim@h": "tracking.uri=u:***@h",
    "request to https://u:geheim@h/api failed: 'http://v:geheim@x'": (
        "request to https://u:***@h/api failed: 'http://v:***@x'"
    ),
}


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_hidden_and_stays_so(text: str) -> None:
    assert hidden(text) == SECRETS[text]
    assert hidden(hidden(text)) == SECRETS[text]
    assert hidden_in({"a": [text, 1, None]}) == {"a": [SECRETS[text], 1, None]}
    assert str(UserError(f"'{text}': no")) == f"'{SECRETS[text]}': no"
    assert "geheim" not in shown("x" * 70 + text), "cut after it is hidden"


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/a@b",
        "pip install git+https://host:5000/a@b",
        "model at 10:30@noon",
        "'training.steps:5@x' is no setting",
        "sqlite:////tmp/a@b.db",
        "mysql://root@host/db",
        "hub:owner/name@main",
        "hub:gpt2@main",
        "study.yaml, line 3: at 12:30 x",
        "s3://bucket/folder",
    ],
)
def test_other_addresses_stay_as_they_are(text: str) -> None:
    assert hidden(text) == text


def test_a_spec_has_the_address_and_writes_it_down_without_its_secret() -> None:
    address = "postgresql://user:geheim@host/db"
    spec = TrackingSpec(uri=address)
    assert spec.uri == address
    assert "geheim" not in spec.canonical() + str(spec.model_dump(mode="json")) + repr(spec)
    assert without_mask("postgresql://user:***@host/db?password=***&a=1") == "postgresql://user@host/db?a=1"


def test_an_address_of_a_bucket_has_no_credentials() -> None:
    with pytest.raises(
        UserError, match=r"'s3://key:\*\*\*@bucket/x' contains credentials; put them into the env"
    ):
        location("s3://key:geheim@bucket/x")
