"""Checkpoints that are made for a study: each once, found again by the digest of its recipe."""

import shutil
from collections.abc import Callable
from pathlib import Path

from services.application.study.study_directory import StudyDirectory
from shared.checkpoint_files import FileDigests, content_digest
from shared.messages import CheckpointRef


class StudyCheckpoints:
    """The checkpoints in a study's directory. What lies under a digest is whole: it was renamed to it."""

    def __init__(self, directory: StudyDirectory, digests: FileDigests) -> None:
        self._directory, self.digests = directory, digests
        self._asked: set[str] = set()

    def made(self, digest: str) -> bool:
        """Whether the checkpoint of a recipe is there."""
        return self.place(digest).is_dir()

    def place(self, digest: str) -> Path:
        """Where the checkpoint of a recipe lies, or is going to."""
        return self._directory.place(digest)

    def get(self, digest: str, make: Callable[[Path], object]) -> CheckpointRef:
        """The checkpoint of a recipe, made by `make` at the given place where it isn't there yet."""
        self._asked.add(digest)
        place = self.place(digest)
        if not place.is_dir():
            make(place)
        return self.reference(place)

    def tidy(self) -> None:
        """Remove what is left of fine-tunings that were killed when their checkpoint was in its place already."""
        for workspace in self._directory.unfinished.glob("*"):
            if self.made(workspace.name):
                shutil.rmtree(workspace, ignore_errors=True)

    def unneeded(self) -> list[Path]:
        """What was made, or begun, and not been asked for this time, as the study's file has changed since."""
        there = (*self._directory.networks.glob("[!.]*"), *self._directory.unfinished.glob("*"))
        return sorted(place for place in there if place.name not in self._asked)

    def reference(self, place: Path) -> CheckpointRef:
        """A checkpoint by its content."""
        return CheckpointRef(location=str(place.absolute()), digest=content_digest(self.digests.content(place)))
