"""The contract of model hosts: what every `FrozenLM` promises, held against the literal form.

A host is checked together with an oracle: the same weights in a plain transformers model on the CPU,
loaded with `attn_implementation="eager"`, of the host's dtype. Give both a model of at least four
blocks, and windows (if it has any) shorter than the texts below, so that every window is reached.
The suite is for float32 and float64: rounding to fewer bits would hide the mistakes it looks for.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from softprior.errors import UserError
from softprior.models.blocks import Blocks, position_kind
from softprior.models.protocol import FrozenLM, ModelInfo, Where
from softprior.prompt import Batch, Place, Prompt, Row, collate
from softprior.testing.literal import literal_logits

CLOSE = 3e-5
"""Relative to the largest expected number. Norms and softmax of most families compute in float32 whatever
the dtype, and a host may add in any order: 4e-6 at most over the families here. A token, position or
vector mixed up shows as 1e-2 or more."""

LENGTHS = (9, 4, 12, 1, 7)
"""Rows of unequal length, in no order, one without room for a label."""

MAX_NEW = 6


class Recorder:
    """A statistic that keeps everything it is given, by site."""

    def __init__(self) -> None:
        self.updates: dict[str, list[tuple[Tensor, Where]]] = defaultdict(list)

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        self.updates[site].append((states.cpu(), Where(*(part.cpu() for part in where))))

    def by_text(self, site: str) -> tuple[Float[Tensor, "N H"], Where]:
        """All states of a site, sorted by row and then position, whatever chunks they came in."""
        states = torch.cat([states for states, _ in self.updates[site]])
        rows, positions, tokens = (
            torch.cat(parts) for parts in zip(*(w for _, w in self.updates[site]), strict=True)
        )
        order = (rows * (int(positions.max()) + 1) + positions).argsort(stable=True)
        return states[order], Where(rows[order], positions[order], tokens[order])


def example_batch(info: ModelInfo, seed: int = 0) -> Batch:
    """Random rows of `LENGTHS`: about half of the tokens are labels, about half of those are scored."""
    generator = torch.Generator().manual_seed(seed)

    def coins(count: int) -> list[bool]:
        return [False, *(torch.rand(count - 1, generator=generator) < 0.5).tolist()]

    rows = []
    for index, length in enumerate(LENGTHS):
        tokens = torch.randint(info.vocabulary, (length,), generator=generator).tolist()
        labels = coins(length)
        labels[-1] = length > 1
        scored = [a and b for a, b in zip(labels, coins(length), strict=True)]
        rows.append(Row(str(index), tokens, labels, scored))
    return collate(rows).weighted(torch.linspace(0.5, 1.5, len(rows)))


def example_prompts(host: FrozenLM, seed: int = 0) -> dict[str, Prompt]:
    """Prompts of every shape a host must take, of the size of its embeddings; `none` is empty."""
    info = host.info()
    size = host.embed(torch.arange(info.vocabulary)).square().mean().sqrt().cpu()
    generator = torch.Generator().manual_seed(seed)
    top = info.blocks - 1

    def cut(block: int) -> Place:
        return Place(block, after="cut")

    shapes: dict[str, dict[Place, int]] = {
        "none": {},
        "soft": {Place(0): 4},
        "deep": {cut(0): 4, cut(top - 2): 4, cut(top - 1): 4, cut(top): 4},
        "keep, then cut": {Place(0): 3, cut(top - 1): 5, cut(top): 2},
        "cut late": {cut(top): 4},
        "keep and cut at 0": {Place(0): 2, cut(0): 3, cut(top - 1): 1},
    }
    everywhere = {Place(block, kind): 3 for block in range(info.blocks) for kind in ("key", "value")}
    shapes |= {
        "prefix": everywhere,
        "prefix of some blocks": {p: 4 for p in everywhere if p.block in (1, top)},
    }
    return {
        name: {
            place: size * torch.randn(count, host.width(place), generator=generator)
            for place, count in shape.items()
        }
        for name, shape in shapes.items()
    }


def check_host(host: FrozenLM, oracle: nn.Module) -> None:
    """Runs the whole suite.

    Raises:
        AssertionError: the host breaks its contract.
    """
    for check in CHECKS:
        check(host, oracle)
    if host.info().dtype == "float64":
        check_finite_differences(host)


def check_info(host: FrozenLM, oracle: nn.Module) -> None:
    """The host speaks the protocol and tells its model's sizes."""
    info = host.info()
    assert isinstance(host, FrozenLM)
    assert info.dtype in ("float32", "float64"), "the suite is for hosts of full precision"
    assert info.dtype == str(next(oracle.parameters()).dtype).removeprefix("torch.")
    assert info.blocks == len(Blocks.of(oracle).layers)
    assert (info.vocabulary, info.hidden) == tuple(_embedding(oracle).weight.shape)
    assert info.parameters == sum(p.numel() for p in oracle.parameters())
    assert info.embedding == position_kind(oracle)
    assert info.family == _config(oracle).model_type
    assert info.positions == _config(oracle).max_position_embeddings


