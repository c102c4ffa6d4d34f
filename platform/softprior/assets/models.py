"""Resolves a model's id to a folder that `from_pretrained` loads fast, and to a fingerprint of it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import softprior
from softprior.assets import fingerprints
from softprior.assets.architecture import Config, architecture
from softprior.assets.cache import cache_root, ensure
from softprior.assets.carried import convert_carried
from softprior.assets.catalogue import Asset, JoinedFile, PackageFolder, RegistryFile, Sizes, catalogue
from softprior.assets.checkpoint import INDEX, listed, read_checkpoint
from softprior.assets.conversion import CONVERSION_VERSION, check_gguf, convert_gguf, gguf_sizes
from softprior.assets.examination import Examination, examine, read_gguf, read_tokenizer
from softprior.assets.hub import hub_commit, hub_model, hub_tokenizer, require_intact
from softprior.assets.tokens import Tokenizer
from softprior.errors import UserError, suggestion
from softprior.inputs.paths import home_path
from softprior.inputs.specs import ModelSpec
from softprior.prompt import Shape

_HUB = "hub:"
_CARRIED = RegistryFile | JoinedFile
"""Sources of the catalogue that are fetched and converted."""


LIKE_LLAMA = ("llama", "mistral", "qwen2")
"""transformers' `model_type` of families whose blocks are Llama's: two root mean square norms, grouped keys
and a gated MLP."""


class Widths(NamedTuple):
    """Widths inside the blocks of a model of Llama's kind.

    Attributes:
        queries: a block's queries, heads side by side.
        inner: the states inside an MLP.
    """

    queries: int
    inner: int


class KnownModel(NamedTuple):
    """What is known about a model without fetching or converting anything.

    Attributes:
        fingerprint: the one that `resolve_model` returns.
        shape: its sizes; None where they are not known.
        parameters: number of weights, likewise.
        notes: the terms of its use, and what is unused of its files, one sentence each, as far as that is
            known.
        widths: of a model of Llama's kind; None for others, and where they are not known.
    """

    fingerprint: str
    shape: Shape | None
    parameters: int | None
    notes: tuple[str, ...]
    widths: Widths | None


class ResolvedModel(NamedTuple):
    """A model on this machine.

    Attributes:
        folder: config, safetensors and tokenizer, as `AutoModelForCausalLM.from_pretrained` reads them.
        fingerprint: identifies the weights: equal fingerprints mean equal weights, config and tokenizer.
        licence: as far as it is known.
    """

    folder: Path
    fingerprint: str
    licence: str


def resolve_model(model: ModelSpec) -> ResolvedModel:
    """The model on this machine, fetched and converted first if needed.

    Raises:
        UserError: the id is unknown, the files are missing, damaged or of a refused kind, or they cannot be
            fetched.
    """
    if model.id in catalogue().models:
        asset = catalogue().models[model.id]
        found = ResolvedModel(_catalogue_folder(model.id, asset), _of_catalogue(asset), asset.licence)
    elif model.id.startswith(_HUB):
        snapshot = hub_model(model.id.removeprefix(_HUB), model.revision)
        require_intact(snapshot.folder)
        found = ResolvedModel(snapshot.folder, snapshot.commit, snapshot.licence)
    else:
        weights = _local_weights(model.id)
        folder = weights if weights.is_dir() else _converted(weights)
        found = ResolvedModel(folder, _of_local(weights), "not stated")
    examine(read_checkpoint(found.folder))
    return found


def is_here(model: ModelSpec) -> bool:
    """Whether `resolve_model` would fetch and convert nothing; False for hub models.

    Raises:
        UserError: the id is unknown, or local files are missing or of a refused kind.
    """
    asset = catalogue().models.get(model.id)
    if asset is None:
        return not model.id.startswith(_HUB) and _local_weights(model.id).is_dir()
    return not isinstance(asset.source, _CARRIED) or (cache_root() / _kept(model.id, asset)).exists()


def to_fetch(model: ModelSpec) -> tuple[RegistryFile, ...]:
    """The files of a package registry that `resolve_model` would fetch; none for a model of the hub."""
    asset = catalogue().models.get(model.id)
    if asset is None or not isinstance(asset.source, _CARRIED) or is_here(model):
        return ()
    terms = () if asset.terms is None else (asset.terms.source,)
    return (*terms, *asset.source.files)


def known_model(model: ModelSpec) -> KnownModel:
    """What a plan may know about a model.

    The network is needed only to resolve the branch or tag of a hub model to a commit.

    Raises:
        UserError: the id is unknown, or local files are missing, damaged or of a refused kind.
    """
    examined, sizes = _examined(model), _sizes(model)
    parameters = None if sizes is None else sizes.parameters
    if parameters is None and examined is not None:
        parameters = examined.parameters
    notes = (*_terms(model), *(examined.notes if examined is not None else ()))
    return KnownModel(_fingerprint(model), model_shape(model), parameters, notes, _widths(model))


def _terms(model: ModelSpec) -> list[str]:
    """The terms of a model's use, if the catalogue names some."""
    asset = catalogue().models.get(model.id)
    return [] if asset is None or asset.terms is None else [asset.terms.sentence(model.id)]


