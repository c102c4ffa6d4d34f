"""What an activations run will read, cut into shards, before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

from softprior.activations.prompts import check_fits, check_prompts, identities, read_posterior
from softprior.activations.shards import Shard, Source
from softprior.activations.spec import ActivationsSpec
from softprior.activations.texts import sources
from softprior.assets import fingerprints
from softprior.assets.architecture import Config, architecture
from softprior.assets.models import KnownModel, known_model, resolve_model
from softprior.assets.tokens import reserved
from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.models.entry import embeddings_change
from softprior.models.load import load_tokenizer
from softprior.prompt import Shape
from softprior.statistics.units import PROMPTS, VOCABULARY
from softprior.training.corrections import HostFacts

PATHS = 8
"""Texts of a task whose states are kept whole, for figures; all come from one shard."""


@dataclass(frozen=True)
class RunPlan:
    """What a run will do.

    Attributes:
        spec: the file, as read.
        identity: fingerprints of the model, of every source by name, of the prompt in front of texts, and
            of every followed prompt by name; `resid.0` where the family changes embeddings before block 0.
        groups: by source, names of the groups that get a mean of their own; vocabulary and followed
            prompts are sources too.
        shards: every part of every source.
        model: what is known of the model.
        notes: rows of tasks that are left out, one sentence per task; which texts states of prompts are for.
        densities: of the tasks and files, see `Source.density`.
    """

    spec: ActivationsSpec
    model: KnownModel
    identity: dict[str, str]
    groups: dict[str, tuple[str, ...]]
    shards: tuple[Shard, ...]
    notes: tuple[str, ...] = ()
    densities: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Identifies what decides the result, and not where and with how many workers it runs."""
        where = dict.fromkeys(("resources", "tracking", "description"), True)
        given = dict.fromkeys(("prompt", "prompts"), True)  # `identity` has what they are
        how = {"model": {"kernels", "frozen_cache"}}
        spec = self.spec.model_dump(mode="json", exclude={**where, **given, **how})
        value = [spec, self.identity, self.shard_facts()]
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks and files: the sources that are texts."""
        return tuple(name for name in self.groups if name not in (VOCABULARY, PROMPTS))

    @property
    def tokens(self) -> int:
        """Tokens to read once, about; the texts that are also read shuffled come on top."""
        return sum(map(self.expected, self.shards))

    @property
    def shuffled_tokens(self) -> int:
        """Tokens of the texts that are also read shuffled, about."""
        return sum(map(self.expected_again, self.shards))

    def expected(self, shard: Shard) -> int:
        """Tokens of a shard, about."""
        return round(self.densities.get(shard.source, 1.0) * shard.tokens)

    def expected_again(self, shard: Shard) -> int:
        """Tokens of a shard that are read a second time, shuffled, about."""
        return min(shard.sequences * shard.length, self.expected(shard))

    def shard_facts(self) -> list[dict[str, object]]:
        """The shards as JSON values."""
        return [asdict(shard) for shard in self.shards]


def plan_activations(spec: ActivationsSpec, where: str = "activations") -> RunPlan:
    """Prepares the tasks, looks at the files and cuts both into shards. No weights are loaded.

    Raises:
        UserError: a task, file, site or prompt does not exist or does not fit the model.
    """
    model = known_model(spec.model)
    _check_sites(spec, model.shape, where)
    identity, front = {"model": model.fingerprint}, 0
    if spec.prompt is not None:
        posterior, path = read_posterior(spec.prompt, "prompt", where)
        check_fits(posterior, f"{where}: prompt = {path}", model, spec.model.id)
        identity["prompt"] = fingerprints.of_file(path)
        front = max(map(len, posterior.final.values()))
    check_prompts(spec, model, where)
    identity |= identities(spec)
    loaded = load_tokenizer(spec.model)
    left = len(reserved(loaded.tokenizer))
    if left:
        identity[f"data.{VOCABULARY}"] = f"less {counted(left, 'reserved token')}"
    config = architecture(resolve_model(spec.model).folder).config
    if (isinstance(spec.sites, str) or "resid.0" in spec.sites) and embeddings_change(config):
        identity["resid.0"] = "embeddings"  # it once was what entered block 0
    known = sources(spec, loaded, where)
    shards = [Shard(f"{VOCABULARY}-00000", VOCABULARY, "", 0, 0, 0, 1)]
    for source in known.values():
        _require_positions(source, front, model.shape, spec.model.id, where)
        identity[f"data.{source.name}"] = source.fingerprint
        shards += _with_sequences(source, spec)
    groups = {VOCABULARY: (), **{name: source.groups for name, source in known.items()}}
    notes = [note for source in known.values() for note in source.notes]
    if spec.prompts:
        shards.append(Shard(f"{PROMPTS}-00000", PROMPTS, "", 0, 0, 0, 1))
        groups[PROMPTS] = tuple(sorted(prompt.name for prompt in spec.prompts))
        notes += _for_short_texts(spec, config)
    densities = {name: source.density for name, source in known.items()}
    return RunPlan(spec, model, identity, groups, tuple(shards), tuple(notes), densities)


def _for_short_texts(spec: ActivationsSpec, config: Config) -> list[str]:
    """A note where a long text would turn the prompt in front of it otherwise (longrope, dynamic)."""
    steady = HostFacts.of_config(config).steady
    if steady is None:
        return []
    return [
        f"prompts: positions in {spec.model.id} depend on the length of the sequence from {steady:,} on; the "
        "states of prompts are those in front of shorter texts"
    ]


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


def _require_positions(source: Source, front: int, shape: Shape | None, model: str, where: str) -> None:
    """The longest text, behind the prompt, has to fit the model's positions, as in a study.

    Raises:
        UserError: it does not.
    """
    positions = None if shape is None else shape.positions
    if positions is None or front + source.longest <= positions:
        return
    behind = f" behind {counted(front, 'vector')} of the prompt" if front else ""
    raise UserError(
        f"{where}: texts of {source.name} have up to {counted(source.longest, 'token')}{behind}, but {model} "
        f"has {positions:,} positions; lower the length of the texts"
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
