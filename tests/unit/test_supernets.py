"""Super-networks that searches share: which one a search has, who needs it, and what becomes of it."""

import json
import multiprocessing
import shutil
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.application.pipeline import open_search
from services.application.prepared_search import PreparedSearch
from services.application.run_directory import RunDirectory
from services.application.supernet_choice import find_supernet
from services.application.supernet_store import (
    Supernet,
    SupernetStore,
    busy,
    clear_workspace,
    making,
    workspace_of,
)
from services.application.supernet_training import fine_tune
from services.cli.inventory_view import remove_supernet, show_all
from services.coordinator.plan import plan_of
from services.trainer.data import load_instructions
from shared.digest import digest_json
from shared.drop_orders import DropOrders
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Event, Events, Noted
from shared.manifest import base_location, read_network
from shared.messages import CheckpointRef
from shared.settings import parse_settings
from tests.chaos.arena import search_settings, search_values, write_supernet
from tests.support.checkpoints import write_checkpoint
from tests.support.content import digest_of


def manifest_with(supernet: Path, **changes: Any) -> None:
    path = supernet / "supernet.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def store(tmp_path: Path) -> SupernetStore:
    return SupernetStore(tmp_path / "supernets")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "runs" / "any")
    run.path.mkdir(parents=True)
    return run


def found(run: RunDirectory, store: SupernetStore, **changes: Any) -> str | None:
    environment = Environment(data=None, cache=run.path / "cache", threads=1)
    supernet = find_supernet(search_settings(**changes), run, store, environment)
    return None if supernet is None else supernet.directory.name


def measured_with(run: RunDirectory, supernet: Supernet) -> None:
    """Begin the run's history."""
    base = CheckpointRef(location="somewhere", digest=supernet.manifest.base_digest)
    open_search(search_settings(), run, supernet, base, "float32")[1].close()


OTHERS = [
    ({"model": "another/model"}, "model was somewhere, now another/model"),
    ({"space": {"depths": [8, 7]}}, "space.depths was [8, 7, 6], now [8, 7]"),
    ({"space": {"depth_rule": "importance"}}, "space.depth_rule was first, now importance"),
    ({"training": {"steps": 3}}, "training.steps was 0, now 3"),
]
SAME: list[dict[str, Any]] = [
    {},
    {"name": "other"},
    {"space": {"quantization": ["none", "int8"]}, "objectives": ["bytes"]},
    {"training": {"checkpoint_every_seconds": 5}},
    {"search": {"seed": 7}},
]


@pytest.mark.parametrize("changes", SAME)
def test_a_search_finds_the_super_network_of_its_recipe(
    run: RunDirectory, store: SupernetStore, changes: dict[str, Any]
) -> None:
    write_supernet(store.place("one"))
    assert found(run, store, **changes) == "one"


@pytest.mark.parametrize("changes", [changes for changes, _ in OTHERS])
def test_a_search_of_another_recipe_finds_none(
    run: RunDirectory, store: SupernetStore, changes: dict[str, Any]
) -> None:
    write_supernet(store.place("one"))
    assert found(run, store, **changes) is None


def test_one_that_was_made_by_other_methods_is_not_found_by_new_searches(
    run: RunDirectory, store: SupernetStore
) -> None:
    write_supernet(store.place("one"))
    manifest_with(store.place("one"), tokens_version=99)
    assert found(run, store) is None


def test_one_that_took_less_memory_is_found_by_who_asks_for_that_or_leaves_it_open(
    run: RunDirectory, store: SupernetStore
) -> None:
    write_supernet(store.path / "lean", search_settings(training={"steps": 5}))
    manifest_with(store.path / "lean", memory="lean")
    for memory, there in {"auto": "lean", "lean": "lean", "full": None, "leanest": None}.items():
        assert found(run, store, training={"steps": 5, "memory": memory}) == there


@pytest.mark.parametrize(("changes", "words"), OTHERS)
def test_a_run_that_has_one_of_another_recipe_is_refused_by_what_differs(
    run: RunDirectory, store: SupernetStore, changes: dict[str, Any], words: str
) -> None:
    write_supernet(run.supernet)
    with pytest.raises(UserError) as refused:
        found(run, store, **changes)
    assert words in str(refused.value) and "change `name`" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_run_goes_on_with_its_own_whatever_release_made_it(run: RunDirectory, store: SupernetStore) -> None:
    write_supernet(run.supernet)
    manifest_with(run.supernet, tokens_version=99)
    write_supernet(store.place("one"))
    assert found(run, store) == "supernet"


