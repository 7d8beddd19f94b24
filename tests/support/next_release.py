"""A program of this repository as the next release will have it, whose messages are of the next version.

    python -m tests.support.next_release tests.support.stand_in --broker ...
    python -m tests.support.next_release services.cli.main search ...

Its requests have a field that this release doesn't know, and the other way round.
"""

import importlib.util
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

from shared.messages import REQUEST_VERSION

CHANGED = "shared.messages"
CHANGES = {
    f"REQUEST_VERSION: Literal[{REQUEST_VERSION}] = {REQUEST_VERSION}": (
        f"REQUEST_VERSION: Literal[{REQUEST_VERSION + 1}] = {REQUEST_VERSION + 1}"
    ),
    f", {REQUEST_VERSION}] = REQUEST_VERSION": f", {REQUEST_VERSION}, {REQUEST_VERSION + 1}] = REQUEST_VERSION",
    "    search: str\n    checkpoint: CheckpointRef\n": (
        "    search: str\n    checkpoint: CheckpointRef\n    temper: str = 'patient'\n"
    ),
}


class Changed(SourceFileLoader):
    """Loads the module's source with the changes."""

    def get_data(self, path: str) -> bytes:
        """The changed source; nothing that was compiled before."""
        if not path.endswith(".py"):
            raise OSError(path)
        text = super().get_data(path).decode()
        for former, latter in CHANGES.items():
            assert former in text, former
            text = text.replace(former, latter)
        return text.encode()

    def set_data(self, path: str, data: bytes | bytearray, *, _mode: int = 0o666) -> None:
        """What is compiled here is nobody else's."""


class Finder:
    """Finds the module that is changed."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Its specification, with the loader that changes it."""
        found = PathFinder.find_spec(name, path, target) if name == CHANGED else None
        if found is None or found.origin is None:
            return None
        return importlib.util.spec_from_loader(name, Changed(name, found.origin), origin=found.origin)


def main() -> None:
    """Run a module as the next release's."""
    program, *arguments = sys.argv[1:]
    for name in [name for name in sys.modules if name.partition(".")[0] == "shared"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder())
    sys.argv = [program, *arguments]
    module = runpy.run_module(program, run_name="__next_release__", alter_sys=True)
    module["main"]()


if __name__ == "__main__":
    main()
