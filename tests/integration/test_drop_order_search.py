"""A search in which layers leave in one of two orders, from the fine-tuning to the report, as a person runs it."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from services.coordinator.history import History
from services.coordinator.plan import plan_of
from services.coordinator.results import evaluated_so_far
from shared.drop_orders import all_orders
from shared.manifest import SupernetManifest
from shared.settings import read_search_file
from tests.support.checkpoints import LAYERS, WIDTH
from tests.support.command import Run, quick_search_file, refused

SPACE = {"depths": [LAYERS, LAYERS - 1], "mlp_widths": [WIDTH, WIDTH // 2], "depth_rule": ["first", "importance"]}
SEARCH: dict[str, Any] = {
    "space": SPACE,
    "tasks": [{"name": "plain_facts", "search": {"items": 20}, "report": {"items": 20}}],
    "search": {"strategy": "bayesian", "evaluations": 16, "population": 8},
    "reporting": {"networks": 3, "random": True, "margin": 20},
}


def measured_layers(run: Path) -> set[tuple[int, ...]]:
    """Which layers the networks have that a search has measured."""
    with closing(History.read(run / "history.sqlite")) as history:
        plan = plan_of(history, read_search_file(run / "search.yaml"))
        return {one.architecture.layers for one in evaluated_so_far(plan, history) if one.accuracy is not None}


def test_networks_of_both_orders_are_trained_searched_and_reported(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NASFARM_DATA", raising=False)
    monkeypatch.setenv("NASFARM_THREADS", "1")
    ended = run("search", quick_search_file(tmp_path, **SEARCH))
    assert ended.code == 0, ended
    assert "which leave in one of 2 orders" in ended.output
    manifest = SupernetManifest.read(Path("runs/tiny/supernet"))
    first, importance = all_orders(manifest.drop_order)
    assert first == tuple(range(LAYERS - 1, 0, -1)) and importance[0] != LAYERS - 1 and manifest.influence is not None
    every = set(range(LAYERS))
    shallow = {tuple(sorted(every - {order[0]})) for order in (first, importance)}
    assert measured_layers(Path("runs/tiny")) == {tuple(range(LAYERS)), *shallow}
    page = Path("runs/tiny/report.html").read_text()
    assert f"first or importance, {list(first)} or {list(importance)}" in page
    front = json.loads(Path("runs/tiny/front.json").read_text())
    assert front["random"]
    for row in front["random"]:
        (original,) = (each for each in front["front"] if each["name"] == row["name"].removesuffix(" random"))
        random, own = row["architecture"], original["architecture"]
        assert len(random["layers"]) == len(own["layers"])

    # Continued it measures nothing more; and the same super-network serves a search by one of the rules.
    before = Path("runs/tiny/front.json").read_text()
    assert run("search", tmp_path / "search.yaml").code == 0
    assert Path("runs/tiny/front.json").read_text() == before
    supernet = Path("runs/tiny/supernet").resolve()
    other = {**SEARCH, "name": "one", "supernet": str(supernet), "training": None}
    ended = run("search", quick_search_file(tmp_path, **{**other, "space": {**SPACE, "depth_rule": "importance"}}))
    assert ended.code == 0, ended
    assert measured_layers(Path("runs/one")) == {tuple(range(LAYERS)), tuple(sorted(every - {importance[0]}))}
    again = quick_search_file(tmp_path, **{**other, "space": {**SPACE, "depth_rule": "first"}})
    refused(
        run("search", again), "another search (space.depth_rule was importance, now first); restore the search file"
    )
    file = quick_search_file(tmp_path, **{**other, "name": "no", "space": {**SPACE, "depth_rule": "divergence"}})
    refused(run("search", file), "were ordered by first and importance; write one of these, or several")