def _fingerprint(model: ModelSpec) -> str:
    if model.id in catalogue().models:
        return _of_catalogue(catalogue().models[model.id])
    if model.id.startswith(_HUB):
        return hub_commit(model.id.removeprefix(_HUB), model.revision)
    return _of_local(_local_weights(model.id))


def _examined(model: ModelSpec) -> Examination | None:
    """What headers say about a model; None if it has to be fetched or converted first.

    Raises:
        UserError: it cannot be loaded.
    """
    weights = _here(model)
    if weights is None:
        return None
    if weights.is_file():
        check_gguf(weights)
        return None
    return examine(read_checkpoint(weights))


def tokenizer_here(model: ModelSpec) -> Tokenizer | None:
    """The model's tokenizer, for a hub model fetched on its own; None if it is not available.

    Raises:
        UserError: it cannot be read.
    """
    if model.id.startswith(_HUB):
        folder = _small_files(model)
        return None if folder is None else read_tokenizer(folder)
    weights = _here(model)
    asset = catalogue().models.get(model.id)
    if weights is None and asset is not None and is_here(model):
        weights = cache_root() / _kept(model.id, asset)
    if weights is None:
        return None
    found: Tokenizer = read_gguf(weights, "tokenizer") if weights.is_file() else read_tokenizer(weights)
    return found


def config_here(model: ModelSpec) -> Config | None:
    """The config of the model's decoder, as transformers reads it; None where `tokenizer_here` is None.

    Raises:
        UserError: it cannot be read.
    """
    if model.id.startswith(_HUB):
        folder = _small_files(model)
        return None if folder is None else architecture(folder).config
    weights = _here(model)
    if weights is None:
        return None
    found: Config = read_gguf(weights, "config") if weights.is_file() else architecture(weights).config
    return found


def _small_files(model: ModelSpec) -> Path | None:
    """Config and tokenizer of a hub model, if they are available."""
    repo = model.id.removeprefix(_HUB)
    # If a branch has moved, the snapshot on this machine is another commit's.
    return hub_tokenizer(repo, hub_commit(repo, model.revision))


def _here(model: ModelSpec) -> Path | None:
    """The folder or GGUF file of a model that needs no fetching; None for others."""
    if model.id.startswith(_HUB):
        return None
    asset = catalogue().models.get(model.id)
    if asset is None:
        return _local_weights(model.id)
    return None if isinstance(asset.source, _CARRIED) else _shipped(asset.source)


def _sizes(model: ModelSpec) -> Sizes | None:
    """What the catalogue or a GGUF file's header says about a model's sizes."""
    if model.id.startswith(_HUB):
        return catalogue().hub.get(model.id.removeprefix(_HUB))
    asset = catalogue().models.get(model.id)
    if asset is not None:
        return asset
    weights = _local_weights(model.id)
    return gguf_sizes(weights) if weights.is_file() else None


def model_shape(model: ModelSpec) -> Shape | None:
    """The model's sizes, as far as they are known without fetching or converting anything."""
    sizes = _sizes(model)
    if sizes is not None and sizes.blocks is not None:
        others = {name: getattr(sizes, name) for name in ("hidden", "keys", "positions", "vocabulary")}
        return Shape(sizes.blocks, **others)
    weights = _here(model)
    if weights is None or weights.is_file():
        return None
    return _config_shape(read_checkpoint(weights).config)