@torch.no_grad()
def check_embed(host: FrozenLM, oracle: nn.Module) -> None:
    """Embeddings are what the embedding layer returns and, without learned positions, block 0 receives."""
    ids = torch.arange(host.info().vocabulary)
    found = host.embed(ids)
    assert found.dtype == torch.float32
    _assert_close(found, _embedding(oracle)(ids))
    if host.info().embedding != "learned":
        _assert_close(found[:9], _own_states(oracle, ids[:9])[0])


@torch.no_grad()
def check_normalise(host: FrozenLM, oracle: nn.Module) -> None:
    """`normalise` is the first norm of the place's block, of every block."""
    vectors = 3 * torch.randn(5, host.info().hidden, generator=torch.Generator().manual_seed(1))
    for block in range(host.info().blocks):
        found = host.normalise(Place(block, after="cut"), vectors)
        assert found.dtype == torch.float32
        _assert_close(found, Blocks.of(oracle).norm(block)(vectors.to(_embedding(oracle).weight)))


@torch.no_grad()
def check_keys_values(host: FrozenLM, oracle: nn.Module) -> None:
    """Keys (after rotary and norms) and values are those that transformers' own cache holds."""
    ids = example_batch(host.info()).tokens[2]
    cache = DynamicCache()
    oracle(input_ids=ids[None], past_key_values=cache, use_cache=True)
    asked = [host.info().blocks - 1, 0]
    found = host.keys_values(ids, asked)
    assert set(found) == set(asked)
    for block, (keys, values) in found.items():
        assert keys.dtype == values.dtype == torch.float32
        _assert_close(keys, cache.layers[block].keys[0].transpose(0, 1).flatten(1))
        _assert_close(values, cache.layers[block].values[0].transpose(0, 1).flatten(1))


