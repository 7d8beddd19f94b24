"""A study's directory: where everything of one study lies, used by one process at a time. Loads no model."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from services.application.run_directory import STUDY_FILE, RunDirectory, claimed, link_to
from services.coordinator.study.networks import Candidate, StudyNetwork
from shared.errors import UserError
from shared.files import write_atomically, writing
from shared.settings import SearchSettings, explain, read_study_file
from shared.settings.study_file import StudySettings
from shared.yaml_text import format_yaml

NETWORKS: TypeAdapter[tuple[StudyNetwork, ...]] = TypeAdapter(tuple[StudyNetwork, ...])
CANDIDATES: TypeAdapter[tuple[Candidate, ...]] = TypeAdapter(tuple[Candidate, ...])

REPORT_FILES = ("report.html", "study.json", "study.md", "tables/*.csv", "figures/*.svg")
"""What a report consists of, as `services.reporting.study.study_files` writes it."""


@dataclass(frozen=True)
class StudyDirectory:
    """Paths of a study."""

    path: Path

    @property
    def study_file(self) -> Path:
        """Copy of the study file as it was last run."""
        return self.path / STUDY_FILE

    @property
    def searches(self) -> Path:
        """The runs of the study's searches."""
        return self.path / "searches"

    @property
    def networks(self) -> Path:
        """The checkpoints that are made for the study, each under the digest of its recipe, whole or not there."""
        return self.path / "networks"

    @property
    def unfinished(self) -> Path:
        """What is unfinished of fine-tuned checkpoints, under the digests of their recipes."""
        return self.path / "unfinished"

    @property
    def networks_file(self) -> Path:
        """What networks the study compares, once all are there."""
        return self.path / "networks.json"

    @property
    def candidates_file(self) -> Path:
        """The networks that were measured besides the searches' own, for the sizes that the study compares at."""
        return self.path / "candidates.json"

    @property
    def history(self) -> Path:
        """The measurements of its networks on the report items, and of candidates on the search items."""
        return self.path / "study.sqlite"

    @property
    def report(self) -> Path:
        """The study's report, once it is written."""
        return self.path / "report.html"

    def settings(self) -> StudySettings:
        """The study as it was last run. Raises UserError if this is none."""
        if not self.study_file.is_file():
            raise UserError(f"{self.path}: not a study, it has no {STUDY_FILE}; give a directory such as runs/NAME")
        return read_study_file(self.study_file)

    def record(self, settings: StudySettings) -> None:
        """Keep a copy of the study file, for `status` and `report`. What another file led to is no longer said to be
        the study's."""
        if not self.study_file.is_file() or self.settings().model_dump() != settings.model_dump():
            with writing(self.path):
                for path in (self.networks_file, self.candidates_file, *self._written_of_report()):
                    path.unlink(missing_ok=True)
        write_atomically(self.study_file, format_yaml(settings.model_dump(mode="json")))

    def _written_of_report(self) -> Iterator[Path]:
        for pattern in REPORT_FILES:
            yield from self.path.glob(pattern)

    def search(self, settings: SearchSettings) -> RunDirectory:
        """The run of one of the study's searches."""
        return RunDirectory(self.searches / settings.name, study=self.path)

    def link(self, name: str, supernet: Path) -> None:
        """Have `supernets/NAME` lead to a super-network that the study needs, which may still be made: so none is
        removed that it needs."""
        link_to(self.path / "supernets" / name, supernet, self.path)

    def place(self, digest: str) -> Path:
        """Where the checkpoint of a recipe lies, or is going to."""
        return self.networks / digest

    def workspace(self, digest: str) -> Path:
        """Where what is unfinished of a fine-tuned checkpoint lies."""
        return self.unfinished / digest

    def write_networks(self, networks: tuple[StudyNetwork, ...]) -> None:
        """Record what networks the study compares."""
        write_atomically(self.networks_file, NETWORKS.dump_json(networks, indent=2) + b"\n")

    def read_networks(self) -> tuple[StudyNetwork, ...]:
        """The networks that the study compares. Raises UserError where they aren't known yet, or the file is
        damaged."""
        try:
            return NETWORKS.validate_json(self.networks_file.read_bytes())
        except FileNotFoundError as error:
            raise UserError(
                f"{self.path}: the study's networks are not all made yet; run `nasfarm study` to continue it"
            ) from error
        except ValidationError as error:
            raise UserError(f"{self.networks_file}: {explain(error)}; run `nasfarm study` again") from error

    def write_candidates(self, candidates: tuple[Candidate, ...]) -> None:
        """Record which networks are measured for the sizes that the study compares at."""
        write_atomically(self.candidates_file, CANDIDATES.dump_json(candidates, indent=2) + b"\n")

    def read_candidates(self) -> tuple[Candidate, ...]:
        """These networks; none in studies of earlier releases. Raises UserError where the file is damaged."""
        try:
            return CANDIDATES.validate_json(self.candidates_file.read_bytes())
        except FileNotFoundError:
            return ()
        except ValidationError as error:
            raise UserError(f"{self.candidates_file}: {explain(error)}; run `nasfarm study` again") from error

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other processes out, and remove what killed ones left half-written. Errors as of a run's, and where
        one is here."""
        if RunDirectory(self.path).search_file.exists():
            raise UserError(f"{self.path}: is the run of a search; change `name` in the study file")
        RunDirectory(self.path).check_name()
        with claimed(self.path, "study"):
            with writing(self.networks):
                self.networks.mkdir(exist_ok=True)
                for scratch in self.networks.glob(".*"):
                    shutil.rmtree(scratch, ignore_errors=True)
            yield
