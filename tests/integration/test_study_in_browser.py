"""The page of a study's report in a real browser, opened from a file as its readers do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from services.reporting.study.page import render_study
from services.reporting.study.study_data import StudyContent
from tests.support.browser import SCREEN, TELEPHONE, Opener, opening
from tests.support.study_content import study_content

LONG = "a-very-long-name-without-any-place-to-break-it" * 3
CONTRAST = """(selector) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
    const light = (colours) => {  // the relative luminance (WCAG 2) of colours painted over one another
        canvas.clearRect(0, 0, 1, 1);
        for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
        const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data].map((value) => {
            const share = value / 255;
            return share <= .04045 ? share / 12.92 : ((share + .055) / 1.055) ** 2.4;
        });
        return .2126 * red + .7152 * green + .0722 * blue;
    };
    return [...document.querySelectorAll(selector)].map((element) => {
        const grounds = [];
        for (let each = element; each; each = each.parentElement) {
            grounds.unshift(getComputedStyle(each).backgroundColor);
        }
        const ink = light([...grounds, getComputedStyle(element).color]);
        const ground = light(grounds);
        return (Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05);
    });
}"""
"""The contrast of the text of all elements of a kind with what lies behind it."""
Opened = Opener[StudyContent]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opened]:
    with opening(browser, tmp_path / "study.html", render_study) as opener:
        yield opener


@pytest.mark.parametrize("width", [TELEPHONE, SCREEN, 1900])
def test_the_page_needs_no_scrolling_sideways_though_its_tables_do(opened: Opened, width: int) -> None:
    content = study_content().model_copy(update={"name": LONG, "summary": LONG, "failures": (LONG,)})
    page = opened(content, width)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wide = page.evaluate("""[...document.querySelectorAll("table")].filter((table) => {
        const box = table.parentElement;
        return table.scrollWidth > box.clientWidth && !(box.classList.contains("scroll") && box.tabIndex === 0);
    }).map((table) => table.id)""")
    assert wide == []


def test_hovering_tells_what_a_mark_is_in_every_kind_of_chart(opened: Opened) -> None:
    page = opened(study_content())
    tip = page.locator("#tip")
    for mark, says in (
        ("section[aria-labelledby=fronts-title] .mark.front", "on report items"),
        ("section[aria-labelledby=equal_size-title] .dot-row .mark", "times smaller"),
        ("section[aria-labelledby=depths-title] .plot .segment", "layers"),
        ("section[aria-labelledby=narrow-title] .cell", "layer 0"),
    ):
        page.locator(mark).first.hover()
        expect(tip).to_be_visible()
        expect(tip).to_contain_text(says)
        page.mouse.move(2, 2)
        expect(tip).to_be_hidden()


def test_a_table_is_unfolded_and_sorted_by_the_keyboard(opened: Opened) -> None:
    page = opened(study_content())
    folded = page.locator("section[aria-labelledby=fronts-title] details").first
    expect(folded.locator("table")).to_be_hidden()
    folded.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(folded.locator("table")).to_be_visible()
    folded.get_by_role("button", name="Parameters").focus()
    page.keyboard.press("Enter")
    expect(folded.locator("th[aria-sort=ascending]")).to_have_count(1)
    smallest = min((*study_content().fronts[0].rows, *study_content().fronts[0].random), key=lambda row: row.parameters)
    expect(folded.locator("tbody tr").first).to_contain_text(f"{smallest.architecture.depth}")
    values = folded.locator("tbody tr td:nth-child(4)").evaluate_all(
        "cells => cells.map((cell) => +cell.dataset.value)"
    )
    assert values == sorted(values) and len(set(values)) > 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_with_its_background(opened: Opened, scheme: str) -> None:
    page = opened(study_content())
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for text in ("h1", "#result p", ".note", ".badge", ".heat td", ".heat td small", "tr.whole td", ".published li"):
        ratios = page.evaluate(CONTRAST, text)
        assert ratios and min(ratios) >= 4.5, text


def test_on_a_telephone_tips_stay_on_the_screen(opened: Opened) -> None:
    page = opened(study_content(), TELEPHONE)
    page.locator("section[aria-labelledby=equal_size-title] .dot-row .mark").last.click()
    box = page.locator("#tip").bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= TELEPHONE
