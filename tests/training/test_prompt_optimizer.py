"""The optimizer against torch's own AdamW used plainly, and its schedule."""

from __future__ import annotations

import math

import pytest
import torch

from softprior.inputs.specs import Rate, TrainingSpec
from softprior.methods.base import Reparameterisation
from softprior.prompt import Place
from softprior.statistics.geometry import reach
from softprior.training.optimizer import PromptOptimizer, schedule, schedule_sum


def training(**changes: object) -> TrainingSpec:
    return TrainingSpec.model_validate({"steps": 10, "batch": 1, **changes})


def test_equals_plain_adamw_with_a_scheduler_and_clipping() -> None:
    """Exactly: it is the same code fed the same numbers."""
    generator = torch.Generator().manual_seed(0)
    places = [Place(0, after="cut"), Place(2, after="cut")]
    initial = {place: torch.randn(3, 5, generator=generator) for place in places}
    spec = training(schedule="cosine", warmup=3, clip=0.5, weight_decay=0.1, betas=[0.8, 0.95], epsilon=1e-6)
    ours = PromptOptimizer(initial, Rate(value=0.1), spec)
    plain = [torch.nn.Parameter(initial[place].clone()) for place in places]
    adam = torch.optim.AdamW(plain, lr=0.1, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    turning = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: schedule(step, spec))
    for step in range(10):
        gradient = {place: torch.randn(3, 5, generator=generator) for place in places}
        ours.step(step, gradient)
        for parameter, place in zip(plain, places, strict=True):
            parameter.grad = gradient[place].clone()
        torch.nn.utils.clip_grad_norm_(plain, 0.5)
        adam.step()
        turning.step()
    for parameter, place in zip(plain, places, strict=True):
        # clip_grad_norm_ divides by norm + 1e-6, hence not to the last bit.
        torch.testing.assert_close(ours.vectors[place], parameter.data, rtol=1e-4, atol=1e-6)
    assert not torch.equal(ours.vectors[places[0]], initial[places[0]])


def test_equals_the_class_to_the_last_bit() -> None:
    generator = torch.Generator().manual_seed(2)
    place = Place(0)
    spec = training(schedule="constant", clip=None, weight_decay=0.1)
    plain = torch.nn.Parameter(torch.randn(3, 5, generator=generator))
    ours = PromptOptimizer({place: plain.data}, Rate(value=0.1), spec)
    adam = torch.optim.AdamW([plain], lr=0.1, betas=spec.betas, eps=spec.epsilon, weight_decay=0.1)
    for step in range(5):
        plain.grad = torch.randn(3, 5, generator=generator)
        ours.step(step, {place: plain.grad})
        adam.step()
    assert torch.equal(ours.vectors[place], plain.data)
    assert all(
        torch.equal(ours.state()[f"vectors.{name}/{place.name}"], value)
        for name, value in adam.state[plain].items()
    )


def test_the_initial_sample_is_left_alone() -> None:
    start = {Place(0): torch.ones(2, 3)}
    PromptOptimizer(start, Rate(value=0.1), training()).step(0, {Place(0): torch.ones(2, 3)})
    assert torch.equal(start[Place(0)], torch.ones(2, 3))


def test_restored_state_goes_on_exactly() -> None:
    generator = torch.Generator().manual_seed(1)
    start = {Place(0): torch.randn(2, 3, generator=generator)}
    gradients = [{Place(0): torch.randn(2, 3, generator=generator)} for _ in range(6)]
    whole = PromptOptimizer(start, Rate(value=0.1), training())
    first = PromptOptimizer(start, Rate(value=0.1), training())
    for step in range(6):
        whole.step(step, gradients[step])
    for step in range(3):
        first.step(step, gradients[step])
    second = PromptOptimizer(start, Rate(value=0.1), training())
    second.restore({name: value.clone() for name, value in first.state().items()})
    for step in range(3, 6):
        second.step(step, gradients[step])
    assert torch.equal(second.vectors[Place(0)], whole.vectors[Place(0)])


def test_a_state_from_before_the_first_step_is_restored() -> None:
    start, gradient = {Place(0): torch.ones(2, 3)}, {Place(0): torch.ones(2, 3)}
    first, second = (PromptOptimizer(start, Rate(value=0.1), training()) for _ in range(2))
    second.restore(first.state())
    first.step(0, gradient)
    second.step(0, gradient)
    assert torch.equal(first.vectors[Place(0)], second.vectors[Place(0)])


def ratio_to_reach(gradients: list[float], **changes: object) -> float:
    """Distance moved over reach, all coordinates with the same gradients."""
    spec = training(steps=len(gradients), clip=None, **changes)
    optimizer = PromptOptimizer({Place(0): torch.zeros(1, 16)}, Rate(value=0.01), spec)
    for step, gradient in enumerate(gradients):
        optimizer.step(step, {Place(0): torch.full((1, 16), gradient)})
    moved = float(optimizer.vectors[Place(0)].norm())
    return moved / reach(0.01, schedule_sum(len(gradients), spec), 16)


