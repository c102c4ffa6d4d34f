"""The posterior file: what goes in comes out, and everything else is refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from softprior.errors import UserError
from softprior.prompt import Place
from softprior.results.posteriors import FORMAT, Posterior, load_posterior, save_posterior
from softprior.seeding import torch_generator

PLACES = (Place(0, after="cut"), Place(27, after="cut"), Place(3, "key"))


def vectors(name: str) -> dict[Place, torch.Tensor]:
    return {p: torch.randn(4, 6, generator=torch_generator(0, name, p.name)) for p in PLACES}


@pytest.fixture
def posterior() -> Posterior:
    header = {"trial": "0123456789abcdef", "spec": {"seed": 0, "rate": {"value": 0.1}}, "prior": {"x": None}}
    return Posterior(header, vectors("initial"), vectors("final"), {2: vectors("2"), 12: vectors("12")})


def same(one: dict[Place, torch.Tensor], other: dict[Place, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[place], other[place]) for place in one)


def test_what_is_saved_is_loaded(tmp_path, posterior):
    path = tmp_path / "folder" / "a.safetensors"
    save_posterior(path, posterior)
    found = load_posterior(path)
    assert found.header == {"format": FORMAT, **posterior.header}
    assert same(found.initial, posterior.initial)
    assert same(found.final, posterior.final)
    assert list(found.snapshots) == [2, 12]
    assert all(same(found.snapshots[step], posterior.snapshots[step]) for step in (2, 12))
    assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]


def test_the_layout_is_frozen(tmp_path, posterior):
    """Other programs read these names."""
    path = tmp_path / "a.safetensors"
    save_posterior(path, posterior)
    with safe_open(path, framework="pt") as file:
        names = {
            f"{moment}/{place}"
            for moment in ("initial", "final", "step-000002", "step-000012")
            for place in ("decoder.0.residual.cut", "decoder.27.residual.cut", "decoder.3.key.keep")
        }
        assert set(file.keys()) == names
        assert set(file.metadata()) == {"softprior"}
        assert json.loads(file.metadata()["softprior"])["format"] == 1
        assert {file.get_tensor(name).dtype for name in names} == {torch.float32}


def test_snapshots_come_in_the_order_of_steps(tmp_path):
    start = {Place(0): torch.zeros(1, 2)}
    steps = {1_000_000: start, 999_999: start, 3: start}
    save_posterior(tmp_path / "a.safetensors", Posterior({}, start, start, steps))
    assert list(load_posterior(tmp_path / "a.safetensors").snapshots) == [3, 999_999, 1_000_000]


def test_vectors_may_share_memory_need_gradients_and_have_other_dtypes(tmp_path):
    both = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    start = {Place(0): both[:3]}
    save_posterior(tmp_path / "a.safetensors", Posterior({}, start, {Place(0): both.T}, {1: start}))
    found = load_posterior(tmp_path / "a.safetensors")
    assert torch.equal(found.initial[Place(0)], both[:3].float())
    assert torch.equal(found.final[Place(0)], both.T.float())
    assert torch.equal(found.snapshots[1][Place(0)], found.initial[Place(0)])


def test_a_header_holds_null_where_a_number_is_not_finite(tmp_path, posterior):
    posterior.header["loss"] = float("nan")
    save_posterior(tmp_path / "a.safetensors", posterior)
    assert load_posterior(tmp_path / "a.safetensors").header["loss"] is None


def test_a_failing_save_leaves_the_old_file(tmp_path, posterior):
    path = tmp_path / "a.safetensors"
    save_posterior(path, posterior)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_posterior(path, Posterior({"no": object()}, posterior.initial, posterior.final, {}))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def raw(path: Path, names: list[str], header: str | None = '{"format": 1}') -> Path:
    tensors = {name: torch.zeros(2, 3) for name in names}
    save_file(tensors, path, metadata=None if header is None else {"softprior": header})
    return path


BOTH = ["initial/decoder.0.residual.keep", "final/decoder.0.residual.keep"]


@pytest.mark.parametrize(
    ("names", "header", "sentence"),
    [
        (BOTH, None, r"not a posterior file of format 1 \(found: none\)"),
        (BOTH, "[]", r"not a posterior file of format 1 \(found: none\)"),
        (BOTH, '{"format": 2}', r"not a posterior file of format 1 \(found: 2\)"),
        (BOTH, "{}", r"not a posterior file of format 1 \(found: None\)"),
        (BOTH, "{", "damaged or not a posterior file"),
        (BOTH[:1], '{"format": 1}', "has no final vectors"),
        (BOTH[1:], '{"format": 1}', "has no initial vectors"),
        ([], '{"format": 1}', "has no final and no initial vectors"),
        ([*BOTH, "step-000001/middle"], '{"format": 1}', "'middle' is not the name of a place"),
        ([*BOTH, "weight"], '{"format": 1}', "'' is not the name of a place"),
        ([*BOTH, "step-x/decoder.0.residual.keep"], '{"format": 1}', "vectors named 'step-x'"),
        ([*BOTH, "other/decoder.0.residual.keep"], '{"format": 1}', "vectors named 'other'"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, names, header, sentence):
    path = raw(tmp_path / "other.safetensors", names, header)
    with pytest.raises(UserError, match=sentence) as caught:
        load_posterior(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("moment", ["initial", "final", "step-000002"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, posterior, number, moment):
    parts = {"initial": posterior.initial, "final": posterior.final, "step-000002": posterior.snapshots[2]}
    parts[moment][Place(3, "key")][1, 2] = number
    path = tmp_path / "a.safetensors"
    save_posterior(path, posterior)
    where = f"{moment}/decoder.3.key.keep"
    with pytest.raises(UserError, match=f"^{path} contains NaN or infinite values in {where}; give another"):
        load_posterior(path)


def test_missing_and_damaged_files_are_named(tmp_path, posterior):
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match=r"there is no posterior file .*/a\.safetensors"):
        load_posterior(path)
    save_posterior(path, posterior)
    whole = path.read_bytes()
    for damaged in (b"", whole[:5], whole[:100], whole[:-1], b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.safetensors is damaged or not a posterior file"):
            load_posterior(path)
    with pytest.raises(UserError, match="is a folder, not a posterior file; name a file in it"):
        load_posterior(tmp_path)


def test_a_changed_bit_is_named_with_its_tensor(tmp_path, posterior):
    path = tmp_path / "a.safetensors"
    save_posterior(path, posterior)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.safetensors is damaged .*: \S+ is not as it was written$"):
        load_posterior(path)
