"""The study's report as one HTML file."""

from collections import Counter
from collections.abc import Iterable, Mapping

from services.reporting.charts.chart import Chart
from services.reporting.charts.series import Panel, legend
from services.reporting.charts.series_chart import series_chart
from services.reporting.html_page import render
from services.reporting.study import page_tables
from services.reporting.study.front_panels import front_panels, int8_panels, throughput_panels
from services.reporting.study.network_charts import equal_size_dots, int8_dots, size_panel, task_title
from services.reporting.study.page_tables import Table, comparison_table
from services.reporting.study.probability_charts import NarrowStrip, depth_charts, narrow_strips
from services.reporting.study.study_data import Claim, EqualSize, Family, StudyComparison, StudyContent
from services.reporting.study.transfer_table import transfer_matrices

FAMILIES: dict[Family, str] = {
    "fronts": "fronts",
    "equal_size": "equal size",
    "int8": "INT8",
    "heuristics": "heuristics",
    "transfer": "transfer",
    "claims": "claims",
}


def render_study(content: StudyContent) -> str:
    """The whole page, safe against any text from `content` (see `html_page`). What was not measured is left out."""
    fronts, throughput, int8 = front_panels(content), throughput_panels(content), int8_panels(content)
    sizes = size_panel(content)
    values = {
        "claims": _claims(content),
        "studied": (
            page_tables.tasks_table(content),
            page_tables.supernets_table(content),
            page_tables.searches_table(content),
        ),
        "fronts": _drawn(fronts),
        "front_legend": legend(*fronts.values()),
        "front_tables": [page_tables.front_table(content, front) for front in content.fronts],
        "throughput": _drawn(throughput),
        "throughput_legend": legend(*throughput.values()),
        "loads": list(dict.fromkeys(front.serving for front in content.fronts if front.serving)),
        "throughput_tables": [page_tables.throughput_table(content, each) for each in content.fronts if each.timed],
        "selected": page_tables.selected_table(content),
        "size_chart": series_chart(sizes),
        "size_title": sizes.title,
        "size_legend": legend(sizes),
        "sizes": [
            (
                each.times_smaller,
                equal_size_dots(content, each),
                page_tables.equal_size_table(content, each),
                _comparisons(content, each),
            )
            for each in content.equal_size
        ],
        "int8": _drawn(int8),
        "int8_legend": legend(*int8.values()),
        "int8_dots": int8_dots(content),
        "int8_tables": page_tables.int8_tables(content),
        "depths": depth_charts(content),
        "narrow": _by_supernet(narrow_strips(content)),
        "heuristics": page_tables.heuristic_table(content),
        "heuristic_comparisons": comparison_table(
            "heuristics-compared", "Networks by heuristics against base, dense, and those chosen", content.heuristics
        ),
        "transfer": transfer_matrices(content),
    }
    return render(
        "study.html.j2",
        styles=["page.css", "study.css"],
        scripts=["page.js"],
        content=content,
        figures=_figures(content),
        families=_families(content),
        exact=(sum(each.exact for each in content.comparisons), len(content.comparisons)),
        parts=_parts(content, values),
        **values,
    )


def _parts(content: StudyContent, values: Mapping[str, object]) -> list[tuple[str, str]]:
    """The parts that the page has, in their order: identifier and name."""
    heuristics = values["heuristics"]
    parts: list[tuple[str, str, object]] = [
        ("claims", "Claims", values["claims"]),
        ("studied", "What was studied", True),
        ("fronts", "Fronts", values["fronts"]),
        ("throughput", "Throughput", values["throughput"]),
        ("selected", "Networks chosen", content.selected),
        ("equal_size", "Equal size", values["sizes"] or values["size_chart"]),
        ("int8", "INT8", values["int8"] or values["int8_tables"]),
        ("depths", "Depths", values["depths"]),
        ("narrow", "Narrow MLPs", values["narrow"] or (isinstance(heuristics, Table) and heuristics.rows)),
        ("transfer", "Transfer", values["transfer"]),
        ("reading", "How to read this", True),
        ("failures", "Failures", True),
        ("provenance", "Provenance", True),
    ]
    return [(key, name) for key, name, there in parts if there]


def _figures(content: StudyContent) -> list[tuple[str, str]]:
    """The study in numbers."""
    return [
        ("networks looked at by searches", f"{sum(search.networks for search in content.searches):,}"),
        ("networks on report items", f"{content.networks_on_report_items:,}"),
        ("report items", f"{sum(task.report_items for task in content.tasks):,}"),
        ("comparisons", f"{len(content.comparisons):,}"),
        ("claims that hold", f"{sum(claim.verdict == 'holds' for claim in content.claims)} of {len(content.claims)}"),
        ("failed or missing", f"{len(content.failures):,}"),
    ]


def _families(content: StudyContent) -> list[tuple[str, int]]:
    """How many comparisons were corrected together."""
    counts = Counter(each.family for each in content.comparisons)
    return [(name, counts[family]) for family, name in FAMILIES.items() if counts[family]]


def _drawn(panels: Mapping[str, Panel]) -> list[tuple[Panel, Chart]]:
    charts = ((panel, series_chart(panel)) for panel in panels.values())
    return [(panel, chart) for panel, chart in charts if chart is not None]


def _claims(content: StudyContent) -> list[tuple[str, list[tuple[Claim, Table]]]]:
    """The claims with what they rest on, those with the same statement together."""
    together: dict[str, list[tuple[Claim, Table]]] = {}
    for number, claim in enumerate(content.claims):
        rests_on = comparison_table(f"claim-{number}", "What this rests on", claim.comparisons)
        together.setdefault(claim.statement, []).append((claim, rests_on))
    return list(together.items())


def _comparisons(content: StudyContent, table: EqualSize) -> list[Table]:
    """The comparisons at one size, a table for each super-network and task."""
    number = content.equal_size.index(table)
    groups: dict[str, list[StudyComparison]] = {}
    for each in table.comparisons:
        task = task_title(each.task)
        groups.setdefault(
            f"{each.supernet}: compared on {task}" if each.supernet else f"Compared on {task}", []
        ).append(each)
    return [
        comparison_table(f"compared-{number}-{group}", caption, comparisons)
        for group, (caption, comparisons) in enumerate(groups.items())
    ]


def _by_supernet(strips: Iterable[NarrowStrip]) -> list[tuple[str, list[NarrowStrip]]]:
    groups: dict[str, list[NarrowStrip]] = {}
    for strip in strips:
        groups.setdefault(strip.supernet, []).append(strip)
    return list(groups.items())
