"""Fetches a checkpoint in a process of its own: `python -m tests.support.fetching LOCATION CACHE [DIGEST]`."""

import sys
from pathlib import Path

from shared.errors import UserError
from shared.supernet.source import fetch_checkpoint
from shared.telemetry.logs import configure_logs

if __name__ == "__main__":
    location, cache, *digest = sys.argv[1:]
    configure_logs("text")
    try:
        print(fetch_checkpoint(location, digest[0] if digest else None, Path(cache)))
    except UserError as error:
        sys.exit(f"UserError: {error}")
