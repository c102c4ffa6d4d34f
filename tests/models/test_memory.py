"""What a training step keeps, counted, against what PyTorch saves in one, and against peaks on a GPU."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu import random_batch
from softprior.inputs.specs import ModelSpec
from softprior.methods import METHODS
from softprior.models.load import load_local
from softprior.models.local import LocalLM
from softprior.models.memory import BYTES, Form, Rows, Sizes, step_memory
from softprior.prompt import Batch, Place, Prompt
from softprior.seeding import torch_generator

TOKENS = 20
TINY = Sizes(blocks=4, hidden=128, queries=128, keys=64, inner=352, vocabulary=1024)
LLAMA = Sizes(blocks=16, hidden=2048, queries=2048, keys=512, inner=8192, vocabulary=128256)
RAGGED, PADDED = Form(BYTES["bfloat16"], "ragged"), Form(BYTES["float32"], "padded")
CHUNKED = Form(BYTES["float32"], "chunked")


def rows_of(batch: Batch) -> Rows:
    return Rows(len(batch), batch.positions, int(batch.lengths.max()), int(batch.labels.sum()))


def saved(host: LocalLM, prompt: Prompt, batch: Batch) -> int:
    """Bytes of all that PyTorch saves for a pass backward, weights aside."""
    weights = {weight.untyped_storage().data_ptr() for weight in host._model.parameters()}
    found: dict[int, torch.UntypedStorage] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        host.loss(prompt, batch, grad=True)
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("form", [CHUNKED, PADDED])
@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("soft", {}),
        ("deep", {"last": 2}),
        ("deep", {"last": 2, "token_level": "keep"}),
        ("deep", {"last": 1, "token_level": "none"}),
        ("prefix", {}),
        ("prefix", {"blocks": [2, 3]}),
    ],
)
def test_the_count_is_what_pytorch_saves(method, parameters, form, monkeypatch):
    """Within 8%, which softmax's sums and rotations take in so small a model.

    Their bytes are the same in both forms, and so a larger share where MLPs keep less, most of all where
    only the last block keeps anything.
    """
    host = load_local(ModelSpec(id="tiny", device="cpu")).host
    assert isinstance(host, LocalLM)
    monkeypatch.setattr(host, "ragged", form.kernels == "chunked")
    batch = random_batch(4)
    places = METHODS[method].model_validate({"tokens": TOKENS, **parameters}).places(TINY.blocks)
    draw = torch_generator(0, method)
    prompt = {place: 0.02 * torch.randn(TOKENS, host.width(place), generator=draw) for place in places}
    counted = step_memory(TINY, places, TOKENS, rows_of(batch), form)
    logits = 4 * int(batch.labels.sum()) * TINY.vocabulary  # their softmax; the rest is not there yet
    assert saved(host, prompt, batch) == pytest.approx(counted.kept + logits, rel=0.08)


@pytest.mark.parametrize(("rows", "peak"), [(8, 1929), (32, 6905), (128, 26917)])
def test_peaks_on_a_gpu_are_as_counted(rows, peak):
    """benchmarks/results/2026-11-27-d-gpu.jsonl: megabytes of 2^20 bytes, on an H200 in bfloat16."""
    counted = step_memory(LLAMA, (Place(0),), TOKENS, rows_of(random_batch(rows)), RAGGED)
    assert counted.peak / 2**20 == pytest.approx(peak, rel=0.03)


@pytest.mark.parametrize(("form", "states"), [(RAGGED, 3), (PADDED, 3), (CHUNKED, 4)])
def test_gradients_inside_an_mlp_are_counted(form, states):
    """820 positions of 8,192 values: of three products, and of activated gates where they are made again."""
    counted = step_memory(LLAMA, (Place(0),), TOKENS, Rows(8, 800, 100, 32), form)
    assert counted.inside == states * form.bytes * 8192 * 820


def test_passes_side_by_side_take_what_each_takes_alone():
    half = Rows(4, 400, 100, 16)
    both = Rows(8, 800, 100, 32, passes=2)
    for place in (Place(0), Place(0, "key")):
        one, two = (step_memory(LLAMA, (place,), TOKENS, rows, CHUNKED) for rows in (half, both))
        assert two == tuple(2 * count for count in one)


def test_a_step_takes_more_with_rows_length_blocks_and_prompts():
    def peak(sizes: Sizes = LLAMA, block: int = 0, form: Form = RAGGED, **changes: int) -> int:
        rows = Rows(8, 800, 100, 32)._replace(**changes)
        return step_memory(sizes, (Place(block),), TOKENS, rows, form).peak

    assert peak() < peak(number=9, tokens=900) < peak(number=9, tokens=900, prompts=2)
    assert peak(form=PADDED) < peak(form=PADDED, longest=200)
    assert peak(LLAMA._replace(blocks=17)) > peak() > peak(block=8)
    assert peak(labels=800) > peak()
