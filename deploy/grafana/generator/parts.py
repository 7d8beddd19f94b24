"""What dashboards are made of: a panel is a title, a sentence for the person who looks at it, and queries."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableOption, VariableRefresh

_P = TypeVar("_P", Stat, Timeseries)

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
"""As provisioned: deploy/grafana/provisioning/datasources."""

CHOSEN = 'instance=~"$instance"'
"""Matches the processes that were chosen (see `instances`)."""

Query = tuple[str, str]
"""An expression in PromQL, and how each of its series is called."""


@dataclass(frozen=True)
class DashboardRow:
    """A title, and the panels below it."""

    title: str
    panels: Sequence[Stat | Timeseries]


def new_dashboard(
    uid: str, title: str, description: str, *rows: DashboardRow, variable: QueryVariable | None = None
) -> Dashboard:
    """A dashboard of the last six hours, which renews itself."""
    made = (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["nasfarm"])
        .readonly()
        .time("now-6h", "now")
        .refresh("10s")
        .timezone("browser")
    )
    if variable is not None:
        made.with_variable(variable)
    for row in rows:
        made.with_row(Row(row.title))
        for panel in row.panels:
            made.with_panel(panel)
    return made


def instances(job: str, label: str) -> QueryVariable:
    """A choice among the processes of a job, by default all: expressions match it with `CHOSEN`."""
    return (
        QueryVariable("instance")
        .label(label)
        .datasource(PROMETHEUS)
        .query(f'label_values(up{{job="{job}"}}, instance)')
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(text="All", value="$__all", selected=True))
    )


def stat(title: str, description: str, *queries: Query, unit: str = "short") -> Stat:
    """Numbers of this moment, a quarter of the page wide."""
    return _filled(Stat(), title, description, queries, unit).span(6).height(4)


def chart(title: str, description: str, *queries: Query, unit: str = "short") -> Timeseries:
    """Curves over time, half of the page wide."""
    return _filled(Timeseries(), title, description, queries, unit).span(12).height(8).fill_opacity(5)


def summed_by(label: str, expression: str) -> Query:
    """The sum of an expression for each value of a label, called by that."""
    return f"sum by ({label}) ({expression})", f"{{{{{label}}}}}"


def median_and_95(buckets: str, name: str = "") -> tuple[Query, Query]:
    """The median and the 95th percentile of a histogram, from the rates of its buckets."""
    return (f"histogram_quantile(0.5, {buckets})", f"{name}median"), (
        f"histogram_quantile(0.95, {buckets})",
        f"{name}95 %",
    )


def as_json(dashboard: Dashboard) -> str:
    """The dashboard as Grafana reads it, its panels numbered, with a line end at the end."""
    built = dashboard.build()
    for number, panel in enumerate(built.panels or [], start=1):
        panel.id_val = number
    return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _filled(panel: _P, title: str, description: str, queries: tuple[Query, ...], unit: str) -> _P:
    panel.title(title).description(description).datasource(PROMETHEUS).unit(unit).no_value("no data")
    for letter, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(Dataquery().ref_id(letter).expr(expression).legend_format(legend).datasource(PROMETHEUS))
    return panel
