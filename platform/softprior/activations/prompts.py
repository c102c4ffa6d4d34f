"""The token class `prompt`: which posteriors a run can follow, and the states at their own positions.

In a causal model a prompt comes before the text, so no text changes the states at its positions: one short
pass per prompt gives those in front of every text of every task, and they stand in the store once, beside the
tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from softprior.activations.spec import ActivationsSpec, PromptSpec
from softprior.activations.state import TaskState
from softprior.activations.texts import key_of
from softprior.assets import fingerprints
from softprior.assets.models import KnownModel
from softprior.assets.named import here
from softprior.errors import UserError
from softprior.models.protocol import FrozenLM
from softprior.prompt import Prompt, Shape
from softprior.results.posteriors import Posterior, load_posterior, named_posterior
from softprior.results.storage import Location
from softprior.statistics.keyed_sample import hash_keys
from softprior.statistics.units import PROMPTS

PROMPT = "prompt"
"""The token class. It is in no union, such as `all`: whoever wants it has to name it."""

NO_KEYS = ("key.", "value.")
"""Beginnings of the sites at which a prompt's own vectors have no states."""


def residual(sites: Sequence[str]) -> list[str]:
    """The sites at which a prompt's own vectors have states."""
    return [site for site in sites if not site.startswith(NO_KEYS)]


def identities(spec: ActivationsSpec) -> dict[str, str]:
    """The hash of every followed posterior file, by its entry in a plan's identity."""
    return {f"prompts.{given.name}": fingerprints.of_file(here(given.file)) for given in spec.prompts}


def check_prompts(spec: ActivationsSpec, model: KnownModel, where: str) -> None:
    """Refuses posteriors that cannot be followed through the model.

    Raises:
        UserError: a file is missing or damaged, is of another model or width, has no states at the sites, or
            its states would depend on the text; the sentence names it.
    """
    for i, given in enumerate(spec.prompts):
        key = f"prompts[{i}].file"
        posterior, path = read_posterior(given.file, key, where)
        said = f"{where}: {key} = {path}"
        if _trained_on(posterior) is None:
            raise UserError(
                f"{said} does not say which model it was trained for; give a posterior that a study left"
            )
        check_fits(posterior, said, model, spec.model.id)
        _check_followed(posterior.final, said, model.shape, spec)


def read_posterior(given: Location, key: str, where: str) -> tuple[Posterior, Path]:
    """A posterior file that an activations file names, and its path on this machine.

    Raises:
        UserError: it is missing, damaged or a folder.
    """
    try:
        path = here(given)
        return named_posterior(path), path
    except UserError as error:
        raise UserError(f"{where}: {key}: {error}") from None


def check_fits(posterior: Posterior, said: str, model: KnownModel, id: str) -> None:
    """Refuses a posterior of another model, or of vectors of another width.

    Args:
        said: what the sentence begins with: the key and the file.
        id: of the model.
    """
    trained, shape = _trained_on(posterior), model.shape
    if trained is not None and trained != model.fingerprint:
        raise UserError(
            f"{said} was trained for another model ({trained[:12]} instead of "
            f"{model.fingerprint[:12]}); give a posterior of {id}"
        )
    for place, vectors in posterior.final.items():
        width = None if shape is None else shape.width(place)
        if width is not None and vectors.shape[1] != width:
            raise UserError(
                f"{said} has vectors of {vectors.shape[1]} dimensions at {place.name}, but "
                f"{id} takes {width}; give a posterior of {id}"
            )


def _trained_on(posterior: Posterior) -> str | None:
    fingerprint: str | None = (posterior.header.get("model") or {}).get("fingerprint")
    return fingerprint


