"""Grafana's dashboards, written in Python and kept as JSON in deploy/grafana/dashboards.

Generating them needs the `dev` extra; `make dashboards` does. No service imports this.
"""

from collections.abc import Mapping

from deploy.grafana.generator import evaluators, farm, search
from deploy.grafana.generator.parts import as_json


def dashboards() -> Mapping[str, str]:
    """All dashboards as JSON, by the names of their files."""
    return {
        "search-progress.json": as_json(search.dashboard()),
        "farm-health.json": as_json(farm.dashboard()),
        "evaluator-performance.json": as_json(evaluators.dashboard()),
    }