@torch.no_grad()
def check_projections(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001  same signature
    """Projected states, keys turned to their positions, are what the block attends to; and back again."""
    ids = example_batch(host.info()).tokens[2]
    states = host.observe(None, collate([_plain(ids)]), _sites(host), Recorder())
    attended = host.keys_values(ids, range(host.info().blocks))
    for block, (keys, values) in attended.items():
        here = states.by_text(f"resid.{block}")[0]
        key, value = Place(block, "key"), Place(block, "value")
        turned = host.rotate(key, host.project(key, here))
        assert turned.shape == (len(ids), host.width(key))
        _assert_close(turned, keys, key.name)
        _assert_close(host.project(value, here), values, value.name)
        _assert_close(host.rotate(key, keys, inverse=True), host.project(key, here), key.name)
        _assert_close(host.rotate(key, host.rotate(key, keys), inverse=True), keys, key.name)


@torch.no_grad()
def check_prefix_of_a_text(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001  same signature
    """A prefix made of a text's own keys and values gives what the text in front of the rows gives."""
    batch = example_batch(host.info())
    front = batch.tokens[2, :5]
    prompt: dict[Place, Tensor] = {}
    for block, (keys, values) in host.keys_values(front, range(host.info().blocks)).items():
        prompt |= {Place(block, "key"): keys, Place(block, "value"): values}
    longer = replace(
        batch,
        tokens=torch.cat([front.expand(len(batch), -1), batch.tokens], 1),
        lengths=batch.lengths + 5,
        labels=torch.cat([torch.zeros(len(batch), 5, dtype=torch.bool), batch.labels], 1),
        scored=torch.cat([torch.zeros(len(batch), 5, dtype=torch.bool), batch.scored], 1),
    )
    _assert_close(host.loss(prompt, batch).nll, host.loss(None, longer).nll.cpu())
    generated = host.generate(prompt, batch, max_new=MAX_NEW, stop=frozenset())
    assert generated == host.generate(None, longer, max_new=MAX_NEW, stop=frozenset())


@torch.no_grad()
def check_losses(host: FrozenLM, oracle: nn.Module) -> None:
    """Loss, label count and teacher-forced accuracy of each row equal the literal form's."""
    batch = example_batch(host.info())
    for name, prompt in example_prompts(host).items():
        found = host.loss(prompt, batch)
        assert found.gradient is None
        _assert_close(found.nll, _literal_nll(oracle, prompt, batch), name)
        assert found.tokens.tolist() == batch.labels.sum(1).tolist()
        assert found.scored.tolist() == batch.scored.sum(1).tolist()
        assert found.correct.tolist() == _literal_correct(oracle, prompt, batch), name
    assert torch.equal(host.loss(None, batch).nll, host.loss({}, batch).nll)


def check_gradients(host: FrozenLM, oracle: nn.Module) -> None:
    """The gradient at every place equals that of the literal form, and asking for it changes no loss."""
    batch = example_batch(host.info())
    for name, prompt in example_prompts(host).items():
        leaves = {place: vectors.clone().requires_grad_(True) for place, vectors in prompt.items()}
        found = host.loss(leaves, batch, grad=True)
        assert found.gradient is not None
        assert set(found.gradient) == set(prompt)
        assert not found.nll.requires_grad
        assert all(leaf.grad is None for leaf in leaves.values()), "the host wrote into the caller's tensors"
        _assert_close(found.nll, host.loss(prompt, batch).nll, name)
        if not prompt:
            continue
        (_literal_nll(oracle, leaves, batch) * batch.weights).sum().backward()
        for place, gradient in found.gradient.items():
            assert gradient.dtype == torch.float32
            expected = leaves[place].grad
            assert expected is not None
            _assert_close(gradient, expected, f"{name}, {place.name}")


@torch.no_grad()
def check_finite_differences(host: FrozenLM) -> None:
    """For float64 hosts: the gradient predicts how the loss changes, without any automatic differentiation.

    Four points a direction cancel the errors below the step's fourth power. What is left, at most 6e-5 of
    the whole gradient's norm over the families here, is mostly the float32 arithmetic inside their norms.
    """
    assert host.info().dtype == "float64", "finite differences need a host of double precision"
    batch = example_batch(host.info())
    generator = torch.Generator().manual_seed(3)
    for name, prompt in example_prompts(host).items():
        gradients = host.loss(prompt, batch, grad=True).gradient or {}
        whole = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
        for place, gradient in gradients.items():
            direction = torch.randn(prompt[place].shape, generator=generator, dtype=torch.double)
            direction /= direction.norm()
            step = 3e-3 * float(prompt[place].norm())

            def loss(
                steps: int, prompt: Prompt = prompt, place: Place = place, by: Tensor = step * direction
            ) -> float:
                moved = {**prompt, place: prompt[place].double() + steps * by}
                return float((host.loss(moved, batch).nll.cpu() * batch.weights).sum())

            slope = (8 * (loss(1) - loss(-1)) - (loss(2) - loss(-2))) / (12 * step)
            predicted = float((gradient.cpu() * direction).sum())
            error = abs(slope - predicted) / whole
            assert error < 3e-4, f"{name}, {place.name}: {slope} differs from {predicted}"


@torch.no_grad()
def check_padding_and_order(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001  same signature
    """More pad columns, whatever stands in them, other rows beside it and their order never change a row."""
    batch = example_batch(host.info())
    order = [3, 1, 4, 0, 2]
    variants = {
        "pads": (_padded(batch, 3, fill=5), list(range(len(batch)))),
        "pads that are no tokens": (_padded(batch, 2, fill=-1), list(range(len(batch)))),
        "order": (_picked(batch, order), order),
        **{f"row {row} alone": (_picked(batch, [row]), [row]) for row in range(len(batch))},
        "short rows in a wide batch": (_picked(batch, [1, 3], narrow=False), [1, 3]),
    }
    for name, prompt in example_prompts(host).items():
        losses = host.loss(prompt, batch)
        texts = host.generate(prompt, batch, max_new=MAX_NEW, stop=frozenset())
        divergence = host.compare(None, prompt, batch).divergence
        states, where = host.observe(prompt, batch, ["final"], Recorder()).by_text("final")
        for label, (other, rows) in variants.items():
            said = f"{name}, {label}"
            found = host.loss(prompt, other)
            _assert_close(found.nll, losses.nll[rows], said)
            for field in ("tokens", "correct", "scored"):
                assert getattr(found, field).tolist() == getattr(losses, field)[rows].tolist(), said
            generated = host.generate(prompt, other, max_new=MAX_NEW, stop=frozenset())
            assert generated == [texts[row] for row in rows], said
            _assert_close(host.compare(None, prompt, other).divergence, divergence[rows], said)
            seen, _ = host.observe(prompt, other, ["final"], Recorder()).by_text("final")
            _assert_close(seen, torch.cat([states[where.rows == row] for row in rows]), said)
        if prompt:
            gradient = host.loss(prompt, batch, grad=True).gradient or {}
            for other, rows in (variants["pads"], variants["order"]):
                again = host.loss(prompt, other.weighted(batch.weights[rows]), grad=True).gradient or {}
                for place in prompt:
                    _assert_close(again[place], gradient[place], name)


@torch.no_grad()
def check_weights(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001  same signature
    """The gradient is linear in the weights of the rows; the losses do not know of them."""
    batch = example_batch(host.info())
    weights = torch.tensor([0.25, -2.0, 0.0, 3.0, 1.0])
    for name, prompt in example_prompts(host).items():
        if not prompt:
            continue

        def at(weights: Tensor, prompt: Prompt = prompt) -> dict[Place, Tensor]:
            found = host.loss(prompt, batch.weighted(weights), grad=True)
            _assert_close(found.nll, host.loss(prompt, batch).nll)
            return found.gradient or {}

        alone = [at(row) for row in torch.eye(len(batch))]
        together, nothing = at(weights), at(torch.zeros(len(batch)))
        for place in prompt:
            summed = sum(w * one[place] for w, one in zip(weights.tolist(), alone, strict=True))
            _assert_close(together[place], torch.as_tensor(summed), f"{name}, {place.name}")
            assert not nothing[place].any()


@torch.no_grad()
def check_labels(host: FrozenLM, oracle: nn.Module) -> None:
    """Labels decide which tokens are predicted, each from what stands before it and from nothing else."""
    batch = example_batch(host.info())
    row = _picked(batch, [2])
    length = LENGTHS[2]
    for name, prompt in example_prompts(host).items():
        losses = []
        for position in range(1, length):
            labels = (torch.arange(length) == position)[None]
            single = replace(row, labels=labels, scored=labels)
            losses.append(float(host.loss(prompt, single).nll))
            later = replace(single, tokens=_changed(single.tokens, position + 1, host.info().vocabulary))
            assert math.isclose(float(host.loss(prompt, later).nll), losses[-1], rel_tol=CLOSE), name
        literal = literal_logits(oracle, prompt, row.tokens[0].tolist()).double().log_softmax(-1)
        _assert_close(torch.tensor(losses), -literal[torch.arange(length - 1), row.tokens[0, 1:]], name)
        assert len({round(loss, 3) for loss in losses}) == len(losses), "the model tells positions apart"


@torch.no_grad()
def check_generation(host: FrozenLM, oracle: nn.Module) -> None:
    """Every generated token is the first choice of a full literal forward of all before it."""
    batch = example_batch(host.info())
    for name, prompt in example_prompts(host).items():
        free = host.generate(prompt, batch, max_new=MAX_NEW, stop=frozenset())
        assert [len(out) for out in free] == [MAX_NEW] * len(batch), name
        for text, out in zip(_texts(batch), free, strict=True):
            for step, token in enumerate(out):
                logits = literal_logits(oracle, prompt, text + out[:step])[-1]
                # Not argmax: a tie within rounding may fall either way.
                assert logits.max() - logits[token] <= CLOSE * logits.abs().max(), f"{name}, step {step}"
        once = host.generate(prompt, batch, max_new=1, stop=frozenset())
        assert once == [out[:1] for out in free], name


@torch.no_grad()
def check_stop(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001  same signature
    """A row ends before its first stop token, at its own step, and the others go on undisturbed."""
    info = host.info()
    batch = example_batch(info)
    for name, prompt in example_prompts(host).items():
        free = host.generate(prompt, batch, max_new=MAX_NEW, stop=frozenset())

        def until(stop: frozenset[int], free: list[list[int]] = free) -> list[list[int]]:
            ends = [next((i for i, t in enumerate(out) if t in stop), MAX_NEW) for out in free]
            return [out[:end] for out, end in zip(free, ends, strict=True)]

        seen = sorted({token for out in free for token in out})
        pairs = [frozenset({a, b}) for a in seen for b in seen]
        stop = max(pairs, key=lambda stop: len({len(out) for out in until(stop)}))
        assert len({len(out) for out in until(stop)}) >= 3, "rows are to end at different steps"
        assert host.generate(prompt, batch, max_new=MAX_NEW, stop=stop) == until(stop), name
        first = frozenset({free[0][0]})
        assert host.generate(prompt, batch, max_new=1, stop=first) == [o[:1] for o in until(first)], name
        everything = frozenset(range(info.vocabulary))
        assert host.generate(prompt, batch, max_new=MAX_NEW, stop=everything) == [[]] * len(batch)


@torch.no_grad()
def check_generation_agrees_with_loss(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001
    """Teacher forced on its own greedy text, a model is right everywhere: both paths give the same logits."""
    batch = example_batch(host.info())
    for name, prompt in example_prompts(host).items():
        rows = []
        free = host.generate(prompt, batch, max_new=MAX_NEW, stop=frozenset())
        for id, text, out in zip(batch.ids, _texts(batch), free, strict=True):
            answer = [False] * len(text) + [True] * len(out)
            rows.append(Row(id, text + out, answer, answer))
        found = host.loss(prompt, collate(rows))
        assert found.correct.tolist() == [MAX_NEW] * len(rows), name


@torch.no_grad()
def check_comparison(host: FrozenLM, oracle: nn.Module) -> None:
    """Divergence is Jensen-Shannon's: zero for equal prompts, symmetric, at most ln 2 a label."""
    batch = example_batch(host.info())
    prompts = example_prompts(host)
    counts = batch.labels.sum(1)
    names = list(prompts)
    for first, second in zip(names, names[1:] + names[:1], strict=True):
        a, b = prompts[first], prompts[second]
        same, found, back = host.compare(a, a, batch), host.compare(a, b, batch), host.compare(b, a, batch)
        # One label's divergence of equal outputs is zero up to the rounding of a sum over the vocabulary.
        assert same.divergence.abs().max() < 1e-9
        assert same.agree.tolist() == found.tokens.tolist() == counts.tolist()
        _assert_close(found.divergence, back.divergence)
        assert bool((found.divergence.cpu() <= math.log(2) * counts).all())
        divergence, agree = _literal_comparison(oracle, a, b, batch)
        _assert_close(found.divergence, divergence, f"{first} against {second}")
        assert found.agree.tolist() == back.agree.tolist() == agree


@torch.no_grad()
def check_states(host: FrozenLM, oracle: nn.Module) -> None:
    """Observed states are those of the real text tokens, each once, at every site and under every prompt.

    Without a prompt they are also held against transformers' own `hidden_states`, whose last entry is
    `final` and whose entry for the last block's output is missing.
    """
    batch = example_batch(host.info())
    blocks = host.info().blocks
    sites = [*(f"resid.{block}" for block in range(blocks + 1)), "final"]
    texts = _texts(batch)
    positions = [position for text in texts for position in range(len(text))]
    rows = [row for row, text in enumerate(texts) for _ in text]
    for name, prompt in example_prompts(host).items():
        literal = [_literal_states(oracle, prompt, text) for text in texts]
        seen = host.observe(prompt, _padded(batch, 2, fill=5), sites, Recorder())
        assert set(seen.updates) == set(sites)
        for site in sites:
            states, where = seen.by_text(site)
            assert states.dtype == torch.float32
            assert where.rows.tolist() == rows, f"{name}, {site}"
            assert where.positions.tolist() == positions, f"{name}, {site}"
            assert where.tokens.tolist() == [token for text in texts for token in text], f"{name}, {site}"
            _assert_close(states, torch.cat([one[site] for one in literal]), f"{name}, {site}")

    seen = host.observe(None, batch, sites, Recorder())
    own = [_own_states(oracle, torch.tensor(text)) for text in texts]
    for block in range(blocks):
        _assert_close(seen.by_text(f"resid.{block}")[0], torch.cat([one[block] for one in own]))
    _assert_close(seen.by_text("final")[0], torch.cat([one[-1] for one in own]))
    last = seen.by_text(f"resid.{blocks}")[0].to(_embedding(oracle).weight)
    _assert_close(seen.by_text("final")[0], Blocks.of(oracle).final_norm(last))

    one = host.observe(None, batch, ["resid.1"], Recorder())
    host.loss(None, batch)
    assert list(one.updates) == ["resid.1"]
    assert sum(len(states) for states, _ in one.updates["resid.1"]) == batch.positions


def check_refusals(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001  same signature
    """Places and sites a host does not have are refused in one sentence, and leave no trace behind."""
    info = host.info()
    batch = example_batch(info)
    before = host.loss(None, batch).nll
    for place in (
        Place(0, kind="key"),
        Place(0, kind="value"),
        Place(0, kind="key", after="cut"),
        Place(0, stack="encoder"),
        Place(info.blocks, after="cut"),
        Place(-1, after="cut"),
        Place(1, after="keep"),
    ):
        prompt = {place: torch.zeros(2, info.hidden)}
        _assert_refused(host.loss, prompt, batch)
        _assert_refused(host.loss, prompt, batch, grad=True)
        _assert_refused(host.generate, prompt, batch, max_new=1, stop=frozenset())
        _assert_refused(host.compare, None, prompt, batch)
        _assert_refused(host.observe, prompt, batch, ["final"], Recorder())
    for site in ("resid", f"resid.{info.blocks + 1}", "resid.-1", "attention.0"):
        _assert_refused(host.observe, None, batch, ["final", site], Recorder())
    _assert_close(host.loss(None, batch).nll, before)


CHECKS: tuple[Callable[[FrozenLM, nn.Module], None], ...] = (
    check_info,
    check_embed,
    check_normalise,
    check_keys_values,
    check_projections,
    check_prefix_of_a_text,
    check_losses,
    check_gradients,
    check_padding_and_order,
    check_weights,
    check_labels,
    check_generation,
    check_stop,
    check_generation_agrees_with_loss,
    check_comparison,
    check_states,
    check_refusals,
)
"""The suite for a host of any dtype; `check_finite_differences` comes on top for float64."""


def _assert_close(found: Tensor, expected: Tensor, what: str = "") -> None:
    found, expected = found.detach().cpu().double(), expected.detach().double()
    assert found.shape == expected.shape, f"{what}: {tuple(found.shape)}, not {tuple(expected.shape)}"
    error = float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-6)
    assert error <= CLOSE, f"{what}: off by {error:.1e} of the largest number"


def _assert_refused(call: Callable[..., object], *args: object, **kwargs: object) -> None:
    said = None
    try:
        call(*args, **kwargs)
    except UserError as error:
        said = str(error)
    assert said is not None, "the host took what it cannot do"
    assert "\n" not in said
    assert ". " not in said, f"more than one sentence: {said}"


def _texts(batch: Batch) -> list[list[int]]:
    return [
        tokens[:length] for tokens, length in zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
    ]


def _padded(batch: Batch, columns: int, fill: int) -> Batch:
    """The same rows with more pad columns, and `fill` in every pad."""
    count = len(batch)
    none = torch.zeros(count, columns, dtype=torch.bool)
    tokens = torch.cat([batch.tokens, torch.zeros(count, columns, dtype=torch.long)], 1)
    pads = torch.arange(tokens.shape[1])[None] >= batch.lengths[:, None]
    return replace(
        batch,
        tokens=tokens.masked_fill(pads, fill),
        labels=torch.cat([batch.labels, none], 1),
        scored=torch.cat([batch.scored, none], 1),
    )


def _plain(ids: Int[Tensor, T]) -> Row:
    """A row that is read and not scored."""
    tokens = ids.tolist()
    return Row("text", tokens, [False] * len(tokens), [False] * len(tokens))


def _sites(host: FrozenLM) -> list[str]:
    return [f"resid.{block}" for block in range(host.info().blocks)]


def _picked(batch: Batch, rows: Sequence[int], *, narrow: bool = True) -> Batch:
    """Some rows in some order, the pad columns none of them needs left out or not."""
    lengths = batch.lengths[rows]
    width = int(lengths.max()) if narrow else batch.tokens.shape[1]
    return Batch(
        ids=tuple(batch.ids[row] for row in rows),
        tokens=batch.tokens[rows, :width],
        lengths=lengths,
        labels=batch.labels[rows, :width],
        scored=batch.scored[rows, :width],
        weights=batch.weights[rows],
    )


def _changed(tokens: Int[Tensor, "1 T"], start: int, vocabulary: int) -> Int[Tensor, "1 T"]:
    """Other tokens from `start` on."""
    return torch.cat([tokens[:, :start], (tokens[:, start:] + 1) % vocabulary], 1)


def _embedding(oracle: Any) -> nn.Embedding:
    return oracle.get_input_embeddings()


def _config(oracle: Any) -> Any:
    return oracle.config


def _own_states(oracle: Any, ids: Int[Tensor, T]) -> list[Float[Tensor, "T H"]]:
    """transformers' `hidden_states` of one text."""
    out = oracle(input_ids=ids[None], output_hidden_states=True, use_cache=False)
    return [states[0] for states in out.hidden_states]


def _literal_states(oracle: nn.Module, prompt: Prompt, text: list[int]) -> dict[str, Float[Tensor, "T H"]]:
    """What passes the sites of the literal form, the text's part of it."""
    blocks = Blocks.of(oracle)
    states: dict[str, Tensor] = {}

    def keep(site: str, value: Tensor) -> None:
        states[site] = value.reshape(-1, value.shape[-1])[-len(text) :]

    with ExitStack() as hooks:
        for block, layer in enumerate([*blocks.layers, blocks.final_norm]):
            handle = layer.register_forward_pre_hook(
                lambda _, args, site=f"resid.{block}": keep(site, args[0])
            )
            hooks.callback(handle.remove)
        handle = blocks.final_norm.register_forward_hook(lambda _, __, out: keep("final", out))
        hooks.callback(handle.remove)
        literal_logits(oracle, prompt, text)
    return states


def _literal_labels(
    oracle: nn.Module, prompt: Prompt, batch: Batch, row: int
) -> tuple[Float[Tensor, "N V"], Int[Tensor, N]]:
    """Log-probabilities before each label of a row, and the labels' positions."""
    text = _texts(batch)[row]
    where = batch.labels[row, : len(text)].nonzero().squeeze(1)
    return literal_logits(oracle, prompt, text).double().log_softmax(-1)[where - 1], where


def _literal_nll(oracle: nn.Module, prompt: Prompt, batch: Batch) -> Float[Tensor, B]:
    sums = []
    for row in range(len(batch)):
        logs, where = _literal_labels(oracle, prompt, batch, row)
        sums.append(-logs.gather(1, batch.tokens[row, where][:, None]).sum())
    return torch.stack(sums)


def _literal_correct(oracle: nn.Module, prompt: Prompt, batch: Batch) -> list[int]:
    counts = []
    for row in range(len(batch)):
        logs, where = _literal_labels(oracle, prompt, batch, row)
        right = (logs.argmax(-1) == batch.tokens[row, where]) & batch.scored[row, where]
        counts.append(int(right.sum()))
    return counts


def _literal_comparison(
    oracle: nn.Module, a: Prompt, b: Prompt, batch: Batch
) -> tuple[Float[Tensor, B], list[int]]:
    """Jensen-Shannon divergence as the entropy of the mean less the mean of the entropies, and agreement."""

    def entropy(p: Tensor) -> Tensor:
        return -torch.special.xlogy(p, p).sum()

    divergence, agree = [], []
    for row in range(len(batch)):
        p, q = (_literal_labels(oracle, prompt, batch, row)[0].exp() for prompt in (a, b))
        divergence.append(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2)
        agree.append(int((p.argmax(-1) == q.argmax(-1)).sum()))
    return torch.stack(divergence), agree
