"""Files of tensors: read as they were written, or not at all."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from softprior.results.tensor_files import DIGESTED, DIGESTS, open_tensors, save_tensors, without_digests
from tests.results.bits import with_a_bit_changed

SAID = {"said": {"something": [1, 0.1, None]}}
HEADER = {key: json.dumps(value) for key, value in SAID.items()}

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "half": torch.tensor([0.5, -0.0], dtype=torch.bfloat16),
    "none": torch.zeros(0, 4),
    "steps": torch.tensor(7),
    "yes": torch.tensor([True, False]),
}


def read(path: Path) -> tuple[dict[str, object], dict[str, torch.Tensor]]:
    with open_tensors(path) as file:
        metadata = {key: json.loads(text) for key, text in file.metadata().items()}
        return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tensors") / "file"
    save_tensors(TENSORS, path, HEADER)
    return path


def test_what_is_written_is_read(written: Path) -> None:
    metadata, tensors = read(written)
    assert metadata == SAID
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    with open_tensors(written) as file:
        assert file.shape("a") == [2, 3]
    assert safetensors.torch.load_file(written).keys() == TENSORS.keys(), "others read it too"


@given(data=st.data())
def test_no_bit_changes_unseen(written: Path, data: st.DataObject) -> None:
    """Wherever it is: what is read afterwards is what was written, or nothing."""
    try:
        metadata, tensors = read(with_a_bit_changed(written, data))
    except (ValueError, KeyError, SafetensorError):
        return
    assert metadata == read(written)[0]
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_those_who_read_the_header_alone_see_a_change_too(written: Path) -> None:
    with safe_open(written, framework="pt") as file:
        metadata = file.metadata()
    assert without_digests(metadata) == HEADER
    with pytest.raises(ValueError, match="its header is not as it was written"):
        without_digests({key: text.replace("0.1", "0.3") for key, text in metadata.items()})


def test_a_file_of_an_older_version_is_read_as_it_is(tmp_path: Path) -> None:
    safetensors.torch.save_file(TENSORS, tmp_path / "old", HEADER)
    metadata, tensors = read(tmp_path / "old")
    assert metadata == SAID
    assert torch.equal(tensors["a"], TENSORS["a"])


def test_the_same_content_is_the_same_bytes(written: Path) -> None:
    again = written.with_name("again")
    save_tensors(dict(reversed(TENSORS.items())), again, HEADER)
    assert again.read_bytes() == written.read_bytes()


@pytest.mark.parametrize(
    "header",
    [
        *({DIGESTS: found, DIGESTED: True} for found in (5, [], {}, ["0"], None)),
        {DIGESTED: True},
        {DIGESTS: ["0"] * 6},
    ],
)
def test_digests_that_are_none_are_an_error(tmp_path: Path, header: dict[str, object]) -> None:
    safetensors.torch.save_file(TENSORS, tmp_path / "file", {"said": json.dumps(header)})
    with pytest.raises(ValueError, match=r"has lost its digests|header is not as it was written"):
        read(tmp_path / "file")


def test_a_tensor_more_or_less_is_an_error(written: Path, tmp_path: Path) -> None:
    with open_tensors(written) as file:
        metadata = file.metadata()
    save_tensors({}, tmp_path / "none", metadata)
    with safe_open(tmp_path / "none", framework="pt") as file:
        safetensors.torch.save_file(TENSORS, tmp_path / "more", file.metadata())
    with pytest.raises(ValueError, match=r"^it has 5 tensors and digests of 0$"):
        read(tmp_path / "more")


def test_a_header_that_is_nested_too_deeply_ends_in_no_other_error(tmp_path: Path) -> None:
    for depth in range(900, 1_100):
        deep = json.dumps({DIGESTED: True, DIGESTS: ["0"]})[:-1] + ', "a": ' + "[" * depth + "]" * depth + "}"
        safetensors.torch.save_file(TENSORS, tmp_path / "deep", {"said": deep})
        with suppress(ValueError), open_tensors(tmp_path / "deep") as file:
            assert file.metadata() == {"said": deep}, "it is no JSON, as whoever reads it says"


def test_names_of_digests_are_no_members_of_a_header(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'digested' is a name that tensor files use themselves"):
        save_tensors(TENSORS, tmp_path / "file", {"said": json.dumps({DIGESTED: 1})})
