"""The files of a study's report: the page, its findings as text, its content as data, the tables, the figures."""

from collections.abc import Collection
from pathlib import Path

from services.coordinator.study.networks import Study
from services.reporting.study.assemble import assemble
from services.reporting.study.figures import NAMES, draw_figures
from services.reporting.study.page import render_study
from services.reporting.study.study_data import StudyContent
from services.reporting.study.tables import tables
from services.reporting.study.text import study_text
from shared.files import write_atomically


def write_study(study: Study, directory: Path) -> StudyContent:
    """Write `report.html`, `study.md`, `study.json`, `tables/*.csv` and `figures/*.svg` into a directory. Figures that
    a former report had and this one hasn't are removed; other files stay."""
    content = assemble(study)
    write_atomically(directory / "study.json", content.model_dump_json(indent=1) + "\n")
    write_atomically(directory / "study.md", study_text(content))
    for name, text in tables(content).items():
        write_atomically(directory / "tables" / name, text)
    figures = draw_figures(content)
    for name, picture in figures.items():
        write_atomically(directory / "figures" / name, picture)
    _remove_others(directory / "figures", figures)
    write_atomically(directory / "report.html", render_study(content))
    return content


def _remove_others(directory: Path, written: Collection[str]) -> None:
    """Of the files that have the names of figures, those that weren't written. The names of tables are always the
    same."""
    for pattern in NAMES:
        for path in directory.glob(pattern):
            if path.name not in written:
                path.unlink(missing_ok=True)
