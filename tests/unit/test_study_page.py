"""The study's report: the page and its still figures."""

import base64
import hashlib
import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markupsafe import escape

from services.reporting import wording
from services.reporting.charts.dot_rows import Dot, DotRow, dot_rows
from services.reporting.charts.series import Panel, Point, Scale, Series, legend
from services.reporting.charts.series_chart import series_chart
from services.reporting.charts.shading import shade
from services.reporting.charts.stacked_columns import stacked
from services.reporting.study.assemble import assemble
from services.reporting.study.figures import draw_figures
from services.reporting.study.page import render_study
from services.reporting.study.probability_charts import depth_charts, narrow_strips
from services.reporting.study.study_data import StudyContent
from tests.support.studies import close_study, make_study, study_settings
from tests.support.study_content import study_content

HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"
SECTIONS = {
    "claims": ("claims",),
    "fronts": ("fronts",),
    "throughput": ("fronts",),
    "selected": ("selected",),
    "equal_size": ("equal_size", "networks"),
    "int8": ("int8", "fronts"),
    "depths": ("depths",),
    "narrow": ("narrow", "networks"),
    "transfer": ("transfer",),
}
"""The parts of the page, and the content without which each is missing."""
ALWAYS = ("studied", "reading", "failures", "provenance")


class _Elements(HTMLParser):
    """All elements of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.found)


@cache
def _page() -> str:
    return render_study(study_content())


def _without(*parts: str) -> StudyContent:
    """Without parts of the content, and without what refers to them."""
    gone = set(parts)
    if "networks" in gone:
        gone |= {"selected", "equal_size"}
    return study_content().model_copy(update=dict.fromkeys(gone, ()))


def _sections(page: str) -> list[str]:
    return re.findall(r'<section aria-labelledby="([a-z0-9_]+)-title">', page)


def _hostile() -> StudyContent:
    """Every text that users or their machines wrote is hostile, a task's name and a super-network's included."""
    text = study_content().model_dump_json()
    for name in ("arc_challenge", "ours", "slicegpt", "torch"):
        text = text.replace(f'"{name}"', json.dumps(name + HOSTILE))
    values = json.loads(text.replace('"ours: ', json.dumps(f"ours{HOSTILE}: ")[:-1]))
    for claim in values["claims"]:
        claim["evidence"] = claim["statement"] = HOSTILE
    values.update(name=HOSTILE, model=HOSTILE, created=HOSTILE, dtype=HOSTILE, summary=HOSTILE, failures=[HOSTILE])
    values["provenance"] = [[HOSTILE, HOSTILE]]
    values["published"][0].update(model=HOSTILE, what=HOSTILE, source=HOSTILE, task=HOSTILE)
    return StudyContent.model_validate(values)


def test_every_part_is_there_in_its_order_and_linked_from_the_top() -> None:
    sections = _sections(_page())
    assert sections == [
        *("claims", "studied", "fronts", "throughput", "selected", "equal_size", "int8", "depths", "narrow"),
        *("transfer", "reading", "failures", "provenance"),
    ]
    assert re.findall(r'<a href="#([a-z0-9_]+)-title">', _page()) == sections


@pytest.mark.parametrize("section", SECTIONS)
def test_a_part_without_content_is_left_out_and_the_others_stay(section: str) -> None:
    page = render_study(_without(*SECTIONS[section]))
    sections = _sections(page)
    assert section not in sections and set(ALWAYS) < set(sections)
    assert re.findall(r'<a href="#([a-z0-9_]+)-title">', page) == sections


def test_a_study_of_which_nothing_is_measured_yet_has_a_page() -> None:
    content = _without(*{part for parts in SECTIONS.values() for part in parts}, "searches")
    assert _sections(render_study(content)) == list(ALWAYS)
    assert draw_figures(content) == {}


def test_a_study_of_one_task_has_neither_a_mean_nor_throughput_nor_int8(tmp_path: Path) -> None:
    tasks = [{"name": "arc_easy", "search": {"items": 60}, "report": {"items": 120}}]
    changes = {"tasks": tasks, "heuristics": [], "baselines": [], "serving": None, "remeasure_int8": False}
    study = make_study(tmp_path, study_settings(**changes))
    content = assemble(study)
    close_study(study)
    page = render_study(content)
    assert {"fronts", "equal_size", "transfer"} < set(_sections(page))
    assert not {"throughput", "int8"} & set(_sections(page))
    assert '<table id="selected-networks">' in page and ">Mean over tasks<" not in page
    assert ">Mean over tasks<" in _page()


def test_the_page_loads_nothing_and_admits_its_own_script_and_style_only() -> None:
    for tag, attributes in _Elements(_page()).found:
        assert tag not in ("iframe", "object", "embed", "base", "img")
        for attribute in ("src", "href", "srcset", "action", "data", "poster", "style"):
            value = attributes.get(attribute)
            assert value is None or value == "data:," or re.fullmatch(r"#[a-z0-9_]+-title", value)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|import\(|https?://", _page())
    for tag, source in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", _page(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in _page()
    assert "default-src 'none'" in _page()


def test_text_from_users_is_never_markup() -> None:
    text = render_study(_hostile())
    page, plain = _Elements(text), _Elements(_page())
    assert page.count("script") == plain.count("script") == 1
    assert page.count("img") == 0 and page.count("table") == plain.count("table")
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", text)[0]
    assert text.count("</script>") == 1


def test_identifiers_are_unique_whatever_things_are_called() -> None:
    for page in (_page(), render_study(_hostile())):
        identifiers = [attributes["id"] for _, attributes in _Elements(page).found if "id" in attributes]
        assert len(identifiers) == len(set(identifiers))


def test_claims_have_their_verdict_evidence_and_power() -> None:
    content = study_content()
    for claim in content.claims:
        assert str(escape(claim.statement)) in _page()
        for sentence in claim.evidence.split("; "):
            assert str(escape(sentence)) in _page()
        if claim.power:
            assert f"Power: {escape(claim.power)}." in _page()
    for verdict in ("holds", "does not hold", "can't be told"):
        badges = re.findall(rf'<b class="badge [a-z]+">{escape(verdict)}</b>', _page())
        assert len(badges) == sum(claim.verdict == verdict for claim in content.claims)


def test_sizes_and_tokens_are_said_to_be_limits() -> None:
    assert not re.search(r"\b[Aa]bout \d", _page())
    assert all(b"about 1" not in picture for picture in draw_figures(_small()).values())
    assert "At least 1.2 times smaller" in _page()
    assert "<small>seen, at most</small>" in _page()


def test_what_the_paper_reports_stands_beside_as_that_with_its_model() -> None:
    content = study_content()
    asides = re.findall(r'<aside class="published".*?</aside>', _page(), re.DOTALL)
    assert len(asides) == len({each.section for each in content.published})
    for each in content.published:
        (aside,) = (text for text in asides if str(escape(each.what)) in text and str(escape(each.source)) in text)
        assert f"<b>{each.model}" in aside and "not to be compared number by number" in aside


def _table(key: str) -> str:
    start = _page().index(f'<table id="{key}"')
    return _page()[start : _page().index("</table>", start)]


def test_every_table_of_networks_has_its_controls() -> None:
    content = study_content()
    supernets = [supernet.name for supernet in content.supernets]
    tables = ["selected-networks", "heuristics", *(f"equal-size-{number}" for number in range(len(content.equal_size)))]
    for key in tables:
        controls = re.findall(r'<tr class="whole">\s*<th scope="row">(.*?)</th>', _table(key))
        assert {"base", *(f"{name}: dense" for name in supernets)} < set(controls)
        assert any("random" in control for control in controls)
    for number, front in enumerate(content.fronts):
        controls = re.findall(r'<tr class="whole">\s*<th scope="row">(.*?)</th>', _table(f"front-{number}"))
        assert {row.name for row in (*front.controls, *front.random)} == set(controls) > {"base", "dense"}
    for number, matrix in enumerate(content.transfer):
        controls = re.findall(
            r'<tr class="whole"><th scope="row">(.*?)(?:<small>.*?</small>)?</th>', _table(f"transfer-{number}")
        )
        assert controls[:2] == ["base", f"{matrix.supernet}: dense"] and "random" in controls[2]


def test_a_table_says_which_of_its_controls_are_not_measured() -> None:
    assert "Controls that are not measured" not in _table_with_note(_page(), "equal-size-0")
    content = study_content()
    (first, *_) = (row for row in content.networks if row.kind == "random")
    rest = tuple(
        row.model_copy(update={"by_task": {}, "mean": None, "int8": {}}) if row == first else row
        for row in content.networks
    )
    page = render_study(content.model_copy(update={"networks": rest}))
    chosen = next(
        row.label
        for row in content.networks
        if row.kind == "chosen"
        and (row.supernet, row.chosen_on, row.times_smaller) == (first.supernet, first.chosen_on, first.times_smaller)
    )
    said = f"Controls that are not measured: a random network as large as {chosen}."
    for key in ("equal-size-0", "selected-networks", "int8-0"):
        assert said in _table_with_note(page, key)
    front = content.fronts[0].model_copy(update={"random": content.fronts[0].random[1:]})
    page = render_study(content.model_copy(update={"fronts": (front, *content.fronts[1:])}))
    absent = content.fronts[0].random[0].name.removesuffix(" random")
    assert f"a random network as large as {absent}." in _table_with_note(page, "front-0")
    assert "Controls that are not measured" not in _table_with_note(page, "front-1")


def _table_with_note(page: str, key: str) -> str:
    """A table and what follows it up to the next heading or table."""
    start = page.index(f'<table id="{key}"')
    return re.split(r"<h[23]|<table", page[start + 1 :])[0]


def test_every_comparison_at_equal_size_has_interval_both_p_values_and_power() -> None:
    content = study_content()
    rows = re.findall(r"<tr[^>]*>.*?</tr>", _page(), re.DOTALL)
    exact = list[bool]()
    shown = {tuple(re.findall(r">([^<>]+)</t[hd]>", row)) for row in rows}
    for table in content.equal_size:
        for each in table.comparisons:
            p_values = tuple(
                ("" if each.exact else "≈") + ("&lt;0.001" if value < 0.001 else f"{value:.3f}")
                for value in (each.p_value, each.corrected)
            )
            exact.append(each.exact)
            task = "mean over tasks" if each.task == "mean" else each.task
            difference = (wording.points(each.difference), wording.points_interval(each.interval))
            power = (wording.percentage(each.detectable), str(each.items))
            assert (each.one, each.other, task, *difference, *p_values, *power) in shown
    assert set(exact) == {True, False}
    known = [each.exact for each in content.comparisons]
    assert f"{sum(known)} of {len(known)} p-values are exact" in _page()


def test_the_diagonal_of_the_transfer_matrix_is_marked_and_differences_are_shaded() -> None:
    matrix = study_content().transfer[0]
    table = _table("transfer-0")
    assert table.count("<small>its own</small>") == len(matrix.tasks)
    assert re.search(r'class="(up|down)-4"', table)
    for cell in matrix.cells:
        if cell.versus_own is not None and cell.accuracy is not None:
            shown = wording.points(cell.versus_own.difference)
            assert f"<small>{shown}</small>" in table


def test_probabilities_of_depths_add_up_and_of_narrow_layers_fill_their_cells() -> None:
    content = study_content()
    for chart in depth_charts(content):
        for column in chart.columns:
            assert column.segments[-1].high == pytest.approx(1) and column.segments[0].low == 0
    strips = narrow_strips(content)
    assert len(strips) == len({(row.supernet, row.chosen_on) for row in content.narrow})
    shares = {(row.supernet, row.layer): row.probability for row in content.narrow if row.chosen_on == "together"}
    for strip in strips:
        if strip.name == "all tasks together":
            assert {(strip.supernet, cell.layer): cell.share for cell in strip.cells}.items() <= shares.items()


def _small() -> StudyContent:
    """With one of everything that figures show."""
    content = study_content()
    timed = next(front for front in content.fronts if front.timed)

    def mine(part: str) -> tuple[object, ...]:
        rows = getattr(content, part)
        return tuple(row for row in rows if (row.supernet, row.chosen_on) == (timed.supernet, timed.chosen_on))

    return content.model_copy(
        update={
            "fronts": (timed,),
            "equal_size": content.equal_size[:1],
            "depths": mine("depths"),
            "narrow": mine("narrow"),
            "transfer": content.transfer[:1],
        }
    )


def test_the_figures_are_svg_and_the_same_every_time() -> None:
    content = _small()
    figures = draw_figures(content)
    (front,), (size,), (transfer,) = content.fronts, content.equal_size, content.transfer
    assert set(figures) == {
        *(f"{name}.svg" for name in ("fronts", "throughput", "sizes", "int8", "depths")),
        f"narrow-{front.supernet}.svg",
        f"equal-size-{size.times_smaller:g}.svg",
        f"transfer-{transfer.supernet}-{transfer.times_smaller:g}.svg",
    }
    for picture in figures.values():
        assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
        assert b"<dc:date>" not in picture
    assert draw_figures(content) == figures


def test_the_figures_take_any_name() -> None:
    values = _small().model_dump_json()
    for name in study_content().fronts[0].chosen_on, _small().fronts[0].chosen_on:
        values = values.replace(f'"{name}"', json.dumps(r"$\frac{1}$ </svg> a_b^c" + name))
    for picture in draw_figures(StudyContent.model_validate_json(values)).values():
        ElementTree.fromstring(picture)


X = Scale("Parameters", wording.COUNTS)


def test_error_bars_of_the_same_size_are_moved_apart_and_lines_go_in_steps() -> None:
    points = tuple(Point(5e6, 0.5, "", (0.4, 0.6)) for _ in range(3))
    steps = Series("steps", "tone-1", "none", (Point(9e6, 0.8, ""), Point(1e6, 0.2, "")), "steps")
    chart = series_chart(Panel("", X, (Series("a", "tone-1", "front", points), steps)))
    assert chart is not None
    assert [mark.shift for mark in chart.marks[:3]] == [0, 10, 20]
    ((level, up),) = [curve.lines for curve in chart.curves]
    assert level[1] == level[3] and level[:3:2] == (chart.x.place(1e6), chart.x.place(9e6))
    assert up[0] == up[2] and up[1] > up[3]
    assert series_chart(Panel("", X, (Series("a", "tone-1", "front", ()),))) is None


def test_a_legend_names_each_series_once_in_order() -> None:
    one, two, three = (Series(name, "tone-1", "front", ()) for name in ("one", "two", "three"))
    panels = Panel("", X, (one, two)), Panel("", X, (two, three))
    assert [series.name for series in legend(*panels)] == ["one", "two", "three"]


def test_rows_without_dots_are_left_out_and_all_bounds_fit() -> None:
    dot = Dot(0.5, "", "tone-1", "front", (0.3, 0.7))
    chart = dot_rows("", "Accuracy", [DotRow("a", "", (dot,)), DotRow("b", "", ())], reference=0.9)
    assert chart is not None and [row.name for row in chart.rows] == ["a"]
    assert chart.x.place(0.3) > 0 and chart.x.place(0.9) < 100
    assert dot_rows("", "Accuracy", [DotRow("b", "", ())]) is None


def test_shares_are_stacked_from_below_without_those_of_nothing() -> None:
    column = stacked("75-100", {"24": 0.25, "28": 0.0, "30": 0.75}, {"24": "", "28": "", "30": ""})
    assert [(each.name, each.low, each.high) for each in column.segments] == [("24", 0, 0.25), ("30", 0.25, 1)]


def test_shades_go_with_size_and_sign() -> None:
    values = (0.1, 0.2, 1.0, 2.0, -0.5, 0.0, None)
    assert [shade(value, 1.0) for value in values] == ["level", "up-1", "up-4", "up-4", "down-2", "level", "level"]
    assert shade(0.0, 0.0) == "level"
