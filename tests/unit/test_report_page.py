"""The report: the page's text, the figure and the terminal's table."""

import io
import re
from html import escape
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from rich.console import Console

from services.reporting import wording
from services.reporting.charts.front_chart import front_charts
from services.reporting.charts.front_figure import draw_figure
from services.reporting.charts.layer_strips import layer_strips
from services.reporting.charts.search_charts import hypervolume_chart, tau_chart
from services.reporting.displayed_costs import COSTS, front_by_cost
from services.reporting.finding import key_finding, random_finding
from services.reporting.listed_networks import front_keys, listed_networks
from services.reporting.page import render_page
from services.reporting.report_data import Advantage, ReportContent
from services.reporting.tables.columns import COMPARED, page_columns
from services.reporting.tables.terminal import front_table
from shared.settings import Objective
from tests.support.report_content import report_content

HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"

SEARCHES = {
    "usual": report_content(),
    "one network on the front": report_content(front=1, evaluations=20),
    "several tasks": report_content(tasks=("arc_easy", "arc_challenge")),
    "a thousand networks": report_content(evaluations=1000, front=20),
    "no predictor, no failure": report_content(predictor=False, failures=()),
    "few layers": report_content(layers=6, evaluations=30),
    "several objectives, INT8 and speeds": report_content(
        objectives=("decode_seconds", "prefill_seconds"), int8=True, timed=True, run=True
    ),
    "random networks, some of the front not measured": report_content(
        random_ones=True, unreported=5, front=10, tasks=("arc_easy", "arc_challenge"), int8=True
    ),
    "INT8 as a gene": report_content(
        objectives=("bytes", "prefill_seconds"), quantizations=("none", "int8"), timed=True, front=14
    ),
}
each_search = pytest.mark.parametrize("content", SEARCHES.values(), ids=SEARCHES.keys())


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


def _hostile() -> ReportContent:
    content = report_content(front=3, evaluations=20, failures=(HOSTILE,))
    named = tuple(row.model_copy(update={"name": HOSTILE + row.name}) for row in content.front)
    (task,) = content.dense.by_task.values()
    tasks = {"by_task": {HOSTILE: task, "other": task}}
    return content.model_copy(
        update={
            "name": HOSTILE,
            "model": HOSTILE,
            "headline": HOSTILE,
            "created": HOSTILE,
            "front": named,
            "dense": content.dense.model_copy(update=tasks),
            "provenance": ((HOSTILE, HOSTILE),),
            "generations": tuple(
                row.model_copy(update={"predictor": HOSTILE, "kendall_tau": 0.5}) for row in content.generations
            ),
        }
    )


@each_search
def test_the_page_names_every_network_in_chart_drawing_and_table(content: ReportContent) -> None:
    page = _Elements(render_page(content))
    keys = {f"n{index}" for index in range(1, len(content.front) + 1)}
    axes = sum(attributes.get("name") == "axis" for _, attributes in page.found)
    identifiers = {attributes.get("id") for _, attributes in page.found}
    assert {f"row-{each.key}" for each in listed_networks(content)} <= identifiers
    assert {"row-dense", "row-base"} <= identifiers
    assert (
        sum(str(identifier).startswith("row-") for identifier in identifiers)
        == len(content.front + content.int8 + content.random) + 2
    )
    assert {f"drawing-{key}" for key in keys} <= identifiers
    marked = [a["data-network"] for _, a in page.found if (a.get("class") or "").startswith("mark front")]
    reported = [key for key, row in zip(front_keys(content), content.front, strict=True) if row in content.reported]
    assert sorted(key for key in map(str, marked) if key in keys) == sorted([*keys, *reported] * axes)
    seen = [a for _, a in page.found if (a.get("class") or "").startswith("mark seen") and "cx" in a]
    assert len(seen) == axes * sum(not network.on_front for network in content.evaluated)


