"""The report's page in a real browser, opened from a file as its readers do."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FloatRect, Locator, Page, expect

from services.reporting.displayed_costs import COSTS
from services.reporting.page import render_page
from services.reporting.report_data import ReportContent
from tests.support.browser import SCREEN, TELEPHONE, Opener, opening
from tests.support.report_content import report_content

CONTENT = report_content()
MANY = report_content(objectives=("decode_seconds", "prefill_seconds"), int8=True, timed=True, run=True)
FIRST = ".plot.front.parameters"
"""The chart over the first objective."""
HOSTILE = "<script>window.harmed = true</script><img src=x onerror='window.harmed = true'>"
Opened = Opener[ReportContent]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opened]:
    with opening(browser, tmp_path / "report.html", render_page) as opener:
        yield opener


@pytest.fixture
def page(opened: Opened) -> Page:
    return opened(CONTENT)


def _front_mark(page: Page, network: str, part: str) -> Locator:
    return page.locator(f"{FIRST} .{part} .mark[data-network={network}]")


def test_every_network_has_its_marks(page: Page) -> None:
    on_front = len(CONTENT.front)
    expect(page.locator(f"{FIRST} .mark.seen")).to_have_count(len(CONTENT.evaluated) - on_front)
    for part in ("search", "report"):
        expect(page.locator(f"{FIRST} .{part} .mark.front")).to_have_count(on_front)
        expect(page.locator(f"{FIRST} .{part} .mark.dense")).to_have_count(1)
        expect(page.locator(f"{FIRST} .{part} .mark.base")).to_have_count(1)
    expect(page.locator(f"{FIRST} line.bar")).to_have_count(on_front + 2)
    expect(page.locator(".plot.hypervolume .mark")).to_have_count(len(CONTENT.generations))
    judged = sum(row.kendall_tau is not None for row in CONTENT.generations)
    expect(page.locator(".plot.tau .mark")).to_have_count(judged)


def test_marks_lie_where_their_numbers_say(page: Page) -> None:
    boxes = [_front_mark(page, f"n{index}", "report").bounding_box() for index in range(1, len(CONTENT.front) + 1)]
    across = [box["x"] for box in boxes if box]
    assert len(across) == len(CONTENT.front)
    assert across == sorted(across, reverse=True)
    plot = page.locator(f"{FIRST} > svg").bounding_box()
    assert plot is not None
    assert all(plot["x"] < place < plot["x"] + plot["width"] for place in across)


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        (f"{FIRST} .report .mark[data-network=n2]", "on the report part (95 %"),
        (f"{FIRST} .report .mark.base", "base"),
        (".plot.hypervolume .mark >> nth=1", "100 networks measured"),
        (".plot.tau .mark >> nth=0", "Kendall's τ"),
        (".cell >> nth=0", "N1, layer 0"),
    ],
)
def test_hovering_tells_what_a_mark_is(page: Page, mark: str, says: str) -> None:
    tip = page.locator("#tip")
    expect(tip).to_be_hidden()
    page.locator(mark).hover()
    expect(tip).to_be_visible()
    expect(tip).to_contain_text(says)
    page.mouse.move(2, 2)
    expect(tip).to_be_hidden()


def test_a_near_miss_is_a_hit(page: Page) -> None:
    smallest = _front_mark(page, f"n{len(CONTENT.front)}", "report")
    smallest.scroll_into_view_if_needed()
    box = smallest.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] - 6, box["y"] + box["height"])
    expect(page.locator("#tip")).to_contain_text(CONTENT.front[-1].name)


@pytest.mark.parametrize("part", ["search", "report"])
def test_choosing_a_point_marks_its_row_and_its_drawing(page: Page, part: str) -> None:
    row, drawing = page.locator("#row-n2"), page.locator("#drawing-n2")
    if part == "search":
        page.get_by_role("checkbox", name="report part").uncheck()
    plain = row.locator("td").first.evaluate("cell => getComputedStyle(cell).backgroundColor")
    _front_mark(page, "n2", part).click()
    expect(row).to_contain_class("chosen")
    expect(drawing).to_contain_class("chosen")
    assert row.locator("td").first.evaluate("cell => getComputedStyle(cell).backgroundColor") != plain
    expect(page.locator("#chosen")).to_contain_text("N2 is marked")
    _front_mark(page, "n1", part).click()
    expect(page.locator("tr.chosen")).to_have_count(1)
    expect(page.locator("#row-n1")).to_contain_class("chosen")


def test_the_keyboard_reaches_points_and_chooses_them(page: Page) -> None:
    _front_mark(page, "n3", "report").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#row-n3")).to_contain_class("chosen")
    page.keyboard.press("Tab")
    expect(page.locator("#tip")).to_contain_text("N4")
    page.keyboard.press("Escape")
    expect(page.locator("#tip")).to_be_hidden()


def test_the_switches_show_and_hide_parts(page: Page) -> None:
    mark, bars = _front_mark(page, "n1", "report"), page.locator(f"{FIRST} line.bar").first
    names = page.locator(f"{FIRST} .name.search").first
    expect(names).to_be_hidden()
    page.get_by_role("checkbox", name="report part").uncheck()
    expect(mark).to_be_hidden()
    expect(bars).to_be_hidden()
    expect(names).to_be_visible()
    expect(_front_mark(page, "n1", "search")).to_be_visible()
    page.get_by_role("checkbox", name="all networks measured").uncheck()
    expect(page.locator(f"{FIRST} .mark.seen").first).to_be_hidden()


def test_the_table_has_all_rows_and_sorts_by_number(page: Page) -> None:
    names = page.locator("#networks tbody th")
    order = [row.name for row in CONTENT.front]
    expect(names).to_have_text([*order, "dense", "base"])
    header = page.locator("#networks").get_by_role("button", name="Parameters")
    header.click()
    expect(names).to_have_text([*reversed(order), "dense", "base"])
    header.click()
    expect(names).to_have_text(["dense", "base", *order])
    expect(page.locator("th[aria-sort=descending]")).to_have_count(1)


def test_what_was_not_compared_is_sorted_last(page: Page) -> None:
    header, names = (
        page.locator("#networks").get_by_role("button", name="Against dense"),
        page.locator("#networks tbody th"),
    )
    for _ in range(2):
        header.click()
        expect(names.last).to_have_text("dense")


def test_the_drawing_has_a_cell_for_each_layer(page: Page) -> None:
    for index, row in enumerate(CONTENT.front, start=1):
        strip = page.locator(f"#drawing-n{index}")
        expect(strip.locator(".cell")).to_have_count(CONTENT.layers)
        expect(strip.locator(".cell.dropped")).to_have_count(CONTENT.layers - row.architecture.depth)
        name = re.compile(f"^{row.name}: {row.architecture.depth} of {CONTENT.layers} layers")
        expect(strip.get_by_role("img")).to_have_accessible_name(name)


@pytest.mark.parametrize("name", ["llama2-arc", "a-very-long-name-without-any-place-to-break-it" * 3])
def test_a_phone_shows_the_page_without_scrolling_sideways(opened: Opened, name: str) -> None:
    long = (*CONTENT.provenance, ("Items" * 20, "0123456789abcdef" * 20))
    page = opened(CONTENT.model_copy(update={"name": name, "headline": name, "provenance": long}), TELEPHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == TELEPHONE
    _front_mark(page, "n1", "report").click()
    expect(page.locator("#row-n1")).to_contain_class("chosen")
    tip = page.locator("#tip").bounding_box()
    assert tip is not None
    assert tip["x"] >= 0 and tip["x"] + tip["width"] <= TELEPHONE


def _box(page: Page, selector: str) -> FloatRect:
    box = page.locator(selector).first.bounding_box()
    assert box is not None
    return box


FRONT, LAYERS = "section[aria-labelledby=front-title]", "section[aria-labelledby=layers-title]"


@pytest.mark.parametrize("width", [1400, 1900])
@pytest.mark.parametrize("content", [CONTENT, MANY], ids=["one", "many"])
def test_a_wide_screen_is_used_in_two_columns(opened: Opened, content: ReportContent, width: int) -> None:
    page = opened(content, width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    front, layers, table = (_box(page, selector) for selector in (FRONT, LAYERS, "#networks >> xpath=.."))
    assert front["y"] == layers["y"] and front["x"] + front["width"] < layers["x"]
    assert layers["x"] + layers["width"] - front["x"] == pytest.approx(table["width"], abs=1)
    assert table["width"] > 0.92 * width
    for chart in (".plot.front:visible", ".plot.hypervolume", ".plot.tau", ".strips"):
        assert _box(page, chart)["width"] > 0.42 * width
    figures, result = _box(page, ".figures"), _box(page, "#result")
    assert figures["x"] > result["x"] + result["width"]
    assert figures["y"] + figures["height"] <= result["y"] + result["height"] + 1


@pytest.mark.parametrize("width", [375, SCREEN, 1400, 1900, 2560])
def test_lines_of_text_stay_short_enough_to_be_read(opened: Opened, width: int) -> None:
    page = opened(MANY, width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    lines = page.evaluate("""[...document.querySelectorAll("#result p, .prose li, .note, figcaption")].map((text) => {
        const size = parseFloat(getComputedStyle(text).fontSize);
        const range = document.createRange();
        range.selectNodeContents(text);
        return Math.max(...[...range.getClientRects()].map((line) => line.width)) / size;
    })""")
    assert len(lines) > 10 and max(lines) <= 80


def test_a_narrower_screen_and_paper_of_any_width_have_one_column(opened: Opened) -> None:
    page = opened(MANY, 1399)
    on_screen = [_box(page, selector) for selector in (FRONT, LAYERS)]
    page.set_viewport_size({"width": 1900, "height": 800})
    page.emulate_media(media="print")
    for front, layers in (on_screen, [_box(page, selector) for selector in (FRONT, LAYERS)]):
        assert front["y"] + front["height"] < layers["y"] and front["x"] == layers["x"]
        assert front["width"] == layers["width"] == 1072
    assert page.locator(".prose").evaluate("list => getComputedStyle(list).columnCount") == "auto"


def test_markup_in_names_does_nothing(opened: Opened) -> None:
    rows = tuple(row.model_copy(update={"name": HOSTILE}) for row in CONTENT.front)
    page = opened(CONTENT.model_copy(update={"name": HOSTILE, "model": HOSTILE, "front": rows}))
    _front_mark(page, "n2", "report").click()
    expect(page.locator("#tip")).to_contain_text(HOSTILE)
    expect(page.locator("#chosen")).to_contain_text(HOSTILE)
    assert page.title().startswith(HOSTILE)
    assert page.evaluate("window.harmed") is None


def test_a_large_search_with_several_tasks_and_one_without_predictor_open_too(opened: Opened) -> None:
    large = report_content(evaluations=1000, front=20, tasks=("arc_easy", "arc_challenge", "winogrande"))
    page = opened(large)
    expect(page.locator(f"{FIRST} .mark.seen")).to_have_count(1000 - len(large.front))
    page.locator(f"{FIRST} .report .mark.front").last.hover()
    expect(page.locator("#tip")).to_be_visible()
    opened.requests.clear()
    page = opened(report_content(evaluations=20, front=1, predictor=False))
    expect(page.locator(".plot.tau")).to_have_count(0)
    expect(page.locator("#networks tbody tr")).to_have_count(3)


def test_the_axis_is_switched_by_mouse_and_by_keyboard(opened: Opened) -> None:
    page = opened(MANY)
    plots = {measure: page.locator(f".plot.front.{measure}") for measure in COSTS}
    expect(plots["decode_seconds"]).to_be_visible()
    page.get_by_role("radio", name="memory of the weights").check()
    for measure, plot in plots.items():
        expect(plot).to_be_visible(visible=measure == "bytes")
    page.keyboard.press("ArrowLeft")
    expect(plots["bytes"]).to_be_hidden()
    expect(page.locator(".plot.front:visible")).to_have_count(1)


def test_without_scripts_the_first_objective_is_shown(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render_page(MANY), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    expect(page.locator(".plot.front.decode_seconds")).to_be_visible()
    expect(page.locator(".plot.front:visible")).to_have_count(1)
    context.close()


def test_twins_are_shown_chosen_and_hidden(opened: Opened) -> None:
    page = opened(MANY)
    twins = page.locator(".plot.front.decode_seconds .twin .mark.hollow")
    expect(twins).to_have_count(len(MANY.int8))
    twins.first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#row-n1-int8")).to_contain_class("chosen")
    expect(page.locator("#drawing-n1")).to_contain_class("chosen")
    expect(page.locator("#chosen")).to_contain_text("N1 int8 is marked")
    page.get_by_role("checkbox", name="re-measured in INT8").uncheck()
    expect(twins.first).to_be_hidden()
    expect(page.locator(".plot.front.decode_seconds .link line").first).to_be_hidden()


def test_random_networks_are_shown_and_what_was_not_measured_on_the_report_part_is_not(
    opened: Opened,
) -> None:
    content = report_content(random_ones=True, unreported=3, tasks=("arc_easy", "arc_challenge"))
    page = opened(content)
    expect(page.locator(f"{FIRST} .report .mark.random")).to_have_count(len(content.random))
    expect(page.locator(f"{FIRST} .report .mark.front")).to_have_count(len(content.reported))
    expect(page.locator(f"{FIRST} .search .mark.front")).to_have_count(len(content.front))
    page.locator(f"{FIRST} .report .mark.random").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#row-n1-random")).to_contain_class("chosen")
    expect(page.locator("#chosen")).to_contain_text("N1 random is marked")
    names = [name for row in content.front for name in (row.name, f"{row.name} random")]
    shown = {row.name for row in (*content.front, *content.random)}
    expect(page.locator("#networks tbody th")).to_have_text(
        [name for name in names if name in shown] + ["dense", "base"]
    )
    telephone = opened.browser.new_page(viewport={"width": TELEPHONE, "height": 800})
    telephone.goto(page.url)
    assert telephone.evaluate("document.documentElement.scrollWidth") == TELEPHONE


def test_the_table_has_times_speeds_and_their_load(opened: Opened) -> None:
    page = opened(MANY)
    expect(page.locator("#networks thead th")).to_have_count(18)
    names = page.locator("#networks tbody th")
    pairs = [name for row in MANY.front for name in (row.name, f"{row.name} int8")]
    expect(names).to_have_text([*pairs, "dense", "dense int8", "base"])
    page.locator("#networks").get_by_role("button", name="Decode time").click()
    fastest = min((*MANY.front, *MANY.int8), key=lambda row: row.decode_seconds or 0.0)
    expect(names.first).to_have_text(fastest.name)
    expect(page.locator("#load")).to_contain_text("128 prompt tokens")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_with_its_background(opened: Opened, scheme: str) -> None:
    page = opened(CONTENT)
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    ground, ink = (
        page.evaluate(f"getComputedStyle(document.body).{name}.match(/[0-9]+/g).slice(0, 3).map(Number)")
        for name in ("backgroundColor", "color")
    )
    assert (sum(ground) < sum(ink)) == (scheme == "dark")
    assert abs(sum(ground) - sum(ink)) > 500