def test_a_run_that_was_linked_but_has_no_history_takes_the_one_that_is_asked_for_now(
    run: RunDirectory, store: SupernetStore
) -> None:
    write_supernet(store.place("one"))
    run.link(store.place("one"))
    assert found(run, store, training={"steps": 3}) is None
    measured_with(run, Supernet.read(store.place("one")))
    with pytest.raises(UserError, match=r"training\.steps was 0, now 3"):
        found(run, store, training={"steps": 3})


def test_a_model_s_directory_is_the_same_however_it_is_named(
    run: RunDirectory, store: SupernetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "base", "llama")
    monkeypatch.chdir(tmp_path)
    assert base_location("base") == base_location(str(tmp_path / "base")) == str(tmp_path / "base")
    assert base_location("HuggingFaceTB/SmolLM2-135M-Instruct") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    write_supernet(store.place("one"))
    manifest_with(store.place("one"), base=str(tmp_path / "base"), base_digest=digest_of(tmp_path / "base"))
    assert found(run, store, model="./base") == "one"
    (tmp_path / "base").rename(tmp_path / "moved")  # what it holds counts, not its name
    assert found(run, store, model="moved") == "one"
    write_checkpoint(tmp_path / "base", "llama", seed=1)
    assert found(run, store, model="base") is None


def test_training_data_of_a_file_count_by_what_the_file_holds(
    run: RunDirectory, store: SupernetStore, tmp_path: Path
) -> None:
    row = {"instruction": "Say it.", "input": "", "output": "it"}
    for name, output in (("rows", "it"), ("same", "it"), ("other", "that")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({**row, "output": output}) + "\n")
    write_supernet(store.place("one"))
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("rows", "same", "other")}
    digest = load_instructions(files["rows"], Environment(data=None, cache=tmp_path, threads=1)).digest
    training = {"data": files["rows"], **json.loads((store.place("one") / "supernet.json").read_text())["training"]}
    manifest_with(
        store.place("one"), training={**training, "data": files["rows"]}, data={"origin": "", "digest": digest}
    )
    assert [found(run, store, training={"data": files[name]}) for name in files] == ["one", "one", None]


def test_a_run_whose_super_network_is_gone_has_the_same_one_made_again_and_no_other(
    run: RunDirectory, store: SupernetStore
) -> None:
    write_supernet(store.place("one"))
    run.link(store.place("one"))
    measured_with(run, Supernet.read(store.place("one")))
    shutil.rmtree(store.place("one"))
    assert found(run, store) is None
    with pytest.raises(UserError, match=r"is gone, .* asks for another one \(training\.steps was 0, now 3\)"):
        found(run, store, training={"steps": 3})
    write_supernet(store.place("again"))  # wherever it lies now
    assert found(run, store) == "again"


def test_a_search_file_may_name_one_by_directory_or_digest(
    run: RunDirectory, store: SupernetStore, tmp_path: Path
) -> None:
    write_supernet(tmp_path / "elsewhere")
    write_supernet(store.place("0f12"))
    content = Supernet.read(store.place("0f12")).manifest.digest
    assert found(run, store, supernet=str(tmp_path / "elsewhere")) == "elsewhere"
    for name in ("0f12", content, content[:6]):
        assert found(run, store, supernet=name, space={"depths": [8]}) == "0f12"


def test_what_a_search_file_names_must_be_there_and_go_with_it(run: RunDirectory, store: SupernetStore) -> None:
    write_supernet(store.place("0f12ab"))
    write_supernet(store.place("0f12cd"))
    for changes, words in (
        ({"supernet": "nowhere"}, "`nasfarm train` makes one"),
        ({"supernet": "0f12"}, "2 digests in"),
        ({"supernet": "0f12a", "space": {"depth_rule": "importance"}}, "ordered by first"),
        ({"supernet": "0f12a", "training": {"steps": 9}}, r"training.steps was 0, now 9"),
    ):
        with pytest.raises(UserError) as refused:
            found(run, store, **changes)
        assert words in str(refused.value) and "\n" not in str(refused.value)


SEVERAL = {"depth_rule": ["first", "importance"]}