@pytest.mark.parametrize(("growth", "expected"), [(1.0, 1.0), (-1.0, 0.0088), (0.8, 0.0866), (1.1, 2.152)])
def test_reach_is_a_yardstick_and_no_bound(growth: float, expected: float) -> None:
    """Constant gradients move by it, alternating and shrinking ones by less, and growing ones by more."""
    found = ratio_to_reach([growth**step for step in range(200)], epsilon=1e-30)
    assert found == pytest.approx(expected, rel=0.01)


def test_no_step_is_longer_than_the_betas_allow() -> None:
    """Cauchy and Schwarz: (1 - b1) / sqrt((1 - b2) (1 - b1^2 / b2)) times the rate, 7.3 with the defaults.

    It is attained in the limit by gradients that grow by b2 / b1 with every step.
    """
    one, two = 0.9, 0.999
    bound = (1 - one) / math.sqrt((1 - two) * (1 - one**2 / two))
    assert bound == pytest.approx(7.27, abs=0.01)
    spec = training(steps=400, clip=None, epsilon=1e-30)
    optimizer = PromptOptimizer({Place(0): torch.zeros(1, 1)}, Rate(value=1.0), spec)
    longest, before = 0.0, torch.zeros(1, 1)
    for step in range(400):
        optimizer.step(step, {Place(0): torch.tensor([[1e-12 * (two / one) ** step]])})
        after = optimizer.vectors[Place(0)].clone()
        longest, before = max(longest, float((after - before).abs())), after
    assert 1 < longest <= bound


def test_reach_is_attained_along_the_schedule() -> None:
    start = {Place(0): torch.zeros(1, 16)}
    spec = training(clip=None, schedule="linear")
    optimizer = PromptOptimizer(start, Rate(value=0.01), spec)
    for step in range(10):
        optimizer.step(step, {Place(0): torch.ones(1, 16)})
    moved = float(optimizer.vectors[Place(0)].norm())
    assert moved == pytest.approx(0.01 * schedule_sum(10, spec) * math.sqrt(16), rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447]),
    ],
)
def test_schedules(kind: str, expected: list[float]) -> None:
    spec = training(steps=6, schedule=kind, warmup=2)
    assert [schedule(step, spec) for step in range(6)] == pytest.approx(expected, abs=1e-6)


def test_a_reparameterised_prompt_starts_where_the_prior_put_it() -> None:
    start = {Place(0): torch.randn(4, 6, generator=torch.Generator().manual_seed(0))}
    optimizer = PromptOptimizer(start, Rate(value=0.1), training(), Reparameterisation(width=3), seed=1)
    assert torch.equal(optimizer.vectors[Place(0)], start[Place(0)])
    optimizer.step(0, {Place(0): torch.ones(4, 6)})
    assert not torch.equal(optimizer.vectors[Place(0)], start[Place(0)])


def test_a_reparameterised_prompt_equals_the_same_network_in_plain_torch() -> None:
    """x + W2 tanh(W1 x) as torch modules, with torch's own backward pass, clipping and AdamW."""
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(4, 6, generator=generator)
    spec = training(clip=None, weight_decay=0.1)
    ours = PromptOptimizer({Place(0): start}, Rate(value=0.05), spec, Reparameterisation(width=3), seed=5)
    weights = {name: value.clone() for name, value in ours.state().items()}
    x = torch.nn.Parameter(start.clone())
    first = torch.nn.Linear(6, 3, bias=False)
    second = torch.nn.Linear(3, 6, bias=False)
    first.weight.data = weights["first/decoder.0.residual.keep"].T.clone()
    second.weight.data = weights["second/decoder.0.residual.keep"].T.clone()
    adam = torch.optim.AdamW([x, first.weight, second.weight], lr=0.05, weight_decay=0.1)
    for step in range(5):
        target = torch.randn(4, 6, generator=generator)
        prompt = x + second(torch.tanh(first(x)))
        adam.zero_grad()
        (prompt - target).square().sum().backward()
        gradient = 2 * (ours.vectors[Place(0)] - target)
        torch.testing.assert_close(ours.vectors[Place(0)], prompt.detach(), rtol=1e-5, atol=1e-6)
        ours.step(step, {Place(0): gradient})
        adam.step()


def test_a_reparameterised_optimizer_is_restored_exactly() -> None:
    generator = torch.Generator().manual_seed(3)
    start = {
        place: torch.randn(2, 5, generator=generator) for place in (Place(0, after="cut"), Place(1, "key"))
    }
    gradients = [{p: torch.randn(2, 5, generator=generator) for p in start} for _ in range(6)]
    network = Reparameterisation(width=2)
    whole, first, second = (
        PromptOptimizer(start, Rate(value=0.1), training(), network, seed=seed) for seed in (1, 1, 2)
    )
    for step in range(6):
        whole.step(step, gradients[step])
    for step in range(3):
        first.step(step, gradients[step])
    second.restore({name: value.clone() for name, value in first.state().items()})
    for step in range(3, 6):
        second.step(step, gradients[step])
    assert all(torch.equal(whole.vectors[place], second.vectors[place]) for place in start)
