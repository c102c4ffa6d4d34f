"""A browser without a window, for tests of pages: Chromium where there is one, skipped elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")

PATIENT = 120_000
"""Milliseconds after which a page that shows nothing is given up: a hang, not a slow machine."""


@dataclass
class Browser:
    """An open page, as wide as a small laptop's; its context opens others, which are watched too.

    Attributes:
        page: playwright's.
        errors: what failed in the pages' scripts.
        requests: addresses that were asked for.
    """

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A page in a fresh browser."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("there is no Chromium here; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        # The tests may run as root, in a container, where Chromium's own sandbox does not start.
        opened = play.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=PATIENT)
        context = opened.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(PATIENT)
        found = Browser(context.new_page())
        context.on("weberror", lambda wrong: found.errors.append(str(wrong.error)))
        context.on("request", lambda request: found.requests.append(request.url))
        yield found
        opened.close()
