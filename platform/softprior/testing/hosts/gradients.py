"""Gradients at the prompt, of which everything trained is made."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from softprior.models.protocol import FrozenLM
from softprior.prompt import Place, Prompt
from softprior.testing.hosts.closeness import assert_close
from softprior.testing.hosts.examples import example_batch, example_prompts, few_prompts
from softprior.testing.hosts.losses import literal_nll


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
        assert_close(found.nll, host.loss(prompt, batch).nll, name)
        if not prompt:
            continue
        (literal_nll(oracle, leaves, batch) * batch.weights).sum().backward()
        for place, gradient in found.gradient.items():
            assert gradient.dtype == torch.float32
            expected = leaves[place].grad
            assert expected is not None
            assert_close(gradient, expected, f"{name}, {place.name}")


@torch.no_grad()
def check_weights(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001  same signature
    """The gradient is linear in the weights of the rows; the losses do not know of them."""
    batch = example_batch(host.info())
    weights = torch.tensor([0.25, -2.0, 0.0, 3.0, 1.0])
    for name, prompt in few_prompts(host).items():
        if not prompt:
            continue

        def at(weights: Tensor, prompt: Prompt = prompt) -> dict[Place, Tensor]:
            found = host.loss(prompt, batch.weighted(weights), grad=True)
            assert_close(found.nll, host.loss(prompt, batch).nll)
            return found.gradient or {}

        alone = [at(row) for row in torch.eye(len(batch))]
        together, nothing = at(weights), at(torch.zeros(len(batch)))
        for place in prompt:
            summed = sum(w * one[place] for w, one in zip(weights.tolist(), alone, strict=True))
            assert_close(together[place], torch.as_tensor(summed), f"{name}, {place.name}")
            assert not nothing[place].any()


@torch.no_grad()
def check_finite_differences(host: FrozenLM, step: float = 3e-3) -> None:
    """For float64 hosts: the gradient predicts how the loss changes, without any automatic differentiation.

    Four points a direction cancel the errors below the step's fourth power. What is left, at most 6e-5 of
    the whole gradient's norm over the smooth families here, is mostly the float32 arithmetic inside their
    norms.

    Args:
        step: between the points, relative to the norm of a place's vectors.
    """
    assert host.info().dtype == "float64", "finite differences need a host of double precision"
    batch = example_batch(host.info())
    generator = torch.Generator().manual_seed(3)
    for name, prompt in few_prompts(host).items():
        gradients = host.loss(prompt, batch, grad=True).gradient or {}
        whole = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
        for place, gradient in gradients.items():
            direction = torch.randn(prompt[place].shape, generator=generator, dtype=torch.double)
            direction /= direction.norm()
            size = step * float(prompt[place].norm())

            def loss(
                steps: int, prompt: Prompt = prompt, place: Place = place, by: Tensor = size * direction
            ) -> float:
                moved = {**prompt, place: prompt[place].double() + steps * by}
                return float((host.loss(moved, batch).nll.cpu() * batch.weights).sum())

            slope = (8 * (loss(1) - loss(-1)) - (loss(2) - loss(-2))) / (12 * size)
            predicted = float((gradient.cpu() * direction).sum())
            error = abs(slope - predicted) / whole
            assert error < 3e-4, f"{name}, {place.name}: {slope} differs from {predicted}"