@each_search
def test_the_page_loads_nothing(content: ReportContent) -> None:
    text = render_page(content)
    for tag, attributes in _Elements(text).found:
        assert tag not in ("iframe", "object", "embed", "base", "img")
        for attribute in ("src", "href", "srcset", "action", "data", "poster", "style"):
            value = attributes.get(attribute)
            assert value is None or value == "data:,"
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|import\(|https?://", text)
    assert "default-src 'none'" in text


def test_text_from_users_is_never_markup() -> None:
    text = render_page(_hostile())
    page, plain = _Elements(text), _Elements(render_page(report_content(front=3, evaluations=20)))
    assert page.count("script") == plain.count("script") == 1
    assert page.count("img") == 0
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", text)[0]
    assert text.count("</script>") == 1


def test_the_page_shows_headline_result_failures_and_provenance() -> None:
    content = report_content()
    text = render_page(content)
    for shown in (content.name, content.model, content.headline, key_finding(content), *content.failures):
        assert escape(shown) in text
    for what, value in content.provenance:
        assert escape(what) in text and escape(value) in text


def test_the_page_says_how_to_read_its_numbers() -> None:
    text = render_page(report_content())
    assert "the best of 250 measured networks look better than they are" in text
    assert "a loss above 2 points" in text
    assert "corrected</b> by Holm" in text
    assert "weights and scales as they are held in memory, and nothing else" in text
    assert "11 networks, controls included, were ever measured on the report part, for 1 front." in text
    assert "design effect" not in text and "Random networks" not in text


def test_the_page_says_that_the_items_were_used_again_after_a_raised_budget() -> None:
    text = render_page(report_content().model_copy(update={"reported_fronts": 3, "networks_on_report_items": 21}))
    assert "21 networks, controls included, were ever measured on the report part, for 3 fronts." in text
    assert "the same items were used again" in text


def test_the_page_explains_what_only_some_searches_have() -> None:
    text = render_page(SEARCHES["random networks, some of the front not measured"])
    assert "5 of the 10 networks of the front were not measured on the report part" in text
    assert "<b>Random networks</b>" in text and "design effect" in text
    assert "Mean over tasks&rdquo; counts every task equally" in text


def test_tasks_have_columns_only_if_there_are_several_or_lm_eval_aggregates_a_group_differently() -> None:
    def titles(content: ReportContent) -> list[str]:
        return [column.title for column in page_columns(content)]

    several = titles(SEARCHES["several tasks"])
    assert [title for title in several if "arc_easy" in title] == [
        "arc_easy",
        "arc_easy, against dense",
        "arc_easy, against base",
    ]
    assert "Mean over tasks" in several
    usual = SEARCHES["usual"]
    assert not any("arc" in title or "Mean over" in title for title in titles(usual))
    (task,) = usual.dense.by_task.values()
    otherwise = {"by_task": {"blimp": task.model_copy(update={"accuracy": task.accuracy + 0.1})}}
    assert "blimp" in titles(usual.model_copy(update={"dense": usual.dense.model_copy(update=otherwise)}))


def test_what_was_not_measured_on_the_report_items_is_a_dash() -> None:
    content = SEARCHES["random networks, some of the front not measured"]
    unreported = next(
        each for each in listed_networks(content) if each.row not in content.reported and each.drawn == "n2"
    )
    shown = {(column.title, column.unit): column.cell(unreported).shown for column in page_columns(content)}
    assert shown["Accuracy", "report part (95 %)"] == shown["arc_easy", "report part (95 %)"] == wording.NOT_MEASURED
    assert shown["Accuracy", "search part"] != wording.NOT_MEASURED


def test_comparisons_have_their_interval_and_both_p_values() -> None:
    content = report_content(random_ones=True)
    row = content.front[3]
    each = next(each for each in listed_networks(content) if each.row is row)
    for title, against in (("dense", row.versus_dense), ("base", row.versus_base), ("random", row.versus_random)):
        (column,) = (column for column in page_columns(content) if column.title == f"Against {title}")
        assert against is not None
        assert column.cell(each).shown == (
            f"{wording.points(against.difference)} ({wording.points_interval(against.interval)}); "
            f"{wording.p_value(against.p_value)}, {wording.p_value(against.corrected)}"
        )
        assert column.cell(each).value == against.difference


def test_a_random_network_stands_below_the_one_whose_size_it_has() -> None:
    networks = listed_networks(report_content(random_ones=True, int8=True, front=3))
    assert [each.row.name for each in networks[:3]] == ["N1", "N1 int8", "N1 random"]
    assert [each.key for each in networks if each.random] == ["n1-random", "n2-random", "n3-random"]


def test_a_search_without_predictor_or_generations_has_a_sentence_instead_of_charts() -> None:
    content = report_content(predictor=False).model_copy(update={"generations": ()})
    text = render_page(content)
    assert "No predictor was used" in text
    assert "No generation was finished" in text


@each_search
def test_every_mark_lies_within_its_chart(content: ReportContent) -> None:
    for chart in (*(chart for _, chart in front_charts(content)), hypervolume_chart(content), tau_chart(content)):
        for mark in chart.marks if chart else ():
            assert 0 < mark.x < 100
            assert all(0 < place < 100 for place in (mark.y, *(mark.bar or ())))


def test_dense_and_base_do_not_cover_each_other_or_the_front() -> None:
    content = report_content()
    largest = content.front[0].model_copy(update={"parameters": content.dense.parameters})
    _, chart = front_charts(content.model_copy(update={"front": (largest, *content.front[1:])}))[0]
    shifts = {mark.shape: mark.shift for mark in chart.marks if mark.part == "report"}
    assert len({0, shifts["dense"], shifts["base"]}) == 3


def test_the_first_objective_is_shown_first_and_only_what_all_networks_have_is_offered() -> None:
    def offered(content: ReportContent) -> list[str]:
        return [measure.objective for measure, _ in front_charts(content)]

    assert offered(report_content()) == ["parameters", "bytes"]
    assert offered(report_content(objectives=("decode_seconds", "bytes"), timed=True)) == [
        "decode_seconds",
        "bytes",
        "parameters",
        "prefill_seconds",
    ]
    timed = report_content(timed=True)
    untimed = timed.base.model_copy(update={"prefill_seconds": None})
    assert "prefill_seconds" not in offered(timed.model_copy(update={"base": untimed}))


@pytest.mark.parametrize("objective", COSTS)
def test_the_line_rises_with_every_cost_and_leaves_out_what_is_dominated(objective: Objective) -> None:
    objectives: tuple[Objective, ...] = ("bytes", "prefill_seconds")
    if objective == "kv_cache_bytes":
        objectives = ("bytes", objective)
    content = report_content(objectives=objectives, quantizations=("none", "int8"), timed=True)
    front = [network for network in content.evaluated if network.on_front]
    measure = COSTS[objective]
    joined = front_by_cost(front, measure)
    assert len(joined) < len(front) or objective in objectives
    for network in front:
        dominated = any(
            (measure.of(other) or 0) <= (measure.of(network) or 0)
            and other.search_accuracy >= network.search_accuracy
            and (measure.of(other), other.search_accuracy) != (measure.of(network), network.search_accuracy)
            for other in front
        )
        assert (network in joined) != dominated


def test_twins_are_hollow_and_joined_to_their_originals_except_over_parameters() -> None:
    content = report_content(int8=True, timed=True)
    for measure, chart in front_charts(content):
        twins = [mark for mark in chart.marks if mark.twin]
        assert len(twins) == len(chart.links) == (0 if measure.objective == "parameters" else len(content.int8))
        assert all(mark.hollow and mark.bar is None for mark in twins)
        originals = {(mark.x, mark.y) for mark in chart.marks if mark.part == "report" and not mark.hollow}
        for (x, y, there_x, there_y), mark in zip(chart.links, twins, strict=True):
            assert (x, y) == (mark.x, mark.y)
            assert (there_x, there_y) in originals


def test_int8_among_the_searched_networks_is_hollow_and_named_in_the_drawing() -> None:
    content = SEARCHES["INT8 as a gene"]
    quantised = [row for row in content.front if row.architecture.quantization == "int8"]
    assert 0 < len(quantised) < len(content.front)
    for _, chart in front_charts(content):
        reported = [mark for mark in chart.marks if mark.part == "report" and mark.shape == "front"]
        assert [mark.hollow for mark in reported] == [row in quantised for row in content.front]
    for row, strip in zip(content.front, layer_strips(content), strict=True):
        assert ("INT8" in strip.about) == ("INT8" in strip.summary) == (row in quantised)


@each_search
def test_no_column_is_dashes_only(content: ReportContent) -> None:
    for column in page_columns(content):
        assert any(column.cell(each).value is not None for each in listed_networks(content))


def test_columns_of_int8_and_speed_are_there_only_if_the_search_has_them() -> None:
    def extra(content: ReportContent) -> set[tuple[str, str]]:
        plain = {(column.title, column.unit) for column in page_columns(report_content())}
        return {(column.title, column.unit) for column in page_columns(content)} - plain

    assert extra(report_content(int8=True)) == {("INT8", ""), ("Change by INT8", COMPARED)}
    assert extra(report_content(timed=True)) == {("Prefill time", "all prompts"), ("Decode time", "one step")}
    assert extra(report_content(run=True)) == {
        ("Prefill", "measured tokens/s"),
        ("Decode", "measured tokens/s"),
        ("Measured", "by, on"),
    }


def test_a_twin_stands_below_its_original_with_what_it_lost() -> None:
    content = report_content(int8=True)
    networks = listed_networks(content)
    (change,) = (column for column in page_columns(content) if column.title == "Change by INT8")
    for original, twin in zip(networks[:-1:2], networks[1::2], strict=True):
        assert twin.original is original.row and original.original is None
        assert twin.row.name == f"{original.row.name} int8"
        assert change.cell(twin).value == twin.row.reported[0] - original.row.reported[0]
        assert twin.row.versus_original is not None
        assert wording.points_interval(twin.row.versus_original.interval) in change.cell(twin).shown
        assert change.cell(original).shown == wording.NOT_MEASURED


def test_the_page_says_under_which_load_and_over_what() -> None:
    content = SEARCHES["several objectives, INT8 and speeds"]
    text = render_page(content)
    assert content.serving is not None and escape(content.serving) in text
    assert "The volume that the front dominates over decode time and prefill time and accuracy" in text
    assert "1 times the dense network's decode time" in text.replace("&#39;", "'")
    assert "The area that the front dominates over parameters and accuracy" in render_page(report_content())


def test_the_predictor_is_shown_beside_what_size_alone_reaches() -> None:
    content = report_content()
    judged = [row for row in content.generations if row.predictor]
    text = render_page(content)
    table = text[text.index('<table id="predictor">') : text.index("</table>", text.index('<table id="predictor">'))]
    assert table.count("<tr><th") == len(judged) > 0
    cells = (judged[0].kendall_tau, judged[0].size_tau, judged[0].partial_tau)
    shown = [wording.correlation(value) for value in cells] + ["1.1", "1.3"]
    assert f"<td>ridge</td>{''.join(f'<td>{cell}</td>' for cell in shown)}" in table
    assert f"{wording.MINUS}0.08" in table
    assert '<table id="predictor">' not in render_page(report_content(predictor=False))


def test_what_earlier_releases_did_not_say_of_their_predictor_is_a_dash() -> None:
    content = report_content()
    unknown = {"size_tau": None, "partial_tau": None, "size_error": None}
    rows = tuple(row.model_copy(update=unknown) for row in content.generations)
    text = render_page(content.model_copy(update={"generations": rows}))
    assert f"<td>{wording.NOT_MEASURED}</td><td>{wording.NOT_MEASURED}</td><td>1.1</td>" in text


def test_strips_show_which_layers_are_dropped_and_narrow() -> None:
    content = report_content()
    for row, strip in zip(content.front, layer_strips(content), strict=True):
        assert len(strip.cells) == content.layers
        assert tuple(cell.layer for cell in strip.cells if cell.share is not None) == row.architecture.layers
        assert sum(cell.share == 0.5 for cell in strip.cells) == row.narrow_mlps


@each_search
def test_the_figure_is_the_same_every_time(content: ReportContent) -> None:
    first, second = draw_figure(content), draw_figure(content)
    assert first == second
    assert b"<dc:date>" not in first
    assert ElementTree.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"


def test_the_figure_takes_any_name() -> None:
    for name in (HOSTILE, r"$\frac{1}$", "a_b^c"):
        ElementTree.fromstring(draw_figure(report_content(name=name, evaluations=10)))


@each_search
def test_the_terminal_table_is_whole_at_100_columns(content: ReportContent) -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(front_table(content))
    text = console.export_text()
    lines = text.splitlines()
    assert "…" not in text
    for row in (*content.front, *content.int8, *content.random, content.dense, content.base):
        line = next(line for line in lines if line.startswith(f"{row.name} "))
        assert wording.parameters(row.parameters) in line
        if row.report_accuracy is not None:
            assert f"{wording.percentage(row.report_accuracy)} ({wording.interval(row.interval)})" in line
        for against in (row.versus_dense, row.versus_base):
            if against is not None:
                shown = f"{wording.points(against.difference)} ({wording.points_interval(against.interval)})"
                assert any(line.startswith(f"{row.name} ") and shown in line for line in lines)


def test_the_terminal_shows_speeds_and_the_change_by_int8_with_their_load() -> None:
    content = SEARCHES["several objectives, INT8 and speeds"]
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(front_table(content))
    text = console.export_text()
    assert content.serving is not None and content.serving in text
    for row, twin in zip((*content.front, content.dense), content.int8, strict=True):
        change = wording.points(twin.report_accuracy - row.report_accuracy)
        assert twin.speed is not None and twin.decode_seconds is not None
        shown = (change, wording.duration(twin.decode_seconds), wording.rate(twin.speed.decode))
        assert any(line.startswith(twin.name) and all(part in line for part in shown) for line in text.splitlines())


def test_the_terminal_takes_a_name_literally() -> None:
    content = report_content(front=1)
    named = content.model_copy(update={"front": (content.front[0].model_copy(update={"name": "[red]N1"}),)})
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(front_table(named))
    assert "[red]N1" in console.export_text()


@pytest.mark.parametrize(
    ("interval", "says"),
    [((0.01, 0.05), "better than"), ((-0.01, 0.05), "not shown to differ from"), ((-0.05, -0.01), "worse than")],
)
def test_the_page_says_by_how_much_the_front_is_better_than_random_networks(
    interval: tuple[float, float], says: str
) -> None:
    content = report_content(random_ones=True).model_copy(
        update={"advantage": Advantage(difference=0.02, interval=interval, pairs=6)}
    )
    result = random_finding(content)
    assert result is not None and f"{says} random ones of the same sizes: +2.0 points (mean over 6 pairs" in result
    assert escape(result) in render_page(content)
    assert random_finding(report_content()) is None
