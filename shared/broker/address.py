"""Where a broker is, who we are to it, and whom we trust."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from shared.errors import UserError

PORTS = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True)
class BrokerAddress:
    """A broker's address; `str` shows it without the password. `tls` is None for a connection in the clear."""

    host: str
    port: int
    vhost: str
    user: str
    password: str = field(repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        scheme = "amqp" if self.tls is None else "amqps"
        return f"{scheme}://{self.user}@{self.host}:{self.port}/{self.vhost}"

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
        example = "write amqp://USER:PASSWORD@HOST/VHOST, or amqps:// for TLS"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UserError(f"broker: {error}; {example}") from error
        if parts.scheme not in PORTS or not parts.hostname or parts.query or parts.fragment:
            raise UserError(f"broker: not a broker's URL; {example}")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if credentials is not None:
            user, password = _read_credentials(credentials)
        if not user or not password:
            raise UserError(f"broker {parts.hostname}: user or password is missing; {example}, or name their file")
        if parts.scheme == "amqp" and authority:
            raise UserError(f"broker {parts.hostname}: certificates are for TLS; write amqps://, or leave them out")
        return cls(
            host=parts.hostname,
            port=port or PORTS[parts.scheme],
            vhost=unquote(parts.path[1:]) or "nasfarm",
            user=user,
            password=password,
            tls=_tls(authority) if parts.scheme == "amqps" else None,
        )


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
