"""Which class and config of transformers a model folder is loaded with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypedDict, runtime_checkable

from softprior.assets.configs import require_values, unusable, why
from softprior.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ENCODER_DECODERS = ("t5", "mt5", "umt5")
"""transformers' `model_type` of T5, T5 v1.1, Flan-T5, ByT5 (t5), mT5 and UMT5.

Their positions are relative alone, so vectors in front move no token, and what a row computes depends
on nothing beside it. Named, because neither shows in two short rows: LongT5 attends in blocks counted
from the sequence's start, and the experts of Switch Transformers drop tokens once they are full.
"""

_TEXT_NAMES = {
    r"^(?:model\.)?language_model\.model\.": "model.",
    r"^model\.language_model\.": "model.",
    r"^(?:model\.)?language_model\.lm_head\.": "lm_head.",
}
"""Names of a text model's tensors inside a multimodal model, and the names they have on their own."""


def require_family(config: Config) -> None:
    """Accepts encoder-decoder models of the T5 kind only.

    Raises:
        UserError: the encoder-decoder model is of another family.
    """
    if config.model_type not in ENCODER_DECODERS:
        raise UserError(
            f"softprior cannot run the encoder-decoder family '{config.model_type}', only "
            f"{', '.join(ENCODER_DECODERS)}; choose a T5 or a decoder-only model"
        )


@runtime_checkable
class DecoderConfig(Protocol):
    """What every config of a text model says."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def max_position_embeddings(self) -> int: ...
    @property
    def model_type(self) -> str: ...


@runtime_checkable
class Config(DecoderConfig, Protocol):
    """What softprior reads of a config of transformers, if the family has it; T5's have other names too."""

    @property
    def is_encoder_decoder(self) -> bool: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...


class LoadingInfo(TypedDict):
    """What transformers reports about tensors that it misses, does not know, or finds in another shape."""

    missing_keys: Collection[str]
    unexpected_keys: Collection[str]
    mismatched_keys: Collection[tuple[str, Sequence[int], Sequence[int]]]


class Architecture(NamedTuple):
    """How a folder is loaded.

    Attributes:
        config: transformers' config of the text model.
        kind: transformers' class of the model.
        names: patterns of stored names and what they become; None where they are the model's own.
        whole: the multimodal family of which the text model is a part.
    """

    config: Config
    kind: Any
    names: Mapping[str, str] | None
    whole: str | None

    def load(self, folder: Path | None, **options: object) -> tuple[PreTrainedModel, LoadingInfo]:
        """The model, and what transformers reports about missing, unexpected and mismatched tensors.

        Args:
            folder: None to load from the state dict among the options.
        """
        found: tuple[PreTrainedModel, LoadingInfo] = self.kind.from_pretrained(
            folder, config=self.config, key_mapping=self.names, output_loading_info=True, **options
        )
        return found


def architecture(folder: Path) -> Architecture:
    """The architecture given by a folder's config.json; for a multimodal model, that of its text model.

    Raises:
        UserError: transformers does not know it or has no text model for it, a value is invalid, or it has
            an encoder and is not a T5.
    """
    require_values(folder)
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        AutoConfig,
    )

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # each family checks its config in its own way
        raise unusable(folder, why(folder, error)) from None
    if config.is_encoder_decoder:
        require_family(config)
        return Architecture(config, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[type(config)], None, None)
    text = config.get_text_config(decoder=True)
    if type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        part = (
            f", as its text model {text.model_type} cannot be loaded on its own" if text is not config else ""
        )
        raise UserError(
            f"the model in {folder} is of the family '{config.model_type}', which transformers cannot load "
            f"as a language model{part}; choose a decoder-only or T5 model"
        )
    kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(text)]
    if text is config:
        return Architecture(config, kind, None, None)
    # The whole model says whether its output layer is its embedding table.
    if hasattr(config, "tie_word_embeddings"):
        text.tie_word_embeddings = config.tie_word_embeddings
    return Architecture(text, kind, _TEXT_NAMES, config.model_type)
