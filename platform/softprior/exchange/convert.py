"""Converts posterior files to adapter folders and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from softprior.assets.catalogue import catalogue
from softprior.assets.models import ResolvedModel, resolve_model
from softprior.errors import UserError
from softprior.exchange.adapters import (
    TASK_TYPES,
    Adapter,
    check_target,
    new_folder,
    read_adapter,
    write_adapter,
    writing,
)
from softprior.exchange.layout import PeftType, config_sizes, peft_form, places_of, sizes_of
from softprior.exchange.names import CARD, check_name
from softprior.exchange.readback import Agreement, read_back
from softprior.inputs.paths import home_path
from softprior.inputs.specs import ModelSpec
from softprior.inputs.validation import validate
from softprior.models.load import load_local
from softprior.prompt import Stack
from softprior.results.posteriors import SUFFIX, Posterior, Vectors, named_posterior, save_posterior
from softprior.results.provenance import code
from softprior.results.storage import Location
from softprior.training.environment import versions

_HUB = "hub:"


class Exchanged(NamedTuple):
    """What was written.

    Attributes:
        method: `soft` or `prefix`.
        tokens: P.
        base: the adapter's base model as `from_pretrained` takes it here, whatever the adapter calls it: a
            folder, or a name on the hub; of an imported adapter as it names it.
        revision: its commit on the hub, else None.
        dtype: of the model in which the vectors were trained, as far as it is known.
        agreement: how the adapter compares with the posterior, if it was read back.
        stack: what reads the model's input: its encoder, or the decoder of a model without one.
    """

    method: str
    tokens: int
    base: str | None
    revision: str | None
    dtype: str | None = None
    agreement: Agreement | None = None
    stack: Stack = "decoder"


def export_adapter(
    posterior: Location,
    folder: Path,
    model: str | None = None,
    *,
    base: str | None = None,
    check: bool = True,
    card: Callable[[str | None, str | None], str] | None = None,
) -> Exchanged:
    """Writes the final vectors of a posterior file as an adapter folder, whole or not at all.

    Args:
        model: id or path of the model; by default the one that the posterior file names.
        base: the base model's name on the hub, for a model that is not from there.
        card: makes the model card, written beside the adapter, from that name (None without one) and its
            commit.
        check: reads the folder back and compares logits, which loads the model twice, on the CPU and in the
            dtype of the trial.

    Raises:
        UserError: it is not a posterior file, PEFT has no such prompt, the model is another one, the
            folder is not empty, or the adapter gives other logits than the posterior.
    """
    folder = home_path(folder).resolve()
    check_target(folder)
    made = adapter_of(posterior, model, base)
    agreement = None
    with new_folder(folder) as written:
        on_hub = made.base if made.on_hub else None
        text = None if card is None else card(on_hub, made.revision)
        with writing(folder):
            write_adapter(written, made.config, made.embeddings)
            if text is not None:
                (written / CARD).write_text(text, encoding="utf-8")
        if check:
            agreement = read_back(written, made.final, made.spec)
    return Exchanged(
        _METHODS[made.peft_type],
        len(made.embeddings),
        made.here,
        made.spec.revision if made.spec.id.startswith(_HUB) else None,
        made.dtype,
        agreement,
        made.stack,
    )


class Formed(NamedTuple):
    """A posterior's final vectors as PEFT has them.

    Attributes:
        peft_type, config, embeddings: of the adapter.
        final: the same vectors by place.
        spec: the model, on the CPU.
        base: what the adapter calls its base model: its name on the hub, or as the user names it.
        on_hub: whether that is a name on the hub.
        here: what `from_pretrained` takes on this machine.
        revision, dtype, stack: see `Exchanged`.
    """

    peft_type: PeftType
    config: dict[str, object]
    embeddings: Float[Tensor, "P _"]
    final: Vectors
    spec: ModelSpec
    base: str
    on_hub: bool
    here: str
    revision: str | None
    dtype: str | None
    stack: Stack


def adapter_of(posterior: Location, model: str | None = None, base: str | None = None) -> Formed:
    """What an export writes; the arguments and errors are those of `export_adapter`."""
    if base is not None:
        check_name(base, "a base model on the hub")
    found = named_posterior(posterior)
    spec, resolved = base_model(found.header, posterior, model)
    hub = spec.id.removeprefix(_HUB) if spec.id.startswith(_HUB) else None
    name = base or hub or named_base(spec.id)
    # A copy of the model under another name has commits of its own.
    revision = spec.revision if hub and name == hub else None
    sizes = sizes_of(resolved.folder)
    peft_type, named, embeddings = peft_form(found.final, sizes, posterior)
    config: dict[str, object] = {
        "peft_type": peft_type,
        "task_type": TASK_TYPES[sizes.stack],
        "base_model_name_or_path": name,
        "revision": revision,
        "inference_mode": True,
        "num_virtual_tokens": len(embeddings),
        "num_transformer_submodules": 1,
        **named,
    }
    if peft_type == "PREFIX_TUNING":
        config |= {"prefix_projection": False, "encoder_hidden_size": named["token_dim"]}
    dtype = _said(found.header, "model", "dtype")
    on_hub = (base or hub) is not None
    here = hub or str(resolved.folder)
    return Formed(
        peft_type, config, embeddings, found.final, spec, name, on_hub, here, revision, dtype, sizes.stack
    )


def import_adapter(folder: Path, posterior: Path, model: ModelSpec, task: int | None = None) -> Exchanged:
    """Writes an adapter's vectors as a posterior file that starts and ends with them.

    Args:
        task: which prompt of a multitask adapter, from 0; needed only if it has several.

    Raises:
        UserError: the folder is damaged or contains something else, it belongs to a model of other
            sizes, or the file exists or is not named as posterior files are.
    """
    folder, posterior = home_path(folder).resolve(), home_path(posterior).resolve()
    if posterior.suffix != SUFFIX:
        raise UserError(
            f"a posterior file ends with {SUFFIX}, but {posterior} does not; write {posterior.name}{SUFFIX}"
        )
    if posterior.exists():
        raise UserError(f"{posterior} exists, and nothing is overwritten; choose another file")
    adapter = read_adapter(folder, task)
    sizes = sizes_of(resolve_model(model).folder)
    own = TASK_TYPES[sizes.stack]
    if adapter.config.get("task_type") not in (None, own):
        raise UserError(
            f"{folder} has task_type = {adapter.config['task_type']}, but adapters of {model.id} have {own}; "
            f"give its own base model ({adapter.config.get('base_model_name_or_path')}) as --model"
        )
    _check_sizes(adapter, config_sizes(adapter.peft_type, sizes), sizes.blocks, model.id)
    vectors = places_of(adapter.peft_type, adapter.embeddings, sizes)
    header = {
        "imported": {
            "folder": str(folder),
            "sha256": adapter.sha256,
            "model": model.id,
            "config": adapter.config,
            **({} if task is None else {"task": task}),
        },
        "model": load_local(model).host.info()._asdict(),
        "environment": {"versions": versions(), **code()},
    }
    with writing(posterior):
        save_posterior(posterior, Posterior(header, vectors, vectors, {}))
    return Exchanged(
        _METHODS[adapter.peft_type],
        len(adapter.embeddings),
        adapter.config.get("base_model_name_or_path"),
        adapter.config.get("revision"),
    )


_METHODS: dict[PeftType, str] = {"PROMPT_TUNING": "soft", "PREFIX_TUNING": "prefix"}


def base_model(
    header: Mapping[str, object], posterior: Location, model: str | None
) -> tuple[ModelSpec, ResolvedModel]:
    """The model that a posterior file's vectors belong to, in the dtype of the trial and on the CPU.

    Args:
        model: its id or path; by default the one that the header names.

    Raises:
        UserError: the header does not say which weights these are, or the model has others.
    """
    id = model or _said(header, "spec", "model") or _said(header, "imported", "model")
    fingerprint = _said(header, "model", "fingerprint")
    if fingerprint is None:
        raise UserError(
            f"{posterior} does not say which weights its vectors belong to, so they cannot be exported; "
            "give a trial's posterior file"
        )
    if id is None:
        raise UserError(f"{posterior} does not name its model; give it with --model")
    given = {"id": id, "device": "cpu"}
    if dtype := _said(header, "model", "dtype"):
        given["dtype"] = dtype
    if id.startswith(_HUB):
        # The fingerprint of a hub model is its commit, so that a branch which moved on does no harm.
        given["revision"] = fingerprint
    spec = validate(ModelSpec, given, str(posterior), "model")
    resolved = resolve_model(spec)
    if resolved.fingerprint != fingerprint:
        raise UserError(
            f"{posterior} belongs to a different model than {id} ({fingerprint[:12]} instead of "
            f"{resolved.fingerprint[:12]}); give its own with --model"
        )
    return spec, resolved


def named_base(id: str) -> str:
    """A model that is not on the hub as the user names it, so that no folder is said that the user does not.

    A relative path begins with a dot: `models/mine` would be a name on the hub.
    """
    inside = id in catalogue().models or id.startswith((".", "/", "~"))
    return id if inside else f"./{id}"


def _said(header: Mapping[str, object], part: str, key: str) -> str | None:
    """A string in a posterior file's header, if it has it."""
    value = header.get(part)
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def _check_sizes(adapter: Adapter, expected: dict[str, int], blocks: int, model: str) -> None:
    own = f"give its own base model ({adapter.config.get('base_model_name_or_path')}) as --model"
    for key, size in expected.items():
        # PEFT fills in all of them, but takes a config without.
        if adapter.config.get(key) not in (None, size):
            raise UserError(
                f"{adapter.folder} was made for a model with {key} = {adapter.config[key]}, but {model} has "
                f"{size}; {own}"
            )
    width = expected["token_dim"] * (1 if adapter.peft_type == "PROMPT_TUNING" else 2 * blocks)
    if adapter.embeddings.shape[1] != width:
        raise UserError(
            f"{adapter.folder} has {adapter.embeddings.shape[1]} numbers per vector, but {model} needs "
            f"{width}; {own}"
        )
