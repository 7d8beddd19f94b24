"""What a super-network is ordered by: which tokens count, and how layers are found one after the other."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from services.application.prepared_search import PreparedSearch
from services.application.supernet_training import fine_tune
from services.trainer import make_supernet as making
from services.trainer.examples import Example, calibration_batches, first_tokens
from services.trainer.make_supernet import TrainingPlan, make_supernet
from services.trainer.ordering import DIVERGENCE_TOKENS, Ordering, measure_ordering, order_by_divergence
from services.trainer.status import TrainerStatus
from services.trainer.weight_updates import computing_dtype
from shared.architecture import Architecture
from shared.drop_orders import all_orders
from shared.events import Event, Events, StepAdvanced
from shared.failure_policy import NO_PROGRESS_SECONDS
from shared.manifest import SupernetManifest
from shared.memory_needs import RECIPES
from shared.settings import DepthRule, MemoryRecipe
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import preferred_dtype, torch_dtype
from shared.supernet.divergence import Kept, WholeNetwork
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from tests.support.checkpoints import LAYERS, WIDTH
from tests.support.networks import uniform_network
from tests.support.tiny_training import run, tiny_plan, train_in

EVERY = tuple(range(LAYERS))
DIVERGENCE = {"depth_rule": "divergence"}
CPU = torch.device("cpu")


def ordering(plan: TrainingPlan, compute: torch.dtype = torch.float32) -> Ordering:
    return measure_ordering(plan.base, plan.data.examples, plan.settings, compute, CPU, lambda layers, of: None)


def predicting(example: Example) -> list[int]:
    """The places of an example at which its response is predicted, as its two fields define them."""
    learnt = [place for place in range(example.response, len(example.tokens)) if place]
    return [place - 1 for place in learnt if not any(begin <= place < end for begin, end in example.prompts)]


def counted(plan: TrainingPlan) -> list[tuple[Example, list[int]]]:
    """All calibration examples with the places that count, by the setting."""
    examples = [
        example for batch in calibration_batches(plan.data.examples, plan.settings.training) for example in batch
    ]
    if plan.settings.training.importance_on == "all":
        return [(example, list(range(len(example.tokens)))) for example in examples]
    return [(example, predicting(example)) for example in examples]


@pytest.mark.parametrize("on", ["all", "responses"])
def test_neurons_are_as_important_as_they_are_at_the_tokens_that_count(tmp_path: Path, on: str) -> None:
    plan = tiny_plan(tmp_path, steps=0, importance_on=on)
    network = plan.base.cut()
    seen: list[list[Tensor]] = [[] for _ in EVERY]
    for example, places in counted(plan):
        network.hidden(
            pack([Tree.plain(example.tokens)]),
            lambda index, _, neurons, __, places=places: seen[index].append(neurons[places]),  # type: ignore[misc]
        )
    found = ordering(plan)
    assert found.importance is not None and found.influence == found.importance.layers
    for index, layer in enumerate(network.layers):
        assert layer.mlp is not None
        expected = torch.cat(seen[index]).square().mean(0).sqrt() * layer.mlp.down.weight.norm(dim=0)
        torch.testing.assert_close(found.importance.neurons[index], expected, rtol=1e-3, atol=1e-6)


def test_of_a_conversation_only_the_answers_count(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, steps=0, importance_on="responses")
    talk = Example(tuple(range(20, 32)), 3, prompts=((6, 9),))
    assert predicting(talk) == [2, 3, 4, 8, 9, 10]
    found = measure_ordering(plan.base, [talk] * 30, plan.settings, torch.float32, CPU, lambda layers, of: None)
    later = Example(talk.tokens[:11], 0)  # all that is read before the last prediction
    network, seen = plan.base.cut(), list[Tensor]()

    def observe(index: int, before: Tensor, neurons: Tensor | None, after: Tensor) -> None:
        assert neurons is not None
        seen.append(neurons[predicting(talk)])

    network.hidden(pack([Tree.plain(later.tokens)]), observe)
    assert found.importance is not None
    for layer, neurons, importance in zip(network.layers, seen, found.importance.neurons, strict=True):
        assert layer.mlp is not None
        expected = neurons.square().mean(0).sqrt() * layer.mlp.down.weight.norm(dim=0)
        torch.testing.assert_close(importance, expected, rtol=1e-3, atol=1e-6)


class KnownDivergences(WholeNetwork):
    """Of a network of six layers, of which 1 and 2 do the same: one of them can go, and then the other is needed."""

    def __init__(self) -> None:
        self.asked: list[set[Kept]] = []

    def divergences(self, choices: Iterable[Kept]) -> dict[Kept, float]:
        self.asked.append(set(choices))
        costs = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}

        def cost(kept: Kept) -> float:
            gone = set(range(6)).difference(kept)
            return sum(costs.get(layer, 0) for layer in gone) + (9 if {1, 2} <= gone else 0)

        return {kept: cost(kept) for kept in self.asked[-1]}


@pytest.mark.parametrize(
    ("drops", "expected"),
    [(1, (1, 2, 3, 4)), (2, (1, 3, 4, 2)), (3, (1, 3, 4, 2)), (4, (1, 3, 4, 2)), (0, (1, 2, 3, 4))],
)
def test_a_layer_goes_by_what_it_does_without_those_that_are_gone(drops: int, expected: tuple[int, ...]) -> None:
    whole, told = KnownDivergences(), list[tuple[int, int]]()
    network = uniform_network(6, 8, hidden=8)
    assert order_by_divergence(whole, network, drops, lambda *progress: told.append(progress)) == expected
    rounds = max(drops, 1)
    assert told == [(done, rounds) for done in range(rounds + 1)]
    assert [len(choices) for choices in whole.asked] == [4, 3, 2, 1][:rounds], "only what is to be decided"
    assert all({0, 5} <= set(kept) for choices in whole.asked for kept in choices)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_network_with_hardly_any_layers_has_hardly_any_order(layers: int) -> None:
    whole = KnownDivergences()
    order = order_by_divergence(whole, uniform_network(layers, 8, hidden=8), 1, lambda layers, of: None)
    assert order == tuple(range(1, layers - 1))


@pytest.mark.parametrize("on", ["all", "responses"])
def test_divergences_are_those_of_the_predictions_at_the_tokens_that_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: str
) -> None:
    plan = tiny_plan(tmp_path, steps=0, importance_on=on, space=DIVERGENCE)
    texts, measured = counted(plan), dict[Kept, float]()
    assert sum(len(example.tokens) for example, _ in texts) < DIVERGENCE_TOKENS, "all of it is read"
    plain = WholeNetwork.divergences

    def noted(self: WholeNetwork, choices: Iterable[Kept]) -> dict[Kept, float]:
        found = plain(self, choices)
        measured.update(found)
        return found

    monkeypatch.setattr(WholeNetwork, "divergences", noted)
    found = ordering(plan)

    def predictions(kept: Kept) -> Tensor:
        network = plan.base.cut(Architecture(layers=kept, mlp_widths=(WIDTH,) * len(kept)))
        packs = [(pack([Tree.plain(example.tokens)]), places) for example, places in texts]
        states = torch.cat([network.hidden(packed)[places] for packed, places in packs])
        return network.logits(states).double().log_softmax(-1)

    def without(*gone: int) -> Kept:
        return tuple(layer for layer in EVERY if layer not in gone)

    whole = predictions(EVERY)
    ((first, second, third),) = all_orders(found.drop_order)
    assert measured.keys() == {without(1), without(2), without(3), without(first, second), without(first, third)}
    for kept, divergence in measured.items():
        assert divergence == pytest.approx(float((whole.exp() * (whole - predictions(kept))).sum(-1).mean()), rel=1e-3)
    assert measured[without(first)] == min(measured[without(layer)] for layer in (1, 2, 3))
    assert measured[without(first, second)] < measured[without(first, third)]
    assert found.influence is None and found.importance is not None, "neurons are ordered all the same"


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), max_size=6), st.integers(1, 40))
def test_text_ends_with_the_example_that_reaches_what_is_asked_for(lengths: list[list[int]], most: int) -> None:
    batches = [[Example((7,) * length, 0) for length in batch] for batch in lengths]
    found = [example for batch in first_tokens(batches, most) for example in batch]
    every = [example for batch in batches for example in batch]
    assert found == every[: len(found)]
    tokens = [len(example.tokens) for example in found]
    assert sum(tokens[:-1]) < most and (sum(tokens) >= most or len(found) == len(every))


@pytest.mark.parametrize("memory", RECIPES)
def test_a_super_network_drops_layers_in_the_order_that_was_found(tmp_path: Path, memory: MemoryRecipe) -> None:
    told: list[tuple[int, int]] = []
    plan = tiny_plan(tmp_path, steps=2, memory=memory, importance_on="responses", space=DIVERGENCE)
    place = tmp_path / "run"
    manifest = make_supernet(
        plan, place / "unfinished", place / "supernet", lambda _: None, ordered=lambda *progress: told.append(progress)
    )
    compute = computing_dtype(memory, torch_dtype(preferred_dtype()))
    assert manifest is not None and manifest.influence is None
    assert manifest.drop_order == ordering(plan, compute).drop_order
    assert manifest.space.depth_rule == "divergence" and manifest.training.importance_on == "responses"
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_of_several_rules_each_finds_the_order_that_it_finds_alone(tmp_path: Path) -> None:
    rules: tuple[DepthRule, ...] = ("divergence", "first", "importance")
    alone = [ordering(tiny_plan(tmp_path, steps=0, space={"depth_rule": rule})) for rule in rules]
    plan = tiny_plan(tmp_path, steps=0, space={"depth_rule": list(rules)})
    together = ordering(plan)
    assert together.drop_order == tuple(one.drop_order for one in alone)
    assert together.influence == alone[2].influence is not None
    manifest = train_in(tmp_path / "several", plan)
    read = SupernetManifest.read(tmp_path / "several" / "supernet")
    assert read == manifest and read.space.depth_rules == rules
    assert read.drop_order == manifest.orders_of(rules) == together.drop_order
    assert read.orders_of(["importance"]) == alone[2].drop_order
    assert read.orders_of(["importance", "divergence"]) == (alone[2].drop_order, alone[0].drop_order)


def test_without_rules_that_measure_and_neurons_that_move_nothing_is_measured(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, steps=0, neuron_order="none", space={"depth_rule": ["first"]})
    assert ordering(plan) == Ordering(None, tuple(range(LAYERS - 1, 0, -1)), None)


def test_what_takes_long_is_told_of_and_is_no_sign_of_hanging(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, steps=2, space=DIVERGENCE)
    prepared = SimpleNamespace(training=plan, place=tmp_path / "supernets" / "one", settings=plan.settings)
    clock, published = [0.0], list[Event]()
    status = TrainerStatus(1, lambda: clock[0])

    def note(event: Event) -> None:
        published.append(event)
        assert status.hung() is None
        clock[0] += 0.9 * NO_PROGRESS_SECONDS

    fine_tune(cast(PreparedSearch, prepared), Events(note), status=status)
    notes = [each.note for each in published if isinstance(each, StepAdvanced)]
    assert notes[:3] == [
        "finding which layers to drop, 0 of 2",
        "finding which layers to drop, 1 of 2",
        "ordering layers and neurons",
    ]
    assert (notes[3] or "").startswith("loss")


def test_an_interrupted_fine_tuning_finds_no_order_a_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.trainer.training_state.WAITING_SHARE", 1.0)
    space = {"depth_rule": ["first", "divergence"]}
    options: dict[str, Any] = {"steps": 4, "checkpoint_every_seconds": 1e-6, "space": space}
    undisturbed = run(tmp_path, "undisturbed", **options)

    def ends(report: Any) -> None:
        if report.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_in(tmp_path / "run", tiny_plan(tmp_path, **options), ends)
    monkeypatch.setattr(making, "measure_ordering", None)
    resumed = run(tmp_path, **options)
    assert resumed.drop_order == undisturbed.drop_order and resumed.files == undisturbed.files


@pytest.mark.parametrize("order", ["importance", "none"])
def test_neurons_are_moved_only_where_that_is_asked_for(tmp_path: Path, order: str) -> None:
    run(tmp_path, steps=0, neuron_order=order, space=DIVERGENCE)
    base, made = (load_file(tmp_path / place / "model.safetensors") for place in ("base", "run/supernet"))
    assert all(torch.equal(base[name], made[name]) for name in base) == (order == "none")
    assert Checkpoint.open(tmp_path / "run" / "supernet").network.depth == LAYERS
