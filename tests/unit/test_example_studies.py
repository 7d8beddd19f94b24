"""The study files that ship with the project."""

from pathlib import Path

import pytest

from services.application.example import SEARCHES
from services.evaluator.tasks.loading import count_items, load_items
from services.pruner.baselines import make_baseline
from services.pruner.target import ParameterTarget, fits
from shared.manifest import search_space
from shared.network.shape import NetworkShape
from shared.network.sizes import parameters
from shared.settings import ItemsPart, StudySettings, read_search_file, read_study_file
from shared.supernet.order import drop_order
from tests.support.data import benchmark_data
from tests.support.networks import uniform_network
from tests.support.spaces import LLAMA2_7B

STUDIES = Path(__file__).parents[2] / "deploy" / "studies"
SMOLLM2 = uniform_network(layers=30, mlp_width=1536, hidden=576, heads=9, kv_heads=3, vocab_size=49152)
"""SmolLM2-135M's shape."""

every_study = pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)


def shape(study: StudySettings) -> NetworkShape:
    return LLAMA2_7B if "Llama-2-7b" in study.model else SMOLLM2


def test_three_studies_ship() -> None:
    assert {path.stem for path in STUDIES.glob("*")} == {"smollm2", "smollm2-small", "llama2-7b"}


@every_study
def test_a_shipped_study_can_be_made_as_small_as_it_compares(path: Path) -> None:
    study = read_study_file(path)
    for supernet in study.supernets:
        network = shape(study)
        space = search_space(network, supernet.space, drop_order(network.depth, None))
        whole = space.parameters(space.largest())
        assert all(space.parameters(space.smallest()) * size < whole for size in study.sizes)
        assert space.largest().depth == network.depth


@every_study
def test_every_baseline_of_a_shipped_study_can_reach_its_sizes(path: Path) -> None:
    study = read_study_file(path)
    base = shape(study)
    for size in study.sizes:
        target = ParameterTarget(at_most=int(parameters(base) / size))
        for options in study.baselines:
            assert fits(make_baseline(options).smallest(base, target), target), options.baseline


@every_study
def test_a_shipped_study_tunes_at_least_those_that_the_paper_compares_with_and_times_mmlu(path: Path) -> None:
    study = read_study_file(path)
    mmlu = "mmlu" if study.model.startswith("meta-llama") else "mmlu_social_sciences"
    assert study.searched == ("arc_challenge", "arc_easy", mmlu, "truthfulqa_mc1", "winogrande", "together")
    assert study.timed == mmlu and study.remeasure_int8
    assert set(study.fully_tuned) >= {"llm-pruner", "slicegpt"} and study.fine_tuning.alone


@every_study
def test_a_shipped_study_s_tasks_have_the_items_that_it_asks_for(path: Path) -> None:
    data = benchmark_data()
    parts: tuple[ItemsPart, ...] = ("search", "report")
    for task in read_study_file(path).tasks:
        search, report = (task.part(part) for part in parts)
        for asked in (search, report):
            assert asked.stop <= count_items(asked.task, asked.split, data)
        assert search.split != report.split or search.stop <= report.start


def test_a_share_of_mmlu_s_items_is_of_all_the_subjects() -> None:
    (mmlu,) = (task for task in read_study_file(STUDIES / "smollm2.yaml").tasks if task.name.startswith("mmlu"))
    loaded = load_items(mmlu.part("search"), benchmark_data())
    assert len(loaded.documents) == mmlu.search.items and len(set(loaded.clusters)) == 12


def test_the_two_super_networks_of_the_example_are_made_and_searched_by_the_paper_s_rules_and_by_ours() -> None:
    for name in ("smollm2", "smollm2-small"):
        study = read_study_file(STUDIES / f"{name}.yaml")
        paper, ours = study.supernets
        assert (paper.space.depth_rule, paper.training.neuron_order) == ("first", "none")
        assert (paper.training.sampling, paper.training.distillation, paper.training.refit) == (
            "uniform",
            "none",
            False,
        )
        assert paper.search is None and study.search.strategy == "linas"
        assert ours.space == paper.space.model_copy(update={"depth_rule": "importance"})
        recipe = read_search_file(SEARCHES / "smollm2-arc-easy.yaml").training
        data, as_much = ("data", "checkpoint_every_seconds"), ("steps", "tokens_per_step")
        levers = recipe.model_dump(exclude={*data, *as_much, "warmup_steps", "calibration_tokens"})
        assert ours.training.model_dump(include=set(levers)) == levers, "what the example search takes"
        assert all(getattr(ours.training, key) == getattr(paper.training, key) for key in as_much)
        assert ours.search == study.search.model_copy(update={"strategy": "bayesian"}), "as many networks"


def test_the_small_study_makes_every_table_of_the_full_one() -> None:
    full, small = (read_study_file(STUDIES / f"{name}.yaml") for name in ("smollm2", "smollm2-small"))
    assert small.searched == full.searched and small.sizes == full.sizes
    assert [options.baseline for options in small.baselines] == [options.baseline for options in full.baselines]
    assert small.fine_tuning == full.fine_tuning
    assert [supernet.space for supernet in small.supernets] == [supernet.space for supernet in full.supernets]


def test_the_paper_s_own_network_is_as_large_as_the_paper_says() -> None:
    """32 layers, of 1 to 32 half the neurons in 3, 4, 18, 25, 26, 28, 29 and 32: 6.197 billion parameters."""
    study = read_study_file(STUDIES / "llama2-7b.yaml")
    (heuristic,) = study.heuristics
    assert [layer + 1 for layer in heuristic.layers] == [3, 4, 18, 25, 26, 28, 29, 32] and heuristic.depth == 32
    space = search_space(LLAMA2_7B, study.supernets[0].space, drop_order(32, None))
    assert space.networks == 2**24 + 2**28 + 2**32
    narrow = 3 * 4096 * (11008 - 5504) * len(heuristic.layers)
    assert round((space.parameters(space.largest()) - narrow) / 1e9, 3) == 6.197
    assert study.search.evaluations == 250
