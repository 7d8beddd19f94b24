"""Identities: made of what changes the answer, and the same in every release."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from services.pruner.recipe import PruningRecipe
from services.pruner.target import ByteTarget, ParameterTarget
from services.trainer.recipe import FullMethod, LoraMethod, SingleRecipe, Tuning
from shared import identity
from shared.architecture import Architecture
from shared.digest import digest_json
from shared.identity import Recipe, difference
from shared.manifest import supernet_recipe
from shared.messages import (
    CheckpointRef,
    CostSpec,
    EvaluationRequest,
    EvaluationSpec,
    SpeedSpec,
    TaskItems,
    Workload,
)
from shared.settings import (
    PartSettings,
    ReportingSettings,
    SearchSettings,
    ServingSettings,
    SpaceSettings,
    StrategySettings,
    TaskSettings,
    TrainingSettings,
)
from shared.settings.baselines import (
    EvoPressOptions,
    FlapOptions,
    GreedyOptions,
    LlmPrunerOptions,
    MagnitudeOptions,
    RandomOptions,
    ShortGptOptions,
    SliceGptOptions,
    WandaOptions,
)
from tests.support.searches import SERVED, small_plan

DECIDED: list[tuple[type[BaseModel], Recipe]] = [
    (TaskItems, identity.TASK_ITEMS),
    (Workload, identity.WORKLOAD),
    (SpeedSpec, identity.SPEED),
    (CostSpec, identity.COSTS),
    (EvaluationSpec, identity.EVALUATION),
    (SpaceSettings, identity.TRAINED_SPACE),
    (SpaceSettings, identity.SEARCHED_SPACE),
    (TrainingSettings, identity.TRAINING),
    (PartSettings, identity.PART),
    (TaskSettings, identity.TASK),
    (StrategySettings, identity.STRATEGY),
    (ServingSettings, identity.SERVING),
    (ReportingSettings, identity.REPORTING),
    (SearchSettings, identity.SEARCH),
    (ParameterTarget, identity.PARAMETER_TARGET),
    (ByteTarget, identity.BYTE_TARGET),
    (EvoPressOptions, identity.BASELINES["evopress"]),
    (FlapOptions, identity.BASELINES["flap"]),
    (GreedyOptions, identity.BASELINES["greedy"]),
    (LlmPrunerOptions, identity.BASELINES["llm-pruner"]),
    (MagnitudeOptions, identity.BASELINES["magnitude"]),
    (RandomOptions, identity.BASELINES["random"]),
    (ShortGptOptions, identity.BASELINES["shortgpt"]),
    (SliceGptOptions, identity.BASELINES["slicegpt"]),
    (WandaOptions, identity.BASELINES["wanda"]),
    (PruningRecipe, identity.PRUNED),
    (TrainingSettings, identity.SINGLE_TRAINING),
    (FullMethod, identity.METHODS["full"]),
    (LoraMethod, identity.METHODS["lora"]),
    (Tuning, identity.TUNING),
    (SingleRecipe, identity.SINGLE),
]


@pytest.mark.parametrize(("model", "recipe"), DECIDED, ids=lambda value: getattr(value, "__name__", ""))
def test_of_every_field_it_is_decided_whether_it_counts(model: type[BaseModel], recipe: Recipe) -> None:
    assert recipe.fields == set(model.model_fields)
    assert len(recipe.fields) == len(recipe.always) + len(recipe.later) + len(recipe.beside)


@pytest.mark.parametrize(("model", "recipe"), DECIDED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_field_that_came_later_is_by_default_as_it_was_before(model: type[BaseModel], recipe: Recipe) -> None:
    for name, before in recipe.later.items():
        default = model.model_fields[name].get_default(call_default_factory=True)
        value = default.model_dump(mode="json") if isinstance(default, BaseModel) else json.loads(json.dumps(default))
        assert recipe.of({**dict.fromkeys(recipe.always), name: value}) == dict.fromkeys(recipe.always)
        assert recipe.of(dict.fromkeys(recipe.always)) == dict.fromkeys(recipe.always), before


def request(spec: EvaluationSpec, quantization: Any = "none") -> EvaluationRequest:
    network = Architecture(layers=(0, 2), mlp_widths=(8, 16), quantization=quantization)
    return EvaluationRequest(
        search="any", checkpoint=CheckpointRef(location="there", digest="c"), architecture=network, spec=spec
    )


SPECS = {
    "tasks": EvaluationSpec(tasks=(TaskItems(task="arc_easy", num_fewshot=5, split="test", stop=7),), dtype="bfloat16"),
    "speed": EvaluationSpec(dtype="float32", speed=SpeedSpec(engine="torch", workload=Workload(batch=2), repeats=3)),
    "costs": EvaluationSpec(
        dtype="float32", costs=CostSpec(engine="vllm", workload=Workload(), mlp_widths=(8, 4), quantizations=("none",))
    ),
}
PINNED = {
    "tasks": "b050ebc4d3f7b4c01610064b64eeebfe",
    "speed": "b0b50839b87922a341a1d023d721fcb5",
    "costs": "0957793192ce01a14aa0eb17f9e8de1b",
    "network": "fde44b15ddb7a84604aa440a94739f3b",
    "int8": "1f0040ebaa0fab2945c3d6667196344d",
    "supernet": "f74ea5d18a8851bc45eb317c4f8329e5",
    "search": "8b2edee7b3642b6efa028abac039c4a7",
    "pruned": "db7e3488c0392675a849f51363361d61",
    "cut": "63443034b6418aa169a2a720b96a06e6",
    "fine-tuned": "aa8555e3b6f3847eb171c5fec1fd820d",
    "fine-tuned by LoRA": "ef03adac5f60561c1a5eeae2c5a7c4ad",
}
"""Digests of earlier releases: they never change."""


def test_a_limit_is_part_of_what_is_asked() -> None:
    limited = TaskItems(task="arc_easy", num_fewshot=5, split="test", stop=7, limit=7)
    assert request(EvaluationSpec(tasks=(limited,), dtype="bfloat16")).identity != PINNED["tasks"]


@pytest.mark.parametrize("name", SPECS)
def test_requests_have_the_identities_that_they_had_in_earlier_releases(name: str) -> None:
    assert request(SPECS[name]).identity == PINNED[name]


def test_a_chat_template_counts_once_it_is_asked_for() -> None:
    (asked,) = SPECS["tasks"].tasks
    chats: list[dict[str, Any]] = [
        {},
        {"apply_chat_template": True},
        {"apply_chat_template": "rag"},
        {"apply_chat_template": True, "fewshot_as_multiturn": False},
    ]
    specs = [EvaluationSpec(tasks=(asked.model_copy(update=chat),), dtype="bfloat16") for chat in chats]
    assert len({request(spec).identity for spec in specs}) == len(chats)
    task = {"name": "plain_facts", "search": {"items": 40}, "report": {"items": 60}}
    plans = [small_plan({"tasks": [{**task, **chat}]}) for chat in chats]
    assert len({digest_json(plan.recipe) for plan in plans}) == len(chats)
    assert plans[0].recipe == small_plan().recipe


def test_networks_have_the_digests_that_they_had_in_earlier_releases() -> None:
    assert Architecture(layers=(0, 2), mlp_widths=(8, 16)).digest == PINNED["network"]
    assert Architecture(layers=(0, 2), mlp_widths=(8, 16), quantization="int8").digest == PINNED["int8"]


def test_a_super_network_and_a_search_have_the_recipes_that_they_had_in_earlier_releases() -> None:
    space = SpaceSettings(depths=(8, 7), mlp_widths=(48, 32))
    recipe = supernet_recipe("base", "data", space, TrainingSettings(), tokens_version=1)
    assert digest_json(recipe) == PINNED["supernet"]
    assert digest_json(small_plan(SERVED).recipe) == PINNED["search"]


def test_one_depth_rule_in_a_list_is_that_rule_and_several_count() -> None:
    space = {"depths": (8, 7), "mlp_widths": (48, 32)}

    def digest(depth_rule: Any) -> str:
        settings = SpaceSettings.model_validate({**space, "depth_rule": depth_rule})
        return digest_json(supernet_recipe("base", "data", settings, TrainingSettings(), tokens_version=1))

    assert digest("importance") == digest(["importance"]) == PINNED["supernet"]
    several = [digest(rules) for rules in (["importance", "first"], ["first", "importance"], ["divergence", "first"])]
    assert len({PINNED["supernet"], *several}) == 4
    plain = small_plan(SERVED)
    listed = small_plan({**SERVED, "space": {"quantization": ["none", "int8"], "depth_rule": ["first"]}})
    assert listed.about() == plain.about() and digest_json(listed.recipe) == PINNED["search"]


def test_a_search_s_recipe_holds_all_orders_in_which_layers_leave() -> None:
    plan = small_plan({"space": {"depth_rule": ["first", "importance"]}})
    orders = (plan.space.drop_orders[0], (3, 4))
    several = replace(plan, space=replace(plan.space, drop_order=orders))
    assert several.recipe == {**plan.recipe, "drop_order": [list(order) for order in orders]}
    assert plan.recipe["drop_order"] == [7, 6, 5, 4, 3, 2, 1]


def test_a_baseline_s_network_has_the_digest_that_it_had_in_earlier_releases() -> None:
    target = ByteTarget(at_most=1000, dtype="bfloat16")
    recipe = PruningRecipe(base="b", options=FlapOptions(), target=target, calibration="c", seed=None)
    assert recipe.digest == PINNED["pruned"]
    others = [
        {"base": "other"},
        {"options": FlapOptions(compensation=False)},
        {"target": ParameterTarget(at_most=1000)},
        {"target": target.model_copy(update={"quantization": "int8"})},
        {"calibration": "other"},
        {"seed": 0},
    ]
    digests = {recipe.digest, *(recipe.model_copy(update=changes).digest for changes in others)}
    assert len(digests) == len(others) + 1


def single(tuning: Tuning | None, base: str = "b", widths: tuple[int, ...] = (8, 16)) -> str:
    network = Architecture(layers=(0, 2), mlp_widths=widths)
    return SingleRecipe(base=base, architecture=network, tuning=tuning).digest


def test_a_network_that_is_fine_tuned_by_itself_has_the_digest_that_it_had_in_earlier_releases() -> None:
    full = Tuning(data="d", tokens_version=2, training=TrainingSettings(), method=FullMethod())
    lora = full.model_copy(update={"method": LoraMethod(rank=8, alpha=16)})
    assert single(None) == PINNED["cut"]
    assert single(full) == PINNED["fine-tuned"]
    assert single(lora) == PINNED["fine-tuned by LoRA"]


def test_of_a_network_that_is_fine_tuned_by_itself_counts_what_changes_it_and_nothing_else() -> None:
    training = TrainingSettings()
    tuning = Tuning(data="d", training=training, method=LoraMethod(rank=8, alpha=16))
    others: list[dict[str, Any]] = [
        {"data": "other"},
        {"tokens_version": 99},
        {"training": training.model_copy(update={"steps": 3})},
        {"training": training.model_copy(update={"learning_rate": 1e-4})},
        {"training": training.model_copy(update={"seed": 3})},
        {"method": FullMethod()},
        {"method": LoraMethod(rank=4, alpha=16)},
        {"method": LoraMethod(rank=8, alpha=8)},
    ]
    digests = {single(tuning.model_copy(update=changes)) for changes in others}
    digests |= {single(tuning), single(tuning, base="other"), single(tuning, widths=(8, 8))}
    assert len(digests) == len(others) + 3
    beside = {"data": "x", "checkpoint_every_seconds": 5.0, "neuron_order": "none", "calibration_tokens": 512}
    beside |= {"importance_on": "responses", "full_every": 3}
    assert single(tuning.model_copy(update={"training": training.model_copy(update=beside)})) == single(tuning)


def test_how_int8_is_computed_counts_only_where_it_is_asked_for() -> None:
    plain, costs = SPECS["tasks"], SPECS["costs"]
    network, int8 = (
        Architecture(layers=(0,), mlp_widths=(8,)),
        Architecture(layers=(0,), mlp_widths=(8,), quantization="int8"),
    )
    assert plain.computing(network, 7).int8_version == 1
    assert plain.computing(int8, 7).int8_version == 7
    assert costs.computing(network, 7).int8_version == 1
    timed = CostSpec(engine="torch", workload=Workload(), mlp_widths=(8,), quantizations=("none", "int8"))
    assert EvaluationSpec(dtype="float32", costs=timed).computing(network, 7).int8_version == 7
    one, other = (request(plain.computing(int8, version), "int8").identity for version in (1, 7))
    assert one != other and one == request(plain, "int8").identity


def test_where_things_lie_and_when_they_are_saved_doesnt_count() -> None:
    training = [
        TrainingSettings(data="here.jsonl", checkpoint_every_seconds=5),
        TrainingSettings(data="there.jsonl", checkpoint_every_seconds=500),
    ]
    space = SpaceSettings(depths=(8,), mlp_widths=(48,))
    quantized = SpaceSettings(depths=(8,), mlp_widths=(48,), quantization=("none", "int8"))
    assert supernet_recipe("b", "d", space, training[0]) == supernet_recipe("b", "d", quantized, training[1])
    renamed = small_plan({"name": "other", "model": str(Path("elsewhere"))}, evaluations=99)
    assert renamed.recipe == small_plan().recipe


@pytest.mark.parametrize(
    "changes",
    [
        {"base": "other"},
        {"data": "other"},
        {"space": SpaceSettings(depths=(7,), mlp_widths=(48,))},
        {"space": SpaceSettings(depths=(8,), mlp_widths=(48,), depth_rule="first")},
        {"space": SpaceSettings(depths=(8,), mlp_widths=(48,), depth_rule="divergence")},
        {"training": TrainingSettings(importance_on="responses")},
        {"training": TrainingSettings(full_every=3)},
        {"training": TrainingSettings(steps=3)},
        {"training": TrainingSettings(seed=3)},
        {"tokens_version": 99},
    ],
)
def test_what_changes_the_super_network_changes_its_recipe(changes: dict[str, Any]) -> None:
    usual: dict[str, Any] = {
        "base": "b",
        "data": "d",
        "space": SpaceSettings(depths=(8,), mlp_widths=(48,)),
        "training": TrainingSettings(),
        "tokens_version": 1,
    }
    assert supernet_recipe(*{**usual, **changes}.values()) != supernet_recipe(*usual.values())


def test_a_recipe_counts_a_later_field_only_where_it_differs_from_before() -> None:
    recipe = Recipe(("a",), later={"b": 1}, beside=("c",), parts={"a": Recipe(("x",))})
    assert recipe.of({"a": {"x": 1, "y": 2}}) == {"a": {"x": 1}}
    assert recipe.of({"a": [{"x": 1}, {"x": 2}], "b": 1, "c": 5}) == {"a": [{"x": 1}, {"x": 2}]}
    assert recipe.of({"a": None, "b": 2}) == {"a": None, "b": 2}


def test_the_first_difference_of_two_recipes_is_told_by_its_path() -> None:
    assert difference({"a": {"x": 1}}, {"a": {"x": 1}}) is None
    assert difference({"a": {"x": 1, "y": 2}}, {"a": {"x": 1, "y": 3}}) == "a.y was 2, now 3"
    assert difference({"a": 1}, {"a": 1, "b": 2}) == "b was not set, now 2"
    assert difference({"a": {"x": 1}, "b": 2}, {"a": {"x": 1}}) == "b was 2, now not set"
