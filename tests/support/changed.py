"""Programs of this repository with other text in some of their modules, as another release or setting would have it."""

import importlib.util
import runpy
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

Changes = Mapping[str, Mapping[str, str]]
"""By module: what stands in its place, by the text that is replaced."""


class ChangedLoader(SourceFileLoader):
    """Loads a module's source with changes. Raises AssertionError for a text that isn't there."""

    def __init__(self, name: str, path: str, changes: Mapping[str, str]) -> None:
        super().__init__(name, path)
        self._changes = changes

    def get_data(self, path: str) -> bytes:
        """The changed source; nothing that was compiled before."""
        if not path.endswith(".py"):
            raise OSError(path)
        text = super().get_data(path).decode()
        for former, latter in self._changes.items():
            assert former in text, f"{self.name}: {former}"
            text = text.replace(former, latter)
        return text.encode()

    def set_data(self, path: str, data: bytes | bytearray, *, _mode: int = 0o666) -> None:
        """What is compiled here is for this process alone."""


class ChangedFinder:
    """Finds the modules that are changed."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A module's specification, with the loader that changes it."""
        found = PathFinder.find_spec(name, path, target) if name in self._changes else None
        if found is None or found.origin is None:
            return None
        loader = ChangedLoader(name, found.origin, self._changes[name])
        return importlib.util.spec_from_loader(name, loader, origin=found.origin)


def run_changed(changes: Changes) -> None:
    """Run the program that the command line names, a module with its arguments, with the changes."""
    program, *arguments = sys.argv[1:]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("shared", "services")]:
        del sys.modules[name]
    sys.meta_path.insert(0, ChangedFinder(changes))
    sys.argv = [program, *arguments]
    module = runpy.run_module(program, run_name="__changed__", alter_sys=True)
    module["main"]()
