"""Families whose rotation depends on the length: a row's numbers are its own, whatever shares its pass."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config, PreTrainedConfig

from softprior.errors import UserError
from softprior.models.lengths import ALWAYS, Regimes, forget_lengths
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.protocol import Request
from softprior.prompt import Batch, Place, Prompt, Row, collate
from softprior.testing.hosts import Recorder
from softprior.testing.hosts.closeness import CLOSE, assert_close
from softprior.testing.hosts.examples import picked
from softprior.testing.literal import literal_logits
from tests.builders import SIZES

LONGEST = 16
LENGTHS = (9, 24, 12, 30, 20, 14)
NEW = 5
DRAWN = {**SIZES, "initializer_range": 0.3, "pad_token_id": 0}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 4.0, 6.0, 8.0],
    "original_max_position_embeddings": LONGEST,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": LONGEST}

KINDS: dict[str, PreTrainedConfig] = {
    "longrope": Phi3Config(
        **DRAWN,
        max_position_embeddings=64,
        original_max_position_embeddings=LONGEST,
        rope_parameters=LONGROPE,
    ),
    "dynamic": LlamaConfig(**DRAWN, max_position_embeddings=LONGEST, rope_parameters=DYNAMIC),
    "yarn": LlamaConfig(**DRAWN, max_position_embeddings=64, rope_parameters=YARN),
}
every_kind = pytest.mark.parametrize("kind", ["longrope", "dynamic"])


def model(kind: str, attention: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # A copy, since from_config writes the attention's name into it.
        return AutoModelForCausalLM.from_config(deepcopy(KINDS[kind]), attn_implementation=attention).eval()


def host(kind: str) -> LocalLM:
    return LocalLM(model(kind, ATTENTION), "weights")


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for index, length in enumerate(LENGTHS):
        tokens = torch.randint(97, (length,), generator=generator).tolist()
        labels = [False, *(torch.rand(length - 2, generator=generator) < 0.5).tolist(), True]
        rows.append(Row(str(index), tokens, labels, labels))
    return collate(rows).weighted(torch.linspace(0.5, 1.5, len(rows)))


def prompts(host: LocalLM) -> dict[str, Prompt]:
    generator = torch.Generator().manual_seed(1)
    places = {
        "none": [],
        "soft": [Place(0)],
        "prefix": [Place(block, part) for block in (0, 1) for part in ("key", "value")],
    }
    return {
        name: {place: torch.randn(3, host.width(place), generator=generator) for place in at}
        for name, at in places.items()
    }


def alone(network: nn.Module, prompt: Prompt, text: list[int]) -> torch.Tensor:
    """The family's own eager forward of one row, by a model that has seen no other."""
    forget_lengths(network)
    return literal_logits(network, prompt, text)


def texts(rows: Batch) -> Iterator[tuple[list[int], list[int]]]:
    """Tokens and labels of each row."""
    for tokens, length, labels in zip(rows.tokens, rows.lengths.tolist(), rows.labels, strict=True):
        yield tokens[:length].tolist(), labels.nonzero()[:, 0].tolist()


def own_losses(network: nn.Module, prompt: Prompt, rows: Batch) -> torch.Tensor:
    sums = []
    for text, where in texts(rows):
        logs = alone(network, prompt, text).log_softmax(-1)
        sums.append(-sum(logs[at - 1, text[at]] for at in where))
    return torch.stack(sums)


def test_the_regimes_are_measured():
    assert host("longrope")._regimes == Regimes(LONGEST, each=False)
    assert host("dynamic")._regimes == Regimes(LONGEST, each=True)
    assert host("yarn")._regimes == ALWAYS


@every_kind
def test_the_oracle_is_the_familys_own_forward(kind):
    network = model(kind, "eager")
    for text, _ in texts(batch()):
        literal = alone(network, {}, text)
        forget_lengths(network)
        assert_close(literal, network(input_ids=torch.tensor([text]), use_cache=False).logits[0])


