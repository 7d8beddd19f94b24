"""HTML pages that are one file and need nothing else: no server, no network, no file beside them."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from services.reporting import wording

PACKAGE = "services.reporting"


def render(template: str, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """A page of a template that extends `_page.html.j2`, with style sheets and scripts of `templates/`. All text from
    `values` is escaped, and a content security policy admits only the page's own script and style."""
    style, script = ("\n".join(_asset(name) for name in names) for names in (styles, scripts))
    environment = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        words=wording,
        style=_trusted(style),
        script=_trusted(script),
        style_hash=_source_hash(style),
        script_hash=_source_hash(script),
        **values,
    )


def _asset(name: str) -> str:
    return resources.files(PACKAGE).joinpath("templates", name).read_text(encoding="utf-8")


def _trusted(source: str) -> Markup:
    return Markup(source)  # noqa: S704  # it comes with this package, no user wrote it


def _source_hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
