"""AdamW on the prompt alone: float32 master vectors, a schedule, clipping, and an exact state."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.adamw import adamw

from softprior.errors import UserError
from softprior.inputs.specs import Rate, TrainingSpec
from softprior.methods.base import Reparameterisation
from softprior.prompt import Place
from softprior.results.posteriors import Vectors
from softprior.seeding import torch_generator


def schedule(step: int, training: TrainingSpec) -> float:
    """Factor on the rate at a step counted from 0, in [0, 1]."""
    if step < training.warmup:
        return (step + 1) / training.warmup
    along = (step - training.warmup) / max(1, training.steps - training.warmup)
    if training.schedule == "linear":
        return 1 - along
    return (1 + math.cos(math.pi * along)) / 2 if training.schedule == "cosine" else 1.0


def schedule_sum(steps: int, training: TrainingSpec) -> float:
    """Sum of the factors of the first `steps` steps."""
    return sum(schedule(step, training) for step in range(steps))


class Residual:
    """x + W2 tanh(W1 x), row by row; W2 starts at zero, so the vectors start where they were.

    Attributes:
        weights: W1 `[H, W]` and W2 `[W, H]`.
    """

    def __init__(self, hidden: int, width: int, generator: torch.Generator) -> None:
        first = torch.randn(hidden, width, generator=generator) / math.sqrt(hidden)
        self.weights = (first, torch.zeros(width, hidden))

    def __call__(self, vectors: Float[Tensor, "P H"]) -> Float[Tensor, "P H"]:
        first, second = self.weights
        return vectors + torch.tanh(vectors @ first) @ second


def _size(place: Place, vectors: Float[Tensor, "P H"]) -> float:
    """Root mean square of the coordinates."""
    size = float(vectors.double().square().mean().sqrt())
    if size == 0:
        raise UserError(
            f"a relative rate is a multiple of the size of the first vectors, but at {place.name} they are "
            "all zero; use an absolute rate or another prior"
        )
    return size


class PromptOptimizer:
    """The vectors of every place, the network they may be trained through, and their AdamW state.

    Attributes:
        rate, training: how it is trained.
        rates: learning rate of each place at schedule factor 1.
    """

    def __init__(
        self,
        initial: Vectors,
        rate: Rate,
        training: TrainingSpec,
        network: Reparameterisation | None = None,
        seed: int = 0,
    ) -> None:
        """Starts at `initial`; a relative rate is scaled by each place's root mean square there.

        Args:
            network: trains the vectors through a network of its own at each place, at the absolute rate.
            seed: of the network's first weights.

        Raises:
            UserError: a relative rate at a place whose vectors are all zero.
        """
        self._direct = {place: value.detach().clone().float() for place, value in initial.items()}
        self._networks: dict[Place, Residual] = {}
        if network is not None:
            for place, value in self._direct.items():
                generator = torch_generator(seed, "reparameterisation", place.in_front.name)
                self._networks[place] = Residual(value.shape[1], network.width, generator)
        self.rates = {
            place: rate.value * (_size(place, value) if rate.relative else 1.0)
            for place, value in initial.items()
        }
        self.rate = rate
        self.training = training
        self._moments: dict[Place, dict[str, dict[str, Tensor]]] = {place: {} for place in self._direct}
        """AdamW's state of each parameter that has taken a step."""

    @property
    def values(self) -> int:
        """Number of trained values."""
        return sum(value.numel() for place in self._direct for value in self._parameters(place).values())

    @property
    def vectors(self) -> Vectors:
        """The prompt as it is now: the master copy, float32, on the CPU."""
        return {place: self._vectors(place).detach() for place in self._direct}

    def step(self, step: int, gradient: Vectors) -> float:
        """One update at a step counted from 0; returns the gradient's norm before clipping."""
        parts = {place: self._pulled_back(place, gradient[place]) for place in self._direct}
        norm = math.sqrt(
            sum(float(value.double().square().sum()) for part in parts.values() for value in part.values())
        )
        clip = self.training.clip
        factor = 1.0 if clip is None or norm <= clip else clip / norm
        for place, part in parts.items():
            for name, value in part.items():
                self._update(place, name, value * factor, schedule(step, self.training))
        return norm

    @torch.no_grad()
    def _update(self, place: Place, name: str, gradient: Tensor, factor: float) -> None:
        """AdamW's step of one parameter.

        By its function: the class imports PyTorch's compiler, which takes some 70 MB and a second.

        Args:
            factor: the schedule's.
        """
        parameter = self._parameters(place)[name]
        if not self._moments[place].get(name):
            zeros = {moment: torch.zeros_like(parameter) for moment in ("exp_avg", "exp_avg_sq")}
            self._moments[place][name] = {"step": torch.zeros((), dtype=torch.float32), **zeros}
        moments = self._moments[place][name]
        first, second = self.training.betas
        adamw(
            [parameter],
            [gradient],
            [moments["exp_avg"]],
            [moments["exp_avg_sq"]],
            [],
            [moments["step"]],
            foreach=False,
            amsgrad=False,
            beta1=first,
            beta2=second,
            lr=self._rate(place, name) * factor,
            weight_decay=self.training.weight_decay,
            eps=self.training.epsilon,
            maximize=False,
        )

    def _rate(self, place: Place, parameter: str) -> float:
        """A relative rate is in units of the vectors, which a network's weights have nothing to do with."""
        return self.rates[place] if parameter == "vectors" else self.rate.value

    def _vectors(self, place: Place) -> Float[Tensor, "P H"]:
        vectors = self._direct[place]
        return self._networks[place](vectors) if place in self._networks else vectors

    def _parameters(self, place: Place) -> dict[str, Tensor]:
        """What is trained at a place, by name."""
        named = {"vectors": self._direct[place]}
        if place in self._networks:
            named["first"], named["second"] = self._networks[place].weights
        return named

    def _pulled_back(self, place: Place, gradient: Float[Tensor, "P H"]) -> dict[str, Tensor]:
        """The gradient at the vectors as the gradient at what is trained (a vector-Jacobian product)."""
        parameters = self._parameters(place)
        if place not in self._networks:
            return {"vectors": gradient.to(self._direct[place])}
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        with torch.enable_grad():
            found = torch.autograd.grad(self._vectors(place), list(parameters.values()), gradient)
        for parameter in parameters.values():
            parameter.requires_grad_(False)
        return dict(zip(parameters, found, strict=True))

    def state(self) -> dict[str, Tensor]:
        """Tensors that restore the optimizer exactly, as `PARAMETER/PLACE` and `PARAMETER.STATE/PLACE`."""
        tensors = {}
        for place in self._direct:
            for name, parameter in self._parameters(place).items():
                tensors[f"{name}/{place.name}"] = parameter
                for part, value in self._moments[place].get(name, {}).items():
                    tensors[f"{name}.{part}/{place.name}"] = value
        return tensors

    def fits(self, tensors: dict[str, Tensor]) -> bool:
        """Whether these are the state of an optimizer of the same parameters that has taken a step."""
        wanted = {
            f"{name}{part}/{place.name}": parameter
            for place in self._direct
            for name, parameter in self._parameters(place).items()
            for part in ("", ".exp_avg", ".exp_avg_sq")
        }
        steps = {name.replace("/", ".step/") for name in wanted if "." not in name.partition("/")[0]}
        return set(tensors) == {*wanted, *steps} and all(
            bool(found.isfinite().all())
            and (name not in wanted or (found.shape, found.dtype) == (wanted[name].shape, wanted[name].dtype))
            for name, found in tensors.items()
        )

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        for place in self._direct:
            for name, parameter in self._parameters(place).items():
                parameter.copy_(tensors[f"{name}/{place.name}"])
                self._moments[place][name] = {
                    key.partition("/")[0].partition(".")[2]: value.clone()
                    for key, value in tensors.items()
                    if key.startswith(f"{name}.") and key.endswith(f"/{place.name}")
                }
