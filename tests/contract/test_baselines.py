"""What every baseline keeps to: true sizes, the same answer every time, checkpoints like any other."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from services.pruner.baselines import BASELINES, make_baseline
from services.pruner.calibration import Calibration
from services.pruner.make_pruned import make_pruned, plan_pruning
from services.pruner.protocol import Baseline, PrunedNetwork
from services.pruner.recipe import PruningRecord
from services.pruner.sliced_shape import sliced_shape
from services.pruner.structures import with_counts
from services.pruner.target import ByteTarget, ParameterTarget, Target
from shared.checkpoint_files import FileDigests, content_digest
from shared.errors import UserError
from shared.manifest import read_config
from shared.network.shape import NetworkShape
from shared.network.sizes import parameters, weight_bytes
from shared.settings.baselines import BaselineName, BaselineOptions, parse_options
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.packing import pack
from shared.supernet.saving import copy_companions
from shared.supernet.tokenizer import load_tokenizer
from shared.supernet.tree import Tree
from tests.support.checkpoints import VOCABULARY, random_sequences, write_checkpoint
from tests.support.disk import nearly_full_disk
from tests.support.uneven import UNEVEN, write_uneven

NAMES: tuple[BaselineName, ...] = get_args(BaselineName)
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"baseline": name} for name in NAMES},
    "evopress": {"baseline": "evopress", "generations": 1, "offspring": 2},
    "magnitude-heads-global": {"baseline": "magnitude", "heads": True, "allocation": "global"},
    "wanda-neurons-global": {"baseline": "wanda", "heads": False, "allocation": "global"},
    "flap-uniform-plain": {"baseline": "flap", "allocation": "uniform", "compensation": False},
    "llm-pruner-vector-global": {"baseline": "llm-pruner", "importance": "vector", "allocation": "global"},
}
FAMILIES = ("llama-grouped-tied", "llama-biases", "qwen3-window", "gemma3")
BASES = (*FAMILIES, "llm-pruner", "slicegpt", "no-mlp")
TEXT = Calibration(tuple(map(tuple, random_sequences(9, 14, 5, 12, 40, 48, seed=7))))
SEQUENCES = random_sequences(3, 20, 9)

UNSLICEABLE = ("gemma3", "slicegpt")
"""Bases that SliceGPT can't be used on: norms after the blocks, and a basis that changes already."""


def on_bases(*names: str) -> pytest.MarkDecorator:
    """Every baseline on every base that it can be used on."""
    pairs = [(name, base) for name in OPTIONS for base in names if name != "slicegpt" or base not in UNSLICEABLE]
    return pytest.mark.parametrize(("name", "base_name"), pairs)


every_baseline = pytest.mark.parametrize("name", OPTIONS)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    places = {name: tmp_path_factory.mktemp("base") / name for name in BASES}
    for name, place in places.items():
        if name in UNEVEN:
            write_uneven(place, name)
        else:
            write_checkpoint(place, name)
    return {name: Checkpoint.open(place) for name, place in places.items()}


@torch.inference_mode()
def logits(network: Decoder) -> Tensor:
    return network.logits(network.hidden(pack([Tree.plain(tokens) for tokens in SEQUENCES])))


def options(name: str) -> BaselineOptions:
    return parse_options(OPTIONS[name], "baselines")


def baseline(name: str) -> Baseline:
    return make_baseline(options(name))


def smallest(name: str, base: Checkpoint) -> int:
    return parameters(baseline(name).smallest(base.network, ParameterTarget(at_most=1)))


def between(name: str, base: Checkpoint, share: float = 0.5) -> ParameterTarget:
    """A target between the smallest network that a baseline can make and the base."""
    least, most = smallest(name, base), parameters(base.network)
    return ParameterTarget(at_most=least + int(share * (most - least)))


def prune(name: str, base: Checkpoint, target: Target, seed: int = 0) -> PrunedNetwork:
    return baseline(name).prune(base, TEXT, target, seed)


