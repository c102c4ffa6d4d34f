"""Clients of inference servers that take prompt embeddings: vLLM's completions API, and SGLang's own.

Both are asked for the greedy continuation. vLLM wants a tensor as `torch.save` writes it, in base64, which
it reads with `weights_only=True`; it is made for the request and is never in a file.
"""

from __future__ import annotations

import base64
import io
import os
import re
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.errors import UserError

KEY = "OPENAI_API_KEY"
"""Environment variable with the server's key, if it wants one."""

_SECONDS = 600.0
"""For a long answer of a busy server."""


class Server(Protocol):
    """A server that continues a text given by its embeddings."""

    def complete(self, vectors: Float[Tensor, "N H"], max_new: int = 20) -> str:
        """The greedy continuation.

        Raises:
            UserError: the server cannot be reached, refuses, or answers something else.
        """


@dataclass(frozen=True, kw_only=True)
class VLLM:
    """An OpenAI-compatible server of vLLM, started with `--enable-prompt-embeds`.

    Attributes:
        address: without the path, such as `http://localhost:8000`.
        model: the name under which it serves the model.
    """

    address: str
    model: str

    def complete(self, vectors: Float[Tensor, "N H"], max_new: int = 20) -> str:
        """See `Server`."""
        content = io.BytesIO()
        torch.save(vectors.contiguous().clone(), content)  # a view would bring all of its storage
        asked = {
            "model": self.model,
            "prompt_embeds": base64.b64encode(content.getvalue()).decode("ascii"),
            "max_tokens": max_new,
            "temperature": 0,
        }
        return _answered(self.address, "/v1/completions", asked, ("choices", 0, "text"))


@dataclass(frozen=True, kw_only=True)
class SGLang:
    """A server of SGLang, started with `--disable-radix-cache`: it would find texts by their tokens.

    Attributes:
        address: without the path, such as `http://localhost:30000`.
    """

    address: str

    def complete(self, vectors: Float[Tensor, "N H"], max_new: int = 20) -> str:
        """See `Server`."""
        asked = {
            "input_embeds": vectors.tolist(),
            "sampling_params": {"max_new_tokens": max_new, "temperature": 0},
        }
        return _answered(self.address, "/generate", asked, ("text",))


def _answered(address: str, path: str, asked: dict[str, Any], at: tuple[str | int, ...]) -> str:
    """The text at some keys of the server's answer."""
    import httpx2  # slow to import, and only servers need it

    url = address.rstrip("/") + path
    shown = re.sub(r"//.*@", "//", url)  # without a password, which may have an @ or a slash
    key = os.environ.get(KEY)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx2.post(url, json=asked, headers=headers, timeout=_SECONDS)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        why = type(error).__name__ if shown != url else error  # which may quote a part of the password
        raise UserError(f"{shown} does not answer ({why}); start the server or correct the address") from None
    if answer.status_code != 200:
        first = (answer.text.splitlines() or ["no reason given"])[0][:200]
        raise UserError(
            f"{shown} refuses the request with status {answer.status_code} ({first}); correct the address, "
            "the model's name or how the server was started"
        )
    try:
        found = answer.json()
        for part in at:
            found = found[part]
    except (ValueError, LookupError, TypeError):
        found = None
    if not isinstance(found, str):
        raise UserError(
            f"{shown} answers without a text at {'.'.join(map(str, at))}; check what kind of server it is"
        )
    return found
