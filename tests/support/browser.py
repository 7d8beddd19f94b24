"""Pages opened in a real browser from a file, as their readers do, and what they ask for and complain about."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from playwright.sync_api import Browser, Page

Content = TypeVar("Content")
SCREEN, TELEPHONE = 1280, 360
"""Widths of windows in pixels."""


@dataclass
class Opener(Generic[Content]):
    """Opens pages, and remembers what they asked for and complained about."""

    browser: Browser
    file: Path
    render: Callable[[Content], str]
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __call__(self, content: Content, width: int = SCREEN) -> Page:
        self.file.write_text(self.render(content), encoding="utf-8")
        page = self.browser.new_page(viewport={"width": width, "height": 800})
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(self.file.as_uri())
        return page


@contextmanager
def opening(browser: Browser, file: Path, render: Callable[[Content], str]) -> Iterator[Opener[Content]]:
    """An opener of one page, which may neither complain nor ask for anything but itself."""
    opener = Opener(browser, file, render)
    yield opener
    for context in browser.contexts:
        context.close()
    assert opener.complaints == []
    assert [url for url in opener.requests if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in opener.requests) == 1