def largest_step(name: str, network: NetworkShape, target: Target) -> int:
    """The most that is removed at a time."""
    if OPTIONS[name]["baseline"] in ("shortgpt", "greedy", "evopress"):
        return max(target.layer_size(network.family, layer) for layer in network.layers if layer.keeps_state)
    if name == "slicegpt":
        sizes = [target.size(sliced_shape(network, hidden)) for hidden in range(8, network.hidden + 1, 8)]
        return max(more - less for less, more in pairwise(sizes))
    steps = []
    for layer in network.layers:
        groups = 0 if layer.attention is None else layer.attention.kv_heads
        fewer = []
        if layer.mlp_width > 1:
            fewer.append(with_counts(layer, layer.mlp_width - 1, groups))
        if groups > 1 and OPTIONS[name].get("heads", OPTIONS[name]["baseline"] not in ("random", "magnitude")):
            fewer.append(with_counts(layer, layer.mlp_width, groups - 1))
        steps += [target.layer_size(network.family, layer) - target.layer_size(network.family, one) for one in fewer]
    return max(steps)


def test_every_baseline_is_held_to_this_contract() -> None:
    assert set(BASELINES) == set(NAMES) == {one["baseline"] for one in OPTIONS.values()}
    assert {baseline(name).name for name in NAMES} == set(NAMES)


@on_bases(*BASES)
def test_a_network_is_as_large_as_the_target_allows(name: str, base_name: str, bases: dict[str, Checkpoint]) -> None:
    base = bases[base_name]
    target = between(name, base)
    made = prune(name, base, target)
    assert 0 <= target.at_most - parameters(made.network.shape) < max(largest_step(name, base.network, target), 1)
    assert len(made.kept) == made.network.shape.depth


