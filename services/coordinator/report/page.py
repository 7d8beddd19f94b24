"""The report as one HTML file that needs nothing else: no server, no network, no file beside it."""

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from services.coordinator.report import wording
from services.coordinator.report.charts import front_chart, hypervolume_chart, network_keys, tau_chart
from services.coordinator.report.content import Comparison, NetworkRow, ReportContent
from services.coordinator.report.drawing import draw_strips, legend_shares
from services.coordinator.report.finding import LEVEL, key_result

PACKAGE = "services.coordinator.report"


def render_page(content: ReportContent) -> str:
    """The whole page. All text from `content` is escaped, and a content security policy admits only the page's own
    script and style."""
    style, script = _asset("report.css"), _asset("report.js")
    environment = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        content=content,
        words=wording,
        key_result=key_result(content),
        level=LEVEL,
        front=front_chart(content),
        hypervolume=hypervolume_chart(content),
        tau=tau_chart(content),
        strips=tuple(zip(network_keys(content), draw_strips(content), strict=True)),
        legend=legend_shares(content),
        tasks=_tasks(content),
        table=_table(content),
        style=_ours(style),
        script=_ours(script),
        style_hash=_source_hash(style),
        script_hash=_source_hash(script),
    )


def _table(content: ReportContent) -> list[tuple[str, list[tuple[str, float | None]]]]:
    """Rows of the table: the network's key, and for each column after the name what is shown and what sorts it."""
    keys = [*network_keys(content), "dense", "base"]
    rows = (*content.front, content.dense, content.base)
    tasks = _tasks(content)
    return [(key, _cells(row, tasks)) for key, row in zip(keys, rows, strict=True)]


def _cells(row: NetworkRow, tasks: tuple[str, ...]) -> list[tuple[str, float | None]]:
    by_task: list[tuple[str, float | None]] = []
    for task in tasks:
        share = row.report_by_task.get(task)
        by_task.append((wording.percent(share), share))
    return [
        (row.name, None),
        (str(row.architecture.depth), row.architecture.depth),
        (str(row.narrow_mlps), row.narrow_mlps),
        (wording.parameters(row.parameters), row.parameters),
        (wording.size(row.bytes), row.bytes),
        (f"{row.ratio:.2f}", row.ratio),
        (wording.percent(row.search_accuracy), row.search_accuracy),
        (f"{wording.percent(row.report_accuracy)} ({wording.interval(row.interval)})", row.report_accuracy),
        *by_task,
        _compared(row.versus_dense),
        _compared(row.versus_base),
    ]


def _compared(comparison: Comparison | None) -> tuple[str, float | None]:
    if comparison is None:
        return wording.NOT_MEASURED, None
    return f"{wording.points(comparison.difference)} ({wording.p_value(comparison.p_value)})", comparison.difference


def _tasks(content: ReportContent) -> tuple[str, ...]:
    """The tasks that get a column each: none if there is only one, whose accuracy is the accuracy."""
    tasks = tuple(content.dense.report_by_task)
    return tasks if len(tasks) > 1 else ()


def _asset(name: str) -> str:
    return resources.files(PACKAGE).joinpath("templates", name).read_text(encoding="utf-8")


def _ours(source: str) -> Markup:
    return Markup(source)  # noqa: S704  # it came with this package, no user wrote it


def _source_hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