def _check_followed(prompt: Prompt, said: str, shape: Shape | None, spec: ActivationsSpec) -> None:
    for place in prompt:
        if place.stack == "encoder":
            raise UserError(
                f"{said} has vectors at {place.name}: an encoder reads them together with the text, so "
                "their states differ from text to text; give a posterior of a decoder-only model"
            )
        if place.kind != "residual":
            raise UserError(
                f"{said} has vectors at {place.name}: keys and values are attended to but have no states in "
                "the residual stream; give a posterior of the method soft or deep"
            )
        if shape is not None and place.block >= shape.blocks:
            raise UserError(
                f"{said} has vectors at {place.name}, but the last block of {spec.model.id} is "
                f"{shape.blocks - 1}; give a posterior of {spec.model.id}"
            )
    travels = any(place.after == "keep" for place in prompt)
    own = [f"resid.{place.block}" for place in sorted(prompt)]
    if not isinstance(spec.sites, str) and not (
        residual(spec.sites) if travels else set(own) & set(spec.sites)
    ):
        what = "resid.0" if travels else own[0]
        raise UserError(f"{said} has no states at any of the sites; add {what} to sites, or leave it out")


def followed_prompts(given: Sequence[PromptSpec]) -> dict[str, Prompt]:
    """The prompts by name, in the order of their names."""
    by_name = sorted(given, key=lambda prompt: prompt.name)
    return {prompt.name: load_posterior(here(prompt.file)).final for prompt in by_name}


def follow(
    host: FrozenLM,
    prompts: Mapping[str, Prompt],
    sites: Sequence[str],
    exact: bool,
    first: int | None = None,
) -> TaskState:
    """The states at the prompts' positions at the sites, as a task of one token class.

    Every vector is kept, each with these facts: `document` is the `key_of` of its prompt's name, `group` the
    number of the prompt, `cut` 1 for a vector that enters at this site and is cut after its block (0 for one
    that travels from block 0), and `position` its position among the prompt's vectors of its kind.

    Args:
        first: the token that begins texts, see `FrozenLM.prompt_states`.
    """
    size = sum(len(vectors) for prompt in prompts.values() for vectors in prompt.values())
    state = TaskState(PROMPTS, size, exact, tuple(prompts))
    for number, (name, prompt) in enumerate(prompts.items()):
        for site, vectors in host.prompt_states(prompt, residual(sites), first).items():
            _add(state, site, vectors, _cut_first(prompt, site, len(vectors)), number, name)
    state.end_shard(
        f"{PROMPTS}-00000",
        {
            "texts": len(prompts),
            "tokens": size,
            "documents": len(prompts),
            "skipped": 0,
            "reasons": [],
        },
    )
    return state


def _cut_first(prompt: Prompt, site: str, count: int) -> Bool[Tensor, "N"]:
    """Which of the vectors at a site are cut after its block; `FrozenLM.prompt_states` gives them first."""
    cut = sum(
        len(vectors)
        for place, vectors in prompt.items()
        if place.after == "cut" and site == f"resid.{place.block}"
    )
    return torch.arange(count) < cut


def _add(
    state: TaskState,
    site: str,
    vectors: Float[Tensor, "N H"],
    cut: Bool[Tensor, "N"],
    number: int,
    name: str,
) -> None:
    count, found = len(vectors), state.site(site, vectors.shape[1])
    position = torch.where(cut, torch.arange(count), torch.arange(count) - int(cut.sum()))
    columns = {
        "document": torch.full((count,), key_of(name)),
        "group": torch.full((count,), number),
        "token": torch.full((count,), -1),
        "position": position,
        "part": torch.full((count,), -1),
        "cut": cut.long(),
    }
    # Nothing is drawn, as every vector is kept: keys only have to differ.
    keys = hash_keys(0, columns["document"].numpy(), torch.arange(count).numpy())
    found.of(PROMPT).add(vectors, vectors.norm(dim=1).cpu(), keys, columns)
    sums = vectors.cpu().double().sum(0, keepdim=True)
    found.add_groups(torch.tensor([number]), sums, torch.tensor([count]))