@every_baseline
def test_bytes_are_true_sizes_too(name: str, bases: dict[str, Checkpoint]) -> None:
    base = bases["llama-grouped-tied"]
    for probe in (ByteTarget(at_most=1, dtype="float32"), ByteTarget(at_most=1, dtype="bfloat16", quantization="int8")):
        least = probe.size(baseline(name).smallest(base.network, probe))
        target = probe.model_copy(update={"at_most": (least + probe.size(base.network)) // 2})
        size = weight_bytes(prune(name, base, target).network.shape, probe.dtype, probe.quantization)
        assert 0 <= target.at_most - size < largest_step(name, base.network, target)


@on_bases(*BASES)
def test_the_smallest_network_can_be_made_and_nothing_smaller_is_promised(
    name: str, base_name: str, bases: dict[str, Checkpoint]
) -> None:
    base, least = bases[base_name], smallest(name, bases[base_name])
    made = prune(name, base, ParameterTarget(at_most=least))
    assert parameters(made.network.shape) <= least
    assert torch.isfinite(logits(made.network)).all()


@on_bases(*BASES)
def test_at_the_base_s_own_size_nothing_changes(name: str, base_name: str, bases: dict[str, Checkpoint]) -> None:
    base = bases[base_name]
    made = prune(name, base, ParameterTarget(at_most=parameters(base.network)))
    assert made.network.shape == base.network and made.kept == tuple(range(base.network.depth))
    assert torch.equal(logits(made.network), logits(base.cut()))


@every_baseline
def test_the_same_comes_out_every_time(name: str, bases: dict[str, Checkpoint]) -> None:
    base = bases["llama-grouped-tied"]
    target = between(name, base, 0.4)
    first = prune(name, base, target, seed=3)
    torch.manual_seed(99)
    second = prune(name, base, target, seed=3)
    assert first.kept == second.kept and torch.equal(logits(first.network), logits(second.network))


@every_baseline
def test_a_seed_counts_only_where_something_is_drawn(name: str, bases: dict[str, Checkpoint]) -> None:
    base = bases["llama-grouped-tied"]
    target = between(name, base, 0.4)
    made = [prune(name, base, target, seed) for seed in range(5)]
    same = all(one.kept == made[0].kept and torch.equal(logits(one.network), logits(made[0].network)) for one in made)
    assert same != baseline(name).draws


@on_bases("llama-biases", "gemma3", "slicegpt")
def test_what_is_written_is_the_same_network_when_it_is_opened_again(
    name: str, base_name: str, bases: dict[str, Checkpoint], tmp_path: Path
) -> None:
    base = bases[base_name]
    target = between(name, base, 0.6)
    plan = plan_pruning(base.directory, "digest", options(name), target, TEXT, seed=1)
    record = make_pruned(plan, tmp_path / "made", FileDigests(tmp_path / "cache"))
    made, opened = prune(name, base, target, seed=1), Checkpoint.open(tmp_path / "made")
    assert opened.network == made.network.shape and record.kept == made.kept
    assert torch.equal(logits(opened.cut()), logits(made.network))
    assert load_tokenizer(tmp_path / "made").get_vocab() == load_tokenizer(base.directory).get_vocab()
    weights = sum(tensor.nbytes for tensor in opened.weights.values())
    assert record.parameters == parameters(opened.network) <= target.at_most and record.bytes == weights
    assert record == PruningRecord.read(tmp_path / "made")
    assert record.files == FileDigests(tmp_path / "other").content(tmp_path / "made")
    assert content_digest(record.files) and record.plan == plan.recipe.digest


@every_baseline
def test_nothing_is_left_behind_when_writing_fails(name: str, bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    base = bases["llama-grouped-tied"]
    plan = plan_pruning(base.directory, "digest", options(name), between(name, base), TEXT)
    with nearly_full_disk(room=1000), pytest.raises(UserError, match=r"made: can't be written .*; free some space"):
        make_pruned(plan, tmp_path / "made", FileDigests(tmp_path / "cache"))
    assert list(tmp_path.iterdir()) == []


@every_baseline
def test_a_target_that_is_out_of_reach_is_refused_before_anything_is_computed(
    name: str, bases: dict[str, Checkpoint]
) -> None:
    base = bases["llama-grouped-tied"]
    unreachable = ParameterTarget(at_most=smallest(name, base) - 1)
    without_weights = replace(base, weights={})
    with pytest.raises(UserError, match=rf"^{OPTIONS[name]['baseline']}: can't reach [\d,]+ parameters: .*; raise"):
        prune(name, without_weights, unreachable)
    with pytest.raises(UserError, match="can't reach"):
        plan_pruning(base.directory, "digest", options(name), unreachable, TEXT)


@every_baseline
def test_text_is_refused_that_is_missing_or_not_the_model_s_where_it_is_read(
    name: str, bases: dict[str, Checkpoint]
) -> None:
    base = bases["llama-grouped-tied"]
    target, one = between(name, base), baseline(name)
    foreign = Calibration(((1, 2), (3, VOCABULARY)))
    if one.reads_text:
        with pytest.raises(UserError, match=rf"^{one.name}: needs calibration text"):
            one.prune(replace(base, weights={}), None, target, 0)
        with pytest.raises(UserError, match=r"calibration: token 800 is unknown to the model, which has 800"):
            one.prune(replace(base, weights={}), foreign, target, 0)
    else:
        made = [one.prune(base, text, target, 0).network for text in (None, foreign)]
        assert torch.equal(logits(made[0]), logits(made[1]))


def test_text_with_fewer_tokens_than_directions_are_kept_is_refused_by_the_plan(bases: dict[str, Checkpoint]) -> None:
    base = bases["llama-grouped-tied"]
    target = between("slicegpt", base)
    hidden = prune("slicegpt", base, target).network.shape.layers[0].hidden
    enough, short = (Calibration(((1,) * number,)) for number in (hidden, hidden - 1))
    plan_pruning(base.directory, "digest", options("slicegpt"), target, enough)
    with pytest.raises(
        UserError, match=rf"^slicegpt: needs at least {hidden} tokens .* {hidden - 1}; raise calibration"
    ):
        plan_pruning(base.directory, "digest", options("slicegpt"), target, short)


@every_baseline
def test_what_lies_there_is_not_overwritten(name: str, bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    base = bases["llama-grouped-tied"]
    plan = plan_pruning(base.directory, "digest", options(name), between(name, base), TEXT)
    with pytest.raises(UserError, match=r"exists already; name another directory"):
        make_pruned(replace(plan, base=replace(base, weights={})), tmp_path, FileDigests(tmp_path / "cache"))
    assert list(tmp_path.iterdir()) == []


def test_a_family_that_is_unknown_is_refused_in_one_line(bases: dict[str, Checkpoint], tmp_path: Path) -> None:
    copy_companions(bases["llama-biases"].directory, tmp_path)
    config = read_config(tmp_path) | {"model_type": "gpt2"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match=r"model_type 'gpt2' is not supported; use a model of one of the families"):
        plan_pruning(tmp_path, "digest", options("magnitude"), ParameterTarget(at_most=1), TEXT)


@pytest.mark.parametrize("base_name", UNSLICEABLE)
def test_what_can_t_be_sliced_is_refused_before_anything_is_computed(
    base_name: str, bases: dict[str, Checkpoint]
) -> None:
    base = bases[base_name]
    with pytest.raises(UserError, match=r"^slicegpt: (networks of the family gemma3_text can't|layer \d is sliced al)"):
        plan_pruning(base.directory, "digest", options("slicegpt"), ParameterTarget(at_most=10**9), TEXT)
