"""A program of this repository as the next release will have it, whose messages are of the next version.

    python -m tests.support.next_release tests.support.stand_in --broker ...
    python -m tests.support.next_release services.cli.main search ...

Its requests have a field that this release doesn't know, and the other way round.
"""

from shared.messages import REQUEST_VERSION
from tests.support.changed import run_changed

CHANGES = {
    "shared.messages": {
        f"REQUEST_VERSION: Literal[{REQUEST_VERSION}] = {REQUEST_VERSION}": (
            f"REQUEST_VERSION: Literal[{REQUEST_VERSION + 1}] = {REQUEST_VERSION + 1}"
        ),
        f", {REQUEST_VERSION}] = REQUEST_VERSION": f", {REQUEST_VERSION}, {REQUEST_VERSION + 1}] = REQUEST_VERSION",
        f"version: Literal[{REQUEST_VERSION}] = REQUEST_VERSION": (
            f"version: Literal[{REQUEST_VERSION}, {REQUEST_VERSION + 1}] = REQUEST_VERSION"
        ),
        "    search: str\n    checkpoint: CheckpointRef\n": (
            "    search: str\n    checkpoint: CheckpointRef\n    temper: str = 'patient'\n"
        ),
    }
}

if __name__ == "__main__":
    run_changed(CHANGES)
