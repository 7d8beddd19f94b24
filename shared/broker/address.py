"""Where a broker is, who we are to it, and whom we trust."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

from shared.errors import UserError

PORTS = {"amqp": 5672, "amqps": 5671}
EXAMPLE = "write amqp://USER:PASSWORD@HOST/VHOST, or amqps:// for TLS"


@dataclass(frozen=True)
class BrokerAddress:
    """A broker's address; `str` shows it without user and password. `tls` is None for a connection in the clear."""

    host: str
    port: int
    vhost: str
    user: str
    password: str = field(repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        scheme = "amqp" if self.tls is None else "amqps"
        return f"{scheme}://{self.host}:{self.port}/{self.vhost}"

    @classmethod
    def parse(
        cls,
        url: str,
        credentials: Path | None = None,
        authority: Path | None = None,
    ) -> Self:
        """An address from its parts.

        Args:
            url: `amqp://user:password@host:port/vhost`, or `amqps://` for TLS. Port and vhost may be missing.
            credentials: a file that holds `user:password`, instead of having them in the URL.
            authority: certificates (PEM) of those who may sign the broker's; by default those of the system.

        Raises:
            UserError: for anything that can't be read or makes no sense.
        """
        parts, port = _parts(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if credentials is not None:
            user, password = _read_credentials(credentials)
        if not user or not password:
            raise UserError(f"broker: user or password is missing in its URL; {EXAMPLE}, or name their file")
        if parts.scheme == "amqp" and authority:
            raise UserError(f"broker {parts.hostname}: certificates are for TLS; write amqps://, or leave them out")
        return cls(
            host=parts.hostname or "",
            port=port or PORTS[parts.scheme],
            vhost=unquote(parts.path[1:]) or "nasfarm",
            user=user,
            password=password,
            tls=_tls(authority) if parts.scheme == "amqps" else None,
        )


def _parts(url: str) -> tuple[SplitResult, int | None]:
    """A broker's URL, taken apart, and its port.

    Raises UserError where it is none. Nothing of the URL is repeated then, as it may be the password: one with a
    character that means something in a URL ends the host before it began.
    """
    _, _, behind_scheme = url.partition("://")
    authority, _, rest = behind_scheme.partition("/")
    if any(each in authority for each in "?#") or "@" in rest:
        raise UserError(
            "broker: not a broker's URL; in user, password and vhost percent-encode what isn't a letter or a digit: "
            f"@ is %40, / is %2F, # is %23, ? is %3F; {EXAMPLE}"
        )
    try:
        parts = urlsplit(url)
        named, port = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(
            f"broker: its URL can't be read; the port is a number up to 65535, and what isn't a letter or a digit in "
            f"user and password is percent-encoded; {EXAMPLE}"
        ) from error
    if parts.scheme not in PORTS or not named or parts.query or parts.fragment:
        raise UserError(f"broker: not a broker's URL; {EXAMPLE}")
    return parts, port


def _read_credentials(path: Path) -> tuple[str, str]:
    try:
        user, _, password = path.read_text(encoding="utf-8").strip().partition(":")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read ({error}); it must hold user:password") from error
    if not user or not password:
        raise UserError(f"{path}: must hold user:password")
    return user, password


def _tls(authority: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise UserError(f"{authority}: no certificates in it that could be read ({error}); name a PEM file") from error
