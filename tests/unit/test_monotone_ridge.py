"""The predictor that no wider network looks worse to, and its features."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.coordinator.genomes import Encoding, FloatArray, IntArray
from services.coordinator.monotone_ridge import MonotoneRidge
from services.coordinator.step_features import StepFeatures
from services.coordinator.strategies.stratified_sampling import random_genomes
from shared.architecture import Architecture
from shared.network.config import network_of
from shared.space import WHICH_LAYERS, SearchSpace
from tests.support.pretending import SHAPE
from tests.support.spaces import EXAMPLE, spaces

SPACE = SearchSpace(network_of(EXAMPLE), (30, 29, 28), (1536, 1152, 768), tuple(range(20, 26)))
ENCODING = Encoding(SPACE)
WIDTHS = list(SPACE.places("mlp_width"))


def _random(encoding: Encoding, count: int, seed: int) -> IntArray:
    return random_genomes(encoding, count, np.random.default_rng(seed))


def _additive(genomes: IntArray) -> FloatArray:
    """What each layer costs, of very different layers, and each dropped one."""
    losses = np.random.default_rng(7).lognormal(0, 1.2, len(WIDTHS)) / 100
    narrowed = np.array([0, 0.35, 1])[genomes[:, WIDTHS]]
    result: FloatArray = 0.8 - narrowed @ losses - 0.02 * genomes[:, 0]
    return result


def _fitted(count: int, noise: float = 0.0) -> MonotoneRidge:
    genomes = _random(ENCODING, count, 1)
    errors = noise * np.random.default_rng(2).standard_normal(count)
    return MonotoneRidge(ENCODING, genomes, _additive(genomes) + errors)


@given(spaces(), st.integers(0, 99), st.data())
@settings(max_examples=20, deadline=None)
def test_features_are_0_for_the_largest_network_and_no_sum_of_them_falls_when_a_gene_rises(
    space: SearchSpace, seed: int, data: st.DataObject
) -> None:
    encoding = Encoding(space)
    features = StepFeatures(encoding)
    of_largest = features.of(encoding.encode([space.largest()]))[0]
    lacks_nothing = len(space.drop_orders) == 1 or space.depths[0] == space.network.depth
    assert not of_largest[0 if lacks_nothing else len(features.leaving) :].any()
    genomes = _random(encoding, 10, seed)
    values = features.of(genomes)
    assert values.shape == (10, features.count) and values.min(initial=0) >= 0 and values.max(initial=0) <= 1
    risen = genomes.copy()
    place = data.draw(
        st.sampled_from([place for place, gene in enumerate(space.genes) if gene.kind not in WHICH_LAYERS])
    )
    risen[:, place] = np.minimum(risen[:, place] + 1, encoding.choices[place] - 1)
    assert (features.of(encoding.canonical(risen)) >= values - 1e-12).all()


def test_a_dropped_layer_counts_as_many_parameters_as_it_has() -> None:
    features = StepFeatures(ENCODING)
    narrowing = SPACE.parameters(SPACE.largest()) - SPACE.parameters(SPACE.smallest(30))
    dropping = SPACE.parameters(SPACE.largest(30)) - SPACE.parameters(SPACE.largest(29))
    assert features.weights[2:].tolist() == [1.0] * 60
    assert features.weights[:2] == pytest.approx([60 * dropping / narrowing] * 2)


def test_what_a_layer_is_worth_is_learnt_of_all_orders_together() -> None:
    orders = ((20, 21), (21, 24), (20, 24))
    space = replace(SPACE, drop_order=orders)
    encoding = Encoding(space)
    features = StepFeatures(encoding)
    assert sorted(features.leaving.tolist()) == [20, 21, 24] and not features.of_layers[:3].any()
    assert len(set(features.weights[:3])) == 1
    genomes = _random(encoding, 200, 1)
    lacking = ~encoding.kept(genomes)
    assert (features.of(genomes)[:, :3] == lacking[:, features.leaving]).all()

    losses = np.random.default_rng(7).lognormal(0, 1.2, space.network.depth) / 20

    def accuracies(genomes: IntArray) -> FloatArray:
        result: FloatArray = 0.8 - ~encoding.kept(genomes) @ losses
        return result

    by_second = genomes[:, space.place("drop_order")] == 1
    known, unseen = genomes[~by_second], genomes[by_second]  # which lack the layers that others lack, but not together
    assert len(unseen) > 20
    assert MonotoneRidge(encoding, known, accuracies(known)).predict(unseen) == pytest.approx(
        accuracies(unseen), abs=2e-3
    )


def test_layers_that_only_leave_together_are_one_step() -> None:
    space = replace(SPACE, depths=(30, 27), drop_order=((20, 21, 22), (21, 22, 23)))
    apart = StepFeatures(Encoding(space))
    assert apart.leaving.tolist() == [21, 20, 23]
    assert apart.weights[0] == pytest.approx(2 * apart.weights[1]) and apart.weights[1] == apart.weights[2]
    together = StepFeatures(Encoding(replace(space, drop_order=((20, 21, 22), (22, 20, 21)))))
    one = StepFeatures(Encoding(replace(space, drop_order=(20, 21, 22))))
    assert together.leaving.tolist() == one.leaving.tolist() == [20]
    assert (together.weights == one.weights).all()


def test_a_skipped_attention_counts_as_many_parameters_as_it_has() -> None:
    space = replace(SPACE, attentions=("keep", "skip"))
    features, whole = StepFeatures(Encoding(space)), space.parameters(space.largest())
    skipped = Architecture(**{**space.largest().model_dump(), "without_attention": (4,)})
    narrow = Architecture(**{**space.largest().model_dump(), "mlp_widths": (768, *[1536] * 29)})
    weights = dict(zip([space.genes[place].kind for place in features.places], features.weights, strict=True))
    attention, step = whole - space.parameters(skipped), (whole - space.parameters(narrow)) / 2
    assert weights["attention"] / weights["mlp_width"] == pytest.approx(attention / step)
    assert features.weights[features.of_layers].mean() == pytest.approx(1)
    assert len(features.weights) == 2 + 60 + 30 and len(features.pairs) == 2 * 29


def test_what_attentions_are_worth_is_learnt() -> None:
    space = replace(SPACE, depths=(30,), attentions=("keep", "skip"))
    encoding, places = Encoding(space), list(space.places("attention"))
    losses = np.random.default_rng(3).lognormal(0, 1.2, len(places)) / 100

    def accuracies(genomes: IntArray) -> FloatArray:
        result: FloatArray = 0.8 - genomes[:, places] @ losses
        return result

    known, others = _random(encoding, 120, 1), _random(encoding, 60, 2)
    model = MonotoneRidge(encoding, known, accuracies(known))
    assert np.corrcoef(model.predict(others), accuracies(others))[0, 1] > 0.97


@given(spaces(), st.lists(st.floats(0, 1), min_size=4, max_size=12), st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_a_network_that_is_wider_somewhere_is_never_predicted_worse(
    space: SearchSpace, accuracies: list[float], seed: int
) -> None:
    encoding = Encoding(space)
    genomes = _random(encoding, len(accuracies), seed)
    predictor = MonotoneRidge(encoding, genomes, np.array(accuracies))
    narrow = _random(encoding, 20, seed + 1)
    wide = narrow * np.random.default_rng(seed).integers(2, size=narrow.shape)
    of_layers = [*space.places("depth"), *space.places("drop_order")]
    wide[:, of_layers] = narrow[:, of_layers]
    assert (predictor.predict(wide) >= predictor.predict(narrow)).all()
    draws = predictor.draw(3, np.random.default_rng(seed))
    assert (draws.predict(wide) >= draws.predict(narrow) - 1e-9).all()


def test_no_network_is_predicted_better_than_the_largest() -> None:
    predictor = _fitted(30, noise=0.05)
    assert predictor.predict(_random(ENCODING, 200, 3)).max() <= predictor.predict(np.zeros((1, ENCODING.genes), int))


def test_an_additive_accuracy_is_recovered_from_fewer_networks_than_it_has_weights() -> None:
    unseen = _random(ENCODING, 200, 3)
    true = _additive(unseen)
    errors = {count: np.abs(_fitted(count).predict(unseen) - true).mean() / true.std() for count in (40, 100)}
    assert errors[40] < 0.15
    assert errors[100] < 0.04


def test_draws_differ_less_the_more_was_measured_and_as_much_as_the_prediction_errs() -> None:
    unseen = _random(ENCODING, 100, 3)
    spreads = {}
    for count in (15, 60):
        predictor = _fitted(count, noise=0.01)
        drawn = predictor.draw(30, np.random.default_rng(0)).predict(unseen)
        assert drawn.shape == (30, 100)
        spreads[count] = drawn.std(axis=0)
        within = np.abs(_additive(unseen) - drawn.mean(axis=0)) < 2 * spreads[count]
        assert within.mean() > 0.7
    assert spreads[60].mean() < 0.7 * spreads[15].mean()


def test_fits_and_draws_are_the_same_whenever_they_are_repeated() -> None:
    unseen = _random(ENCODING, 50, 3)
    one, other = _fitted(30, noise=0.01), _fitted(30, noise=0.01)
    assert (one.predict(unseen) == other.predict(unseen)).all()
    drawn = [each.draw(2, np.random.default_rng(5)).losses for each in (one, other)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0][0] != drawn[0][1]).any()


@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("factor", [1.0, 1000.0])
def test_the_unit_of_accuracies_changes_nothing(shift: float, factor: float) -> None:
    genomes, unseen = _random(ENCODING, 20, 1), _random(ENCODING, 20, 3)
    accuracies = _additive(genomes)
    there = MonotoneRidge(ENCODING, genomes, accuracies * factor + shift).predict(unseen)
    here = MonotoneRidge(ENCODING, genomes, accuracies).predict(unseen)
    assert there == pytest.approx(here * factor + shift, abs=1e-5 * factor)


def test_equal_accuracies_are_predicted_everywhere() -> None:
    genomes = _random(ENCODING, 20, 1)
    predicted = MonotoneRidge(ENCODING, genomes, np.full(20, 0.25)).predict(_random(ENCODING, 20, 3))
    assert predicted == pytest.approx(0.25, abs=1e-6)


@given(spaces(), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=10, deadline=None)
def test_two_networks_are_enough(space: SearchSpace, one: float, other: float) -> None:
    assume(space.networks >= 2)
    encoding = Encoding(space)
    genomes = encoding.encode([space.largest(), space.smallest()])
    predicted = MonotoneRidge(encoding, genomes, np.array([one, other])).predict(genomes)
    assert predicted[0] >= predicted[1]
    assert np.isfinite(predicted).all()


def test_where_only_the_order_in_which_layers_leave_is_chosen_each_layer_weighs_as_much_as_another() -> None:
    space = SearchSpace(SHAPE, (6,), (48,), ((7, 6), (2, 6)))
    encoding = Encoding(space)
    assert StepFeatures(encoding).weights.tolist() == [1, 1]
    genomes = encoding.encode([space.largest(6, order) for order in (0, 1)])
    predicted = MonotoneRidge(encoding, genomes, np.array([0.3, 0.5])).predict(genomes)
    assert predicted[0] < predicted[1]


def test_one_network_is_too_few() -> None:
    with pytest.raises(ValueError, match="two networks or more, not 1"):
        MonotoneRidge(ENCODING, _random(ENCODING, 1, 0), np.array([0.5]))
