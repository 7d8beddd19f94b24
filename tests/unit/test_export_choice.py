"""Which network of a run is exported."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.application.export.choice import ChosenNetwork, choose
from services.application.export.searched_run import SearchedRun
from services.application.run_directory import RunDirectory
from services.reporting.report_data import NetworkRow
from shared.architecture import Architecture, dense
from shared.errors import UserError
from tests.support.report_content import report_content
from tests.support.searches import small_plan

CONTENT = report_content(timed=True, int8=True, front=12)
RUN = SearchedRun(RunDirectory(Path("runs/made-up")), small_plan(), CONTENT)
YOUNG = SearchedRun(RunDirectory(Path("runs/young")), small_plan(), None, "the cost table is not measured yet")


def chosen(run: SearchedRun = RUN, name: str | None = None, file: Path | None = None, *at_most: str) -> ChosenNetwork:
    found = choose(run, name, file, at_most)
    assert found is not None
    return found


def named(name: str) -> NetworkRow:
    return next(row for row in RUN.networks if row.name == name)


@pytest.mark.parametrize("name", [row.name for row in RUN.networks])
def test_networks_have_the_names_that_the_report_gives_them_and_those_of_its_files(name: str) -> None:
    for written in (name, name.replace(" ", "-")):
        found = chosen(name=written)
        assert (found.name, found.architecture, found.row) == (name, named(name).architecture, named(name))


@pytest.mark.parametrize("name", ["N13", "n1", "base", "", "N1 random"])
def test_an_unknown_name_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(UserError, match=r"has no network .*, but N1, N2, .*, N12, dense, N1 int8"):
        choose(RUN, name, None, ())


def test_without_a_front_the_whole_network_and_own_architectures_can_be_had_and_nothing_else(tmp_path: Path) -> None:
    assert chosen(YOUNG, "dense").architecture == dense(YOUNG.plan.space.network)
    (tmp_path / "mine.json").write_text(Architecture(layers=(0, 2), mlp_widths=(16, 48)).model_dump_json())
    mine = chosen(YOUNG, None, tmp_path / "mine.json")
    assert (mine.name, mine.architecture.layers, mine.row) == ("mine", (0, 2), None)
    for name, at_most in (("N1", ()), (None, ("bytes=1GB",))):
        with pytest.raises(UserError, match=r"runs/young: no front yet \(the cost table"):
            choose(YOUNG, name, None, at_most)


def test_the_file_of_a_network_of_the_front_is_known_as_that(tmp_path: Path) -> None:
    (tmp_path / "copy.json").write_text(named("N3").architecture.model_dump_json())
    assert chosen(RUN, None, tmp_path / "copy.json").row == named("N3")


def test_nothing_asked_for_is_no_network() -> None:
    assert choose(RUN, None, None, ()) is None


@pytest.mark.parametrize(
    ("name", "file", "at_most"),
    [("N1", Path("x"), ()), ("N1", None, ("bytes=1",)), (None, Path("x"), ("bytes=1",)), ("N1", Path("x"), ("b",))],
)
def test_a_network_is_asked_for_in_one_way(name: str | None, file: Path | None, at_most: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="each chooses a network; give one of them"):
        choose(RUN, name, file, at_most)


@given(st.floats(0.5, 1.2), st.floats(0.5, 1.2))
def test_of_those_that_fit_the_most_accurate_on_the_search_items_is_chosen(memory: float, time: float) -> None:
    size, seconds = memory * CONTENT.dense.bytes, time * (CONTENT.dense.decode_seconds or 0)
    fitting = [row for row in CONTENT.front if row.bytes <= size and (row.decode_seconds or 0) <= seconds]
    asked = (f"bytes={size!r}", f"decode_seconds={seconds!r}")
    if not fitting:
        with pytest.raises(UserError, match=r"no network of the front has .*; the smallest, N12, has .*, the fastest,"):
            choose(RUN, None, None, asked)
        return
    found = chosen(RUN, None, None, *asked)
    assert found.row in fitting
    assert found.row is not None and found.row.search_accuracy == max(row.search_accuracy or 0 for row in fitting)
    assert f"the {len(fitting)} of 12 networks" in found.why


def test_of_a_cost_that_is_asked_for_twice_the_least_is_told_once() -> None:
    with pytest.raises(UserError, match=r"; the smallest, N12, has [^,]*$"):
        choose(RUN, None, None, ("bytes=2B", "bytes=1B"))
