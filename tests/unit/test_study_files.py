"""The files of a study's report."""

import csv
from fnmatch import fnmatch
from pathlib import Path

from services.application.study.study_directory import REPORT_FILES
from services.reporting.study.figures import NAMES, draw_figures
from services.reporting.study.study_data import StudyContent
from services.reporting.study.study_files import write_study
from tests.support.studies import close_study, make_study, study_settings


def test_page_data_tables_and_figures_of_one_study_lie_in_one_directory(tmp_path: Path) -> None:
    settings = study_settings(
        tasks=[{"name": name, "search": {"items": 20}, "report": {"items": 30}} for name in ("arc_easy", "mmlu")],
        search={"evaluations": 8, "population": 4},
        sizes=[1.3],
    )
    study = make_study(tmp_path / "measured", settings)
    figures = tmp_path / "out/figures"
    figures.mkdir(parents=True)
    former, own = [figures / name for name in ("transfer-gone-1.3.svg", "equal-size-9.svg")], figures / "mine.svg"
    for path in (*former, own):
        path.write_text("<svg/>")
    content = write_study(study, tmp_path / "out")
    close_study(study)
    assert StudyContent.model_validate_json((tmp_path / "out/study.json").read_text()) == content
    page = (tmp_path / "out/report.html").read_text()
    assert content.claims[0].statement in page
    names = {path.name for path in (tmp_path / "out/tables").iterdir()}
    assert names == {
        *("fronts.csv", "throughput.csv", "selected.csv", "equal_size.csv", "int8.csv", "depths.csv", "narrow.csv"),
        *("heuristics.csv", "transfer.csv", "comparisons.csv", "claims.csv"),
    }
    with (tmp_path / "out/tables/claims.csv").open(newline="") as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == [claim.verdict for claim in content.claims]
    drawn = draw_figures(content)
    assert {path.name for path in figures.iterdir()} == {*drawn, own.name}
    assert all(any(fnmatch(name, pattern) for pattern in NAMES) for name in drawn)
    assert all(b"<svg" in path.read_bytes() for path in figures.iterdir())
    written = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {path for pattern in REPORT_FILES for path in (tmp_path / "out").glob(pattern)}


def test_tables_and_page_show_attentions_that_are_skipped(tmp_path: Path) -> None:
    space = {"depths": [30, 27, 24], "mlp_widths": [1536, 768], "attention": ["keep", "skip"]}
    settings = study_settings(
        supernets=[{"name": "ours", "space": space}],
        tasks=[{"name": "arc_easy", "search": {"items": 20}, "report": {"items": 30}}],
        search={"evaluations": 8, "population": 4},
        sizes=[1.3],
        heuristics=[],
    )
    study = make_study(tmp_path / "measured", settings)
    content = write_study(study, tmp_path / "out")
    close_study(study)
    (front,) = content.fronts
    skipped = {each.name: str(len(each.architecture.without_attention)) for each in front.rows}
    assert set(skipped.values()) > {"0"}
    rows = _rows(tmp_path / "out/tables/fronts.csv")
    assert {row["network"]: row["skipped_attentions"] for row in rows if row["network"] in skipped} == skipped
    chosen = [str(len(content.network(each.network).architecture.without_attention)) for each in content.selected]
    assert [row["skipped_attentions"] for row in _rows(tmp_path / "out/tables/selected.csv")] == chosen
    assert "Attentions" in (tmp_path / "out/report.html").read_text()


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
