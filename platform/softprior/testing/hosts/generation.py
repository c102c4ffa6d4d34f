"""Greedy continuations: each token the first choice of a whole forward, each row to its own end."""

from __future__ import annotations

import torch
from torch import nn

from softprior.models.protocol import FrozenLM
from softprior.prompt import Row, collate
from softprior.testing.hosts.closeness import CLOSE
from softprior.testing.hosts.examples import (
    MAX_NEW,
    example_batch,
    example_prompts,
    few_prompts,
    firsts,
    texts,
    unlabelled,
)
from softprior.testing.hosts.oracle import predictions


@torch.no_grad()
def check_generation(host: FrozenLM, oracle: nn.Module) -> None:
    """Every generated token is the first choice of a full literal forward of all before it."""
    batch = example_batch(host.info())
    for name, prompt in example_prompts(host).items():
        free = host.generate(prompt, batch, max_new=MAX_NEW, stop=frozenset())
        assert [len(out) for out in free] == [MAX_NEW] * len(batch), name
        for text, first, out in zip(texts(batch), firsts(batch), free, strict=True):
            whole = predictions(oracle, prompt, text + out[:-1], first)[-MAX_NEW:]
            for step, (token, logits) in enumerate(zip(out, whole, strict=True)):
                # Not argmax: a tie within rounding may fall either way.
                assert logits.max() - logits[token] <= CLOSE * logits.abs().max(), f"{name}, step {step}"
        once = host.generate(prompt, batch, max_new=1, stop=frozenset())
        assert once == [out[:1] for out in free], name


@torch.no_grad()
def check_stop(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001  same signature
    """A row ends before its first stop token, at its own step, and the others go on undisturbed."""
    info = host.info()
    batch = example_batch(info)
    for name, prompt in few_prompts(host).items():
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
    """Teacher forced on its own greedy text, a model is right everywhere: both paths give the same logits.

    The last token is made a wrong one and the first is not scored, so that accuracy has both to leave out.
    """
    info = host.info()
    batch = unlabelled(example_batch(info))
    for name, prompt in few_prompts(host).items():
        rows = []
        free = host.generate(prompt, batch, max_new=MAX_NEW, stop=frozenset())
        for id, text, out in zip(batch.ids, texts(batch), free, strict=True):
            answer = [*out[:-1], (out[-1] + 1) % info.vocabulary]
            labels = [False] * len(text) + [True] * MAX_NEW
            scored = [False] * (len(text) + 1) + [True] * (MAX_NEW - 1)
            rows.append(Row(id, text + answer, labels, scored))
        found = host.loss(prompt, collate(rows))
        assert found.tokens.tolist() == [MAX_NEW] * len(rows)
        assert found.scored.tolist() == [MAX_NEW - 1] * len(rows)
        assert found.correct.tolist() == [MAX_NEW - 2] * len(rows), name
