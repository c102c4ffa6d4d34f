"""A first step as a plain script with Ray and transformers makes it; `benchmarks.first_step --floor` runs it.

One worker imports torch and transformers, loads the model as transformers does, and makes one step of a
prompt, forward and back. There is no plan, prior, data set, validation, baseline, record or Ray Tune, and
nothing runs beside it. With --bare the process does this itself, without Ray.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

TOKENS, ROWS, POSITIONS = 20, 8, 128
"""A prompt, and a batch of the quickstart's SQuAD, about as long as its rows."""


def step(weights: str, done: str) -> None:
    """Makes one step and leaves an empty file."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).requires_grad_(False)
    tokens = torch.arange(ROWS * POSITIONS).view(ROWS, POSITIONS) % model.config.vocab_size
    prompt = torch.zeros(TOKENS, model.config.hidden_size, requires_grad=True)
    texts = model.get_input_embeddings()(tokens)
    inputs = torch.cat([prompt.expand(ROWS, -1, -1), texts], dim=1)
    logits = model(inputs_embeds=inputs).logits[:, TOKENS:-1]
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    Path(done).touch()


def in_worker(weights: str, done: str) -> None:
    """The same in a worker of Ray's."""
    import ray

    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    ray.get(ray.remote(step).remote(weights, done))


if __name__ == "__main__":
    paths = sys.argv[1:3]
    (step if "--bare" in sys.argv else in_worker)(*paths)