def _widths(model: ModelSpec) -> Widths | None:
    """The widths inside its blocks, as `model_shape` knows sizes."""
    sizes = _sizes(model)
    if sizes is not None and sizes.queries is not None and sizes.inner is not None:
        return Widths(sizes.queries, sizes.inner)
    weights = _here(model)
    if weights is None or weights.is_file():
        return None
    config = read_checkpoint(weights).config
    hidden, heads, each, inner = (
        value if type(value := config.get(name)) is int else None
        for name in ("hidden_size", "num_attention_heads", "head_dim", "intermediate_size")
    )
    if config.get("model_type") not in LIKE_LLAMA or hidden is None or not heads or inner is None:
        return None
    return Widths(heads * (each or hidden // heads), inner)


def _config_shape(facts: dict[str, object]) -> Shape | None:
    """The sizes in a config.json, whatever its family calls them; of the text model if multimodal."""
    nested = facts.get("text_config")
    if isinstance(nested, dict):
        return _config_shape({"is_encoder_decoder": facts.get("is_encoder_decoder"), **nested})

    def size(*names: str) -> int | None:
        return next((value for name in names if type(value := facts.get(name)) is int), None)

    blocks = size("num_layers", "num_hidden_layers", "n_layer", "n_layers")  # T5's encoder has num_layers
    if blocks is None:
        return None
    hidden, vocabulary = size("hidden_size", "n_embd", "d_model"), size("vocab_size")
    if facts.get("is_encoder_decoder") is True:
        return Shape(blocks, "encoder", hidden, vocabulary=vocabulary)
    heads, groups, each = size("num_attention_heads"), size("num_key_value_heads"), size("head_dim")
    if each is None and hidden and heads:
        each = hidden // heads
    keys = groups * each if groups and each else None
    return Shape(blocks, "decoder", hidden, keys, size("max_position_embeddings", "n_positions"), vocabulary)


def _of_catalogue(asset: Asset) -> str:
    if isinstance(asset.source, _CARRIED):
        return fingerprints.combined(asset.source.sha256, *asset.members, f"conversion {CONVERSION_VERSION}")
    return _of_local(_shipped(asset.source))


def _catalogue_folder(id: str, asset: Asset) -> Path:
    if not isinstance(asset.source, _CARRIED):
        return _shipped(asset.source)
    return ensure(_kept(id, asset), lambda folder: convert_carried(id, asset, folder))


def _kept(id: str, asset: Asset) -> str:
    """Where the cache has a model of the catalogue."""
    return f"models/{id}-{_of_catalogue(asset)[:12]}"


def _shipped(source: object) -> Path:
    if not isinstance(source, PackageFolder):
        raise TypeError(f"a model of the catalogue cannot come from {source}")
    folder = Path(softprior.__file__).parent / source.folder
    wanted = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"the model that softprior ships in {folder} lacks {', '.join(missing)}; "
            "reinstall softprior, or train the model again with: python -m jobs.tiny --train"
        )
    return folder


def _converted(gguf: Path) -> Path:
    def build(folder: Path) -> None:
        folder.mkdir()
        convert_gguf(gguf, folder, {"file": str(gguf), "sha256": fingerprints.of_file(gguf)})

    check_gguf(gguf)
    # Another place than before conversions were checked: what stands there may lack tensors of its file.
    return ensure(f"models/{gguf.stem}-{fingerprints.combined('complete', _of_local(gguf))[:12]}", build)


def _of_local(weights: Path) -> str:
    if weights.is_file():
        return fingerprints.combined(fingerprints.of_file(weights), f"conversion {CONVERSION_VERSION}")
    return fingerprints.of_files(read_checkpoint(weights).identifying())


def _local_weights(id: str) -> Path:
    """A folder with safetensors, or a GGUF file."""
    path = home_path(id)
    if not path.exists():
        if id.startswith((".", "/", "~")) or id.endswith(".gguf"):
            raise UserError(f"there is no model folder or .gguf file at {id}; check the path")
        name = id if id.count("/") == 1 else "OWNER/NAME"
        raise UserError(
            f"there is no model '{id}'; {suggestion(id, list(catalogue().models))}, a path, or "
            f"'{_HUB}{name}' for a model on the hub"
        )
    path = path.resolve()
    if path.is_file():
        if path.suffix != ".gguf":
            raise UserError(
                f"the model {path} is neither a folder nor a .gguf file; give the folder it is in"
            )
        return path
    if listed(path, "*.safetensors", INDEX):
        return path
    ggufs = listed(path, "*.gguf")
    if len(ggufs) == 1:
        return ggufs[0]
    raise UserError(f"the model folder {path} contains {_content(path, ggufs)}")


def _content(folder: Path, ggufs: list[Path]) -> str:
    if ggufs:
        for path in ggufs:
            check_gguf(path)  # parts of one model are not a choice
        return f"{len(ggufs)} GGUF files; give the path of one, such as {ggufs[0]}"
    if any(folder.glob("*.bin")):
        return "only .bin files, which can run code when they are read; save the model again as safetensors"
    return "neither safetensors nor a GGUF file; check the path"