@every_kind
def test_losses_and_gradients_are_those_of_each_row_alone(kind):
    packed, network, rows = host(kind), model(kind, "eager"), batch()
    drawn = prompts(packed)
    for name, prompt in drawn.items():
        leaves = {place: vectors.clone().requires_grad_(True) for place, vectors in prompt.items()}
        expected = own_losses(network, leaves, rows)
        found = packed.loss(prompt, rows, grad=True)
        assert_close(found.nll, expected, name)
        if prompt:
            (expected * rows.weights).sum().backward()
        for place, gradient in (found.gradient or {}).items():
            assert_close(gradient, leaves[place].grad, f"{name}, {place.name}")
    twice = [Request(drawn["soft"], picked(rows, [1, 0, 3])), Request(drawn["soft"], picked(rows, [2, 4]))]
    together = packed.loss_many([twice[0], twice[1]._replace(prompt={Place(0): -drawn["soft"][Place(0)]})])
    assert_close(together[0].nll, own_losses(network, drawn["soft"], twice[0].batch).detach())


@every_kind
@torch.no_grad()
def test_states_are_those_of_each_row_alone(kind):
    packed, rows = host(kind), batch()
    for prompt in prompts(packed).values():
        together = packed.observe(prompt, rows, ["resid.2"], Recorder())
        states, where = together.by_text("resid.2")
        assert where.rows.tolist() == [row for row, length in enumerate(LENGTHS) for _ in range(length)]
        single = [packed.observe(prompt, picked(rows, [row]), ["resid.2"], Recorder()) for row in range(6)]
        assert_close(states, torch.cat([one.by_text("resid.2")[0] for one in single]))
    assert_close(
        packed.compare(None, prompts(packed)["soft"], rows).divergence,
        torch.cat(
            [
                packed.compare(None, prompts(packed)["soft"], picked(rows, [row])).divergence
                for row in range(6)
            ]
        ),
    )


@every_kind
@torch.no_grad()
def test_a_continuation_is_that_of_full_forwards_across_the_length(kind):
    packed, network, rows = host(kind), model(kind, "eager"), batch()
    for name, prompt in prompts(packed).items():
        found = packed.generate(prompt, rows, max_new=NEW, stop=frozenset())
        for (text, _), out in zip(texts(rows), found, strict=True):
            assert len(out) == NEW
            for step, token in enumerate(out):
                logits = alone(network, prompt, text + out[:step])[-1]
                # Not argmax: a tie within rounding may fall either way.
                assert logits.max() - logits[token] <= CLOSE * logits.abs().max(), f"{name}, step {step}"
        first = found[5][0]
        ended = packed.generate(prompt, picked(rows, [5]), max_new=NEW, stop=frozenset({first}))
        assert ended == [[]]


@every_kind
def test_prompts_behind_the_first_token_on_each_side_of_the_length(kind):
    packed, network, rows = host(kind), model(kind, "eager"), batch()
    rows.tokens[:, 0] = 1
    rows.labels[:, 1] = True
    soft = {Place(0, placement="after_bos"): torch.randn(3, 32)}
    deep = {Place(block, after="cut", placement="after_bos"): torch.randn(3, 32) for block in (0, 1)}
    clear = picked(rows, [0, 2] if kind == "dynamic" else [0, 1, 2, 3])
    for prompt, some in ((soft, rows), (deep, clear)):
        assert_close(packed.loss(prompt, some).nll, own_losses(network, prompt, some).detach())
    with pytest.raises(UserError, match="depend on the length from 16 positions on"):
        packed.loss(deep, picked(rows, [0, 5]))  # 14 tokens, with the prompt 17


def cut_later(cut: Prompt) -> Prompt:
    """Its vectors behind block 0."""
    return {place: vectors for place, vectors in cut.items() if place.block}


@every_kind
def test_cut_prompts_are_taken_where_all_blocks_agree_on_the_length(kind):
    packed, network, rows = host(kind), model(kind, "eager"), batch()
    cut = {Place(0, after="cut"): torch.randn(3, 32), Place(1, after="cut"): torch.randn(3, 32)}
    clear = picked(rows, [0, 2] if kind == "dynamic" else [0, 1, 3])
    assert_close(packed.loss(cut, clear).nll, own_losses(network, cut, clear).detach())
    across = picked(rows, [0, 5])  # 14 tokens, with the prompt 17
    for call in (
        lambda: packed.loss(cut, across),
        lambda: packed.generate(cut, across, max_new=1, stop=frozenset()),
        lambda: packed.observe(cut, across, ["final"], Recorder()),
        # The prompt alone, with the token that it stands in front of: 15, and 18 in the blocks that cut.
        lambda: packed.prompt_states({Place(0): torch.randn(14, 32), **cut_later(cut)}, ["final"]),
    ):
        with pytest.raises(UserError, match=r"depend on the length from 16 positions on.*soft or prefix$"):
            call()
