"""What an activations run will read, cut into shards, before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from softprior.activations.spec import ActivationsSpec
from softprior.activations.texts import Shard, Source, sources
from softprior.assets import fingerprints
from softprior.assets.architecture import architecture
from softprior.assets.models import KnownModel, known_model, resolve_model
from softprior.assets.named import here
from softprior.assets.tokens import reserved
from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.models.entry import embeddings_change
from softprior.models.load import load_tokenizer
from softprior.prompt import Shape
from softprior.results.posteriors import load_posterior
from softprior.statistics.units import VOCABULARY

PATHS = 8
"""Texts of a task whose states are kept whole, for figures; all come from one shard."""


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        spec: the file, as read.
        identity: fingerprints of the model, of every source by name, and of the prompt; `resid.0` where
            the family changes embeddings before block 0.
        groups: by source, names of the groups that get a mean of their own.
        shards: every part of every source.
        model: what is known of the model.
        notes: rows of tasks that are left out, one sentence per task.
    """

    spec: ActivationsSpec
    model: KnownModel
    identity: dict[str, str]
    groups: dict[str, tuple[str, ...]]
    shards: tuple[Shard, ...]
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Identifies what decides the result, and not where and with how many workers it runs."""
        where = {"resources", "tracking", "description", "prompt"}
        value = [self.spec.model_dump(mode="json", exclude=where), self.identity, self.shard_facts()]
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def tokens(self) -> int:
        """Tokens to read once, about; the texts that are also read shuffled come on top."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def shuffled_tokens(self) -> int:
        """Tokens of the texts that are also read shuffled, about."""
        return sum(shard.shuffled for shard in self.shards)

    def shard_facts(self) -> list[dict[str, object]]:
        """The shards as JSON values."""
        return [asdict(shard) for shard in self.shards]


def plan_activations(spec: ActivationsSpec, where: str = "activations") -> Plan:
    """Prepares the tasks, looks at the files and cuts both into shards. No weights are loaded.

    Raises:
        UserError: a task, file, site or prompt does not exist or does not fit the model.
    """
    model = known_model(spec.model)
    _check_sites(spec, model.shape, where)
    identity = {"model": model.fingerprint}
    if spec.prompt is not None:
        try:
            path = here(spec.prompt)
        except UserError as error:
            raise UserError(f"{where}: prompt: {error}") from None
        _check_prompt(spec, path, model, where)
        identity["prompt"] = fingerprints.of_file(path)
    loaded = load_tokenizer(spec.model)
    left = len(reserved(loaded.tokenizer))
    if left:
        identity[f"data.{VOCABULARY}"] = f"less {counted(left, 'reserved token')}"
    if (isinstance(spec.sites, str) or "resid.0" in spec.sites) and embeddings_change(
        architecture(resolve_model(spec.model).folder).config
    ):
        identity["resid.0"] = "embeddings"  # it once was what entered block 0
    known = sources(spec, loaded, where)
    shards = [Shard(f"{VOCABULARY}-00000", VOCABULARY, "", 0, 0, 0, 1)]
    for source in known.values():
        identity[f"data.{source.name}"] = source.fingerprint
        shards += _with_sequences(source, spec)
    groups = {VOCABULARY: (), **{name: source.groups for name, source in known.items()}}
    notes = tuple(note for source in known.values() for note in source.notes)
    return Plan(spec, model, identity, groups, tuple(shards), notes)


def _with_sequences(source: Source, spec: ActivationsSpec) -> Iterable[Shard]:
    """The shards, the texts to shuffle dealt out among them in proportion to their texts."""
    shards = source.shards(spec.shard_tokens)
    whole = sum(shard.texts for shard in shards)
    wanted = min(spec.sequences, whole)
    dealt, rests = zip(*(divmod(wanted * shard.texts, whole) for shard in shards), strict=True)
    # What is left after rounding down goes to those that lost most by it.
    lucky = set(sorted(range(len(shards)), key=lambda i: -rests[i])[: wanted - sum(dealt)])
    counts = [count + (i in lucky) for i, count in enumerate(dealt)]
    most = counts.index(max(counts))
    return [
        replace(shard, sequences=count, paths=min(count, PATHS) if i == most else 0)
        for i, (shard, count) in enumerate(zip(shards, counts, strict=True))
    ]


def _check_prompt(spec: ActivationsSpec, path: Path, model: KnownModel, where: str) -> None:
    posterior, shape = load_posterior(path), model.shape
    trained = (posterior.header.get("model") or {}).get("fingerprint")
    if trained is not None and trained != model.fingerprint:
        raise UserError(
            f"{where}: prompt = {path} was trained for another model ({trained[:12]} instead of "
            f"{model.fingerprint[:12]}); give a posterior of {spec.model.id}"
        )
    for place, vectors in posterior.final.items():
        width = None if shape is None else shape.width(place)
        if width is not None and vectors.shape[1] != width:
            raise UserError(
                f"{where}: prompt = {path} has vectors of {vectors.shape[1]} dimensions at {place.name}, but "
                f"{spec.model.id} takes {width}; give a posterior of {spec.model.id}"
            )


def _check_sites(spec: ActivationsSpec, shape: Shape | None, where: str) -> None:
    if isinstance(spec.sites, str) or shape is None:
        return
    for site in spec.sites:
        number = site.rpartition(".")[2]
        last = shape.blocks if "resid." in site else shape.blocks - 1
        if number.isdecimal() and int(number) > last:
            raise UserError(
                f"{where}: sites names {site}, but {spec.model.id} has {counted(shape.blocks, 'block')}: "
                f"resid.0 to resid.{shape.blocks}, key.0 to key.{shape.blocks - 1} and value.0 to "
                f"value.{shape.blocks - 1}, final"
            )
