"""The search's report as one HTML file."""

from services.reporting.charts.front_chart import front_charts
from services.reporting.charts.layer_strips import layer_strips, legend_shares
from services.reporting.charts.search_charts import hypervolume_chart, tau_chart
from services.reporting.displayed_costs import COSTS, reference_point, traded
from services.reporting.finding import findings
from services.reporting.html_page import render
from services.reporting.listed_networks import front_keys, listed_networks
from services.reporting.report_data import ReportContent
from services.reporting.tables.columns import page_columns


def render_page(content: ReportContent) -> str:
    """The whole page, safe against any text from `content` (see `html_page`)."""
    return render(
        "report.html.j2",
        styles=["page.css"],
        scripts=["page.js", "report.js"],
        content=content,
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
        on_drawn=content.generations[-1].on_drawn if content.generations else None,
        strips=tuple(zip(front_keys(content), layer_strips(content), strict=True)),
        legend=legend_shares(content),
        networks=listed_networks(content),
        columns=page_columns(content),
        searched_int8=any(network.architecture.quantization == "int8" for network in content.evaluated),
        timed=any(row.prefill_seconds or row.decode_seconds for row in content.front),
        run=any(row.speed for row in content.front),
    )
