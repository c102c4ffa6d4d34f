"""Small GGUF files, as models are published in them."""

from pathlib import Path

import gguf
import torch

WORDS = ["<unk>", "<s>", "</s>", "a", "b", "c", "ab", "abc"]


def write_gguf(path: Path, leave_out: str = "nothing", parts: int = 0, blocks: int = 1) -> Path:
    """A random Llama of one block as a GGUF file, without the tensors of a name's start.

    Args:
        parts: how many files it says the model has; 0 to say nothing.
        blocks: how many blocks it says the model has.
    """
    writer = gguf.GGUFWriter(path, "llama")
    if parts:
        writer.add_uint16("split.count", parts)
    writer.add_context_length(32)
    writer.add_embedding_length(8)
    writer.add_block_count(blocks)
    writer.add_feed_forward_length(16)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b", "ab c"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    generator = torch.Generator().manual_seed(0)
    wide, narrow = (16, 8), (8, 16)
    shapes = {"token_embd": (len(WORDS), 8), "output_norm": (8,), "output": (len(WORDS), 8)}
    shapes |= {f"blk.0.{name}": (8, 8) for name in ("attn_q", "attn_output")}
    shapes |= {f"blk.0.{name}": (4, 8) for name in ("attn_k", "attn_v")} | {"rope_freqs": (2,)}
    shapes |= {f"blk.0.{name}": (8,) for name in ("attn_norm", "ffn_norm")}
    shapes |= {"blk.0.ffn_gate": wide, "blk.0.ffn_up": wide, "blk.0.ffn_down": narrow}
    for name, shape in shapes.items():
        if not name.startswith(leave_out):
            writer.add_tensor(f"{name}.weight", torch.randn(shape, generator=generator).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
