"""The report as one HTML file that needs nothing else: no server, no network, no file beside it."""

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from services.reporting import wording
from services.reporting.charts.front_chart import front_charts
from services.reporting.charts.layer_strips import layer_strips, legend_shares
from services.reporting.charts.search_charts import hypervolume_chart, tau_chart
from services.reporting.displayed_costs import COSTS, reference_point, traded
from services.reporting.finding import findings
from services.reporting.listed_networks import front_keys, listed_networks
from services.reporting.report_data import ReportContent
from services.reporting.tables.columns import page_columns

PACKAGE = "services.reporting"


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
        findings=findings(content),
        unreported=len(content.front) - len(content.reported),
        apart=any(task.accuracy != content.dense.report_accuracy for task in content.dense.by_task.values()),
        traded=traded(content),
        traded_first=COSTS[content.objectives[0]].phrase,
        opposite=COSTS[content.objectives[0]].opposite,
        reference_point=reference_point(content),
        fronts=front_charts(content),
        hypervolume=hypervolume_chart(content),
        tau=tau_chart(content),
        predicted=[row for row in content.generations if row.predictor is not None],
        strips=tuple(zip(front_keys(content), layer_strips(content), strict=True)),
        legend=legend_shares(content),
        networks=listed_networks(content),
        columns=page_columns(content),
        searched_int8=any(network.architecture.quantization == "int8" for network in content.evaluated),
        timed=any(row.prefill_seconds or row.decode_seconds for row in content.front),
        run=any(row.speed for row in content.front),
        style=_trusted(style),
        script=_trusted(script),
        style_hash=_source_hash(style),
        script_hash=_source_hash(script),
    )


def _asset(name: str) -> str:
    return resources.files(PACKAGE).joinpath("templates", name).read_text(encoding="utf-8")


def _trusted(source: str) -> Markup:
    return Markup(source)  # noqa: S704  # it comes with this package, no user wrote it


def _source_hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
