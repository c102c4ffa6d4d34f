"""A row is a row, whatever stands beside and behind it."""

from __future__ import annotations

import torch
from torch import nn

from softprior.models.protocol import FrozenLM
from softprior.testing.hosts.closeness import assert_close
from softprior.testing.hosts.examples import MAX_NEW, example_batch, few_prompts, padded, picked
from softprior.testing.hosts.recorder import Recorder


@torch.no_grad()
def check_padding_and_order(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001  same signature
    """More pad columns, whatever stands in them, other rows beside it and their order never change a row."""
    batch = example_batch(host.info())
    sites = [site for site in host.sites() if site.endswith("final")]
    order = [3, 1, 4, 0, 2]
    variants = {
        "pads": (padded(batch, 3, fill=5), list(range(len(batch)))),
        "order, and pads that are not tokens": (padded(picked(batch, order), 2, fill=-1), order),
        **{f"row {row} alone": (picked(batch, [row]), [row]) for row in (2, 3)},
        "short rows in a wide batch": (picked(batch, [1, 3], narrow=False), [1, 3]),
    }
    whole = list(variants)[:2]  # of the others, losses alone: every other kind of request takes seconds
    for name, prompt in few_prompts(host).items():
        losses = host.loss(prompt, batch)
        generated = host.generate(prompt, batch, max_new=MAX_NEW, stop=frozenset())
        divergence = host.compare(None, prompt, batch).divergence
        seen = host.observe(prompt, batch, sites, Recorder())
        for label, (other, rows) in variants.items():
            said = f"{name}, {label}"
            found = host.loss(prompt, other)
            assert_close(found.nll, losses.nll[rows], said)
            for field in ("tokens", "correct", "scored"):
                assert getattr(found, field).tolist() == getattr(losses, field)[rows].tolist(), said
            if label not in whole:
                continue
            again = host.generate(prompt, other, max_new=MAX_NEW, stop=frozenset())
            assert again == [generated[row] for row in rows], said
            assert_close(host.compare(None, prompt, other).divergence, divergence[rows], said)
            observed = host.observe(prompt, other, sites, Recorder())
            for site in sites:
                states, where = seen.by_text(site)
                expected = torch.cat([states[where.rows == row] for row in rows])
                assert (site in observed.updates) == bool(len(expected)), f"{said}, {site}"
                if len(expected):
                    assert_close(observed.by_text(site)[0], expected, f"{said}, {site}")
        if prompt:
            gradient = host.loss(prompt, batch, grad=True).gradient or {}
            for other, rows in list(variants.values())[:2]:
                turned = host.loss(prompt, other.weighted(batch.weights[rows]), grad=True).gradient or {}
                for place in prompt:
                    assert_close(turned[place], gradient[place], name)