def test_one_that_was_made_with_several_depth_rules_can_be_searched_with_some_of_them(
    run: RunDirectory, store: SupernetStore
) -> None:
    write_supernet(store.place("0f12"))
    space = search_settings(space=SEVERAL).space.model_dump(mode="json")
    first, importance = (7, 6, 5, 4, 3, 2, 1), (3, 4, 1, 2, 5, 6)
    manifest_with(store.place("0f12"), space=space, drop_order=[first, importance])
    supernet, base = Supernet.read(store.place("0f12")), CheckpointRef(location="there", digest="0" * 32)

    def searched(rules: Any, name: str) -> DropOrders:
        """What the search's plan has, and its history after it."""
        assert found(run, store, supernet="0f12", space={"depth_rule": rules}) == "0f12"
        asked = search_settings(supernet="0f12", space={"depth_rule": rules})
        plan, history = open_search(asked, RunDirectory(run.path / name), supernet, base, "float32")
        with closing(history):
            assert plan_of(history, asked).space == plan.space
        return plan.space.drop_order

    assert searched("first", "one") == first == searched(["first"], "one")
    assert searched("importance", "other") == importance
    assert searched(["importance", "first"], "both") == (importance, first)
    with pytest.raises(UserError, match=r"another search \(space\.depth_rule was importance or first, now first\);"):
        searched("first", "both")
    with pytest.raises(UserError) as refused:
        searched(["first", "divergence"], "none")
    assert str(refused.value) == (
        f"space.depth_rule: divergence, but the layers of {store.place('0f12')} were ordered by first and importance; "
        "write one of these, or several"
    )
    # One that isn't named is made with all rules that are asked for.
    assert found(run, store) is None and found(run, store, space=SEVERAL) == "0f12"


def test_networks_are_counted_by_the_orders_of_a_super_network_that_is_there(store: SupernetStore) -> None:
    place, asked = store.place("0f12"), search_settings(space=SEVERAL)
    write_supernet(place)
    first, other = (7, 6, 5, 4, 3, 2, 1), (7, 6, 5, 1, 2, 3, 4)  # as far as layers are dropped they agree
    manifest_with(place, space=asked.space.model_dump(mode="json"), drop_order=[first, other])
    base = cast(Any, SimpleNamespace(network=read_network(place)))
    to_be_made = PreparedSearch(asked, base, "base", None, None, place, {})
    made = replace(to_be_made, supernet=Supernet.read(place))
    assert made.space.drop_orders == (first, other)
    one_order = replace(made.space, drop_order=first)
    assert made.space.networks == one_order.networks < to_be_made.space.networks


@pytest.mark.parametrize(
    ("rules", "orders"), [("first", [[1, 2], [2, 1]]), (["first", "importance"], [1, 2]), (["first", "importance"], [])]
)
def test_a_manifest_has_an_order_for_each_rule(store: SupernetStore, rules: Any, orders: list[Any]) -> None:
    write_supernet(store.place("0f12"))
    space = search_settings(space={"depth_rule": rules}).space.model_dump(mode="json")
    manifest_with(store.place("0f12"), space=space, drop_order=orders)
    with pytest.raises(UserError, match=r"supernet\.json: drop_order: should be \d, one for each depth_rule"):
        Supernet.read(store.place("0f12"))


def test_a_run_s_link_leads_there_though_runs_lie_on_another_disk(tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "runs").symlink_to(tmp_path / "disk" / "deep")
    run, store = RunDirectory(tmp_path / "project" / "runs" / "any"), SupernetStore(tmp_path / "project" / "supernets")
    run.path.mkdir()
    write_supernet(store.place("0f12"))
    run.link(store.place("0f12"))
    assert (run.supernet / "supernet.json").is_file()
    assert store.users(store.place("0f12"), tmp_path / "project" / "runs") == ["any"]


@pytest.mark.parametrize("name", ["", "0f", "nowhere", "x" * 300, "../supernets"])
def test_a_name_that_is_none_removes_nothing(store: SupernetStore, tmp_path: Path, name: str) -> None:
    write_supernet(store.place("0f12"))
    with pytest.raises(UserError, match="neither a directory with"):
        remove_supernet(name, tmp_path / "runs", store)
    assert len(store.all()) == 1


