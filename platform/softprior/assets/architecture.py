"""Which class and config of transformers a model folder is loaded with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from softprior.errors import UserError

_TEXT_NAMES = {
    r"^(?:model\.)?language_model\.model\.": "model.",
    r"^model\.language_model\.": "model.",
    r"^(?:model\.)?language_model\.lm_head\.": "lm_head.",
}
"""Names that tensors of a text model have inside a multimodal one, and their own."""


class Architecture(NamedTuple):
    """How a folder is loaded.

    Attributes:
        config: transformers' config of the text model.
        factory: `AutoModelForCausalLM` or `AutoModelForSeq2SeqLM`.
        names: patterns of stored names and what they become; None where they are the model's own.
        whole: the multimodal family of which the text model is a part.
    """

    config: Any
    factory: Any
    names: Mapping[str, str] | None
    whole: str | None

    def load(self, folder: Path | None, **options: Any) -> tuple[Any, dict[str, Any]]:
        """The model, and what transformers tells of tensors that were missing, left over or of other shapes.

        Args:
            folder: None for a model of the state dict among the options.
        """
        return self.factory.from_pretrained(
            folder,
            config=self.config,
            key_mapping=self.names,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )


def architecture(folder: Path) -> Architecture:
    """The architecture that a folder's config.json asks for; of a multimodal one that of its text model.

    Raises:
        UserError: transformers does not know it, or has no text model of it.
    """
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
    )

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # each family checks its config in its own way
        raise UserError(
            f"{folder / 'config.json'} cannot be used ({line(error)}); correct it, or choose another model"
        ) from None
    if config.is_encoder_decoder:
        return Architecture(config, AutoModelForSeq2SeqLM, None, None)
    text = config.get_text_config(decoder=True)
    if type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        part = f", whose text model {text.model_type} is none on its own" if text is not config else ""
        raise UserError(
            f"the family '{config.model_type}' of {folder} is no language model that transformers can load "
            f"as one{part}; choose a decoder-only or T5 model"
        )
    if text is config:
        return Architecture(config, AutoModelForCausalLM, None, None)
    # The whole model says whether its output layer is its embedding table.
    text.tie_word_embeddings = getattr(config, "tie_word_embeddings", text.tie_word_embeddings)
    return Architecture(text, AutoModelForCausalLM, _TEXT_NAMES, config.model_type)


def line(error: Exception) -> str:
    """The first line of what an error says, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
