"""Files in which a bit has changed."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st


def with_a_bit_changed(path: Path, data: st.DataObject) -> Path:
    """A copy of a file, beside it, with one bit changed that hypothesis draws."""
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, 8 * len(content) - 1))
    content[place // 8] ^= 1 << place % 8
    changed = path.with_name("changed")
    changed.write_bytes(content)
    return changed