def test_what_cant_be_read_is_listed_and_can_be_removed(
    store: SupernetStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_supernet(store.place("0f12"))
    (store.place("0f12") / "supernet.json").write_text("{")
    (tmp_path / "runs" / "odd").mkdir(parents=True)
    (tmp_path / "runs" / "odd" / "search.yaml").write_text("name: odd\n")
    show_all(tmp_path / "runs", store)
    shown = capsys.readouterr().out
    assert "damaged" in shown and "odd" in shown and "missing" in shown
    remove_supernet("0f12", tmp_path / "runs", store)
    assert store.damaged() == []


def test_only_what_a_fine_tuning_left_behind_is_cleared(store: SupernetStore) -> None:
    directory = store.place("0f12")
    workspace_of(directory).mkdir(parents=True)
    (workspace_of(directory) / "diary.txt").write_text("mine")
    clear_workspace(directory)
    assert workspace_of(directory).is_dir()
    (workspace_of(directory) / "diary.txt").rename(workspace_of(directory) / "training.pt")
    with making(directory, lambda: None):
        clear_workspace(directory)
    assert workspace_of(directory).is_dir()
    clear_workspace(directory)
    assert not workspace_of(directory).exists()


def test_a_run_s_link_leads_there_from_wherever_one_looks(run: RunDirectory, store: SupernetStore) -> None:
    run.link(store.place("one"))
    assert run.supernet.readlink() == Path("../../supernets/one") and not run.supernet.exists()
    write_supernet(store.place("one"))
    assert (run.supernet / "supernet.json").is_file()
    run.link(store.place("two"))
    assert run.supernet.resolve() == store.place("two")
    run.link(Path("/elsewhere/three"))
    assert run.supernet.readlink() == Path("/elsewhere/three")


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_run_s_link_to_what_lies_outside_its_project_holds_when_the_project_is_moved(
    run: RunDirectory, store: SupernetStore, levels: int
) -> None:
    above = store.path.resolve().parents[levels]
    run.link(above / "supernets" / "one")
    assert run.supernet.readlink() == above / "supernets" / "one"


def test_one_that_a_run_needs_is_not_removed(run: RunDirectory, store: SupernetStore, tmp_path: Path) -> None:
    write_supernet(store.place("0f12"))
    run.link(store.place("0f12"))
    with pytest.raises(UserError, match=r"needed by .*any; remove these runs first"):
        remove_supernet("0f12", tmp_path / "runs", store)
    assert len(store.all()) == 1
    run.supernet.unlink()
    remove_supernet("0f12", tmp_path / "runs", store)
    assert store.all() == [] and list(store.path.iterdir()) == []


def test_what_is_unfinished_is_removed_unless_it_is_just_being_made(store: SupernetStore, tmp_path: Path) -> None:
    directory = store.place("0f12")
    workspace_of(directory).mkdir(parents=True)
    assert store.unfinished() == [directory] and store.all() == []
    with making(directory, lambda: None):
        assert busy(directory)
        with pytest.raises(UserError, match="is just being made"):
            remove_supernet("0f12", tmp_path / "runs", store)
    assert not busy(directory)
    remove_supernet("0f12", tmp_path / "runs", store)
    assert list(store.path.iterdir()) == []


def test_who_waits_for_another_to_make_it_says_that_and_shows_no_fine_tuning(
    store: SupernetStore,
) -> None:
    place = store.place("0f12")
    settings = parse_settings(search_values("any", 0, 2, 2), "test")
    plan = SimpleNamespace(digest=digest_json("plan"))
    prepared = SimpleNamespace(training=plan, place=place, settings=settings)
    published: list[Event] = []

    def another_ends(event: Event) -> None:
        published.append(event)
        write_supernet(place)
        others.close()

    with ExitStack() as others:
        others.enter_context(making(place, lambda: None))
        assert fine_tune(cast(PreparedSearch, prepared), Events(another_ends)).directory == place
    assert published == [Noted("Super-network", "another nasfarm just makes it; waiting for that")]


def test_what_lies_elsewhere_is_not_removed(store: SupernetStore, tmp_path: Path) -> None:
    write_supernet(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="remove it yourself"):
        remove_supernet(str(tmp_path / "elsewhere"), tmp_path / "runs", store)
    with pytest.raises(UserError, match="neither a directory"):
        remove_supernet("0f", tmp_path / "runs", store)


def _make(directory: Path, number: int, log: Path) -> None:
    with making(directory, lambda: None), log.open("a") as file:
        file.write(f"{number} begins\n")
        file.flush()
        file.write(f"{number} ends\n")


def test_only_one_process_makes_it_at_a_time_and_the_others_wait(store: SupernetStore, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    arguments = [(store.place("one"), number, tmp_path / "log") for number in range(4)]
    processes = [context.Process(target=_make, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["begins", "ends"] * 4
    assert {line.split()[0] for line in lines} == {"0", "1", "2", "3"}
