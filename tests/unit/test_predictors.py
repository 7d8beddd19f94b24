"""Genomes in batches, and the predictors that learn from them."""

import time
from dataclasses import replace

import numpy as np
import pytest

from services.coordinator import predictors
from services.coordinator.cost_model import CostModel
from services.coordinator.genomes import Encoding, FloatArray, IntArray, rows
from services.coordinator.predictors import Predictor
from services.coordinator.strategies.stratified_sampling import random_genomes, stratified_sample
from shared.architecture import Quantization
from shared.network.config import network_of
from shared.space import SearchSpace

SHAPE = network_of(
    {
        "model_type": "llama",
        "vocab_size": 1000,
        "hidden_size": 64,
        "num_hidden_layers": 30,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 192,
        "attention_bias": True,
        "mlp_bias": True,
    }
)
SPACE = SearchSpace(SHAPE, depths=(30, 26, 22), mlp_widths=(192, 100, 37), drop_order=(28, 3, 17, 5, 9, 21, 11, 1, 0))
SMALL = SearchSpace(replace(SHAPE, layers=SHAPE.layers[:4]), depths=(4, 2), mlp_widths=(192, 64), drop_order=(2, 1))
ENCODING = Encoding(SPACE)


def _networks(count: int, seed: int = 0) -> IntArray:
    return stratified_sample(
        ENCODING, CostModel(SPACE, ("parameters",), "float32"), count, set(), np.random.default_rng(seed)
    )


def _additive(genomes: IntArray) -> FloatArray:
    features = ENCODING.features(np.where(np.arange(ENCODING.genes) == ENCODING.genes - 1, 0, genomes))[:, :-1]
    accuracies: FloatArray = 0.5 + features @ np.random.default_rng(7).normal(0, 0.01, features.shape[1])
    return accuracies


def _curved(genomes: IntArray) -> FloatArray:
    """Accuracy falls off a cliff as more of the network goes: not additive."""
    narrow = ENCODING.features(genomes)[:, 5:-1:3].sum(axis=1)
    accuracies: FloatArray = 0.3 + 0.4 / (1 + np.exp(narrow - 10))
    return accuracies


def test_canonical_genomes_are_those_of_the_space() -> None:
    raw = np.random.default_rng(0).integers(ENCODING.choices, size=(200, ENCODING.genes))
    assert rows(ENCODING.canonical(raw)) == [SPACE.genome(SPACE.architecture(one)) for one in rows(raw)]
    assert (ENCODING.encode(ENCODING.decode(raw)) == ENCODING.canonical(raw)).all()


@pytest.mark.parametrize("quantizations", [("none",), ("none", "int8")])
def test_every_network_of_a_small_space_is_listed_once(quantizations: tuple[Quantization, ...]) -> None:
    space = replace(SMALL, quantizations=quantizations)
    genomes = rows(Encoding(space).all_genomes())
    assert len(genomes) == len(set(genomes)) == space.networks
    assert genomes == [space.genome(space.architecture(one)) for one in genomes]


def test_features_of_a_layer_that_is_absent_are_all_zero() -> None:
    encoding = Encoding(SMALL)
    deep, shallow = encoding.features(encoding.encode([SMALL.largest(), SMALL.smallest(2)]))
    assert deep.tolist() == [1, 0] + [1, 0] * 4 + [1]
    assert shallow.tolist() == [0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1]


def test_features_tell_quantised_networks_from_others() -> None:
    encoding = Encoding(replace(SMALL, quantizations=("none", "int8")))
    largest = encoding.space.largest()
    plain, quantised = encoding.features(encoding.encode([largest, largest.quantized("int8")]))
    assert (plain != quantised).tolist() == [False] * 10 + [True] * 2


def test_a_predictor_learns_what_a_quantization_costs() -> None:
    encoding = Encoding(replace(SPACE, quantizations=("none", "int8")))
    known, unseen = (
        random_genomes(encoding, 200, np.random.default_rng(0)),
        random_genomes(encoding, 200, np.random.default_rng(1)),
    )
    predictor = Predictor(encoding, known, _additive(known) - 0.05 * known[:, -1])
    assert predictor.predict(unseen) == pytest.approx(_additive(unseen) - 0.05 * unseen[:, -1], abs=4e-3)


def test_ridge_wins_on_an_additive_accuracy_and_predicts_networks_it_never_saw() -> None:
    known, unseen = _networks(250), random_genomes(ENCODING, 500, np.random.default_rng(1))
    predictor = Predictor(ENCODING, known, _additive(known))
    assert predictor.name == "ridge"
    assert predictor.predict(unseen) == pytest.approx(_additive(unseen), abs=2e-3)


def test_support_vectors_win_on_an_accuracy_that_is_not_additive() -> None:
    known, unseen = _networks(250), random_genomes(ENCODING, 500, np.random.default_rng(1))
    predictor = Predictor(ENCODING, known, _curved(known))
    assert predictor.name == "svr"
    assert np.corrcoef(predictor.predict(unseen), _curved(unseen))[0, 1] > 0.9


def test_of_many_networks_support_vectors_learn_from_some_and_ridge_from_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictors, "MAX_SAMPLES", 100)
    known, unseen = _networks(300), random_genomes(ENCODING, 500, np.random.default_rng(1))
    curved = Predictor(ENCODING, known, _curved(known))
    assert curved.name == "svr"
    assert curved._model.shape_fit_[0] == 100  # networks that it was fitted to
    assert np.corrcoef(curved.predict(unseen), _curved(unseen))[0, 1] > 0.85
    ridge = Predictor(ENCODING, known, _additive(known))
    assert ridge.name == "ridge"
    assert ridge.predict(unseen) == pytest.approx(_additive(unseen), abs=2e-3)


@pytest.mark.parametrize("samples", [2, 3, 4, 5, 6, 9, 10, 11])
def test_a_handful_of_networks_is_enough_to_predict(samples: int) -> None:
    known = _networks(samples)
    predictor = Predictor(ENCODING, known, _additive(known))
    assert np.isfinite(predictor.predict(_networks(50, seed=3))).all()


def test_one_network_is_refused() -> None:
    with pytest.raises(ValueError, match="two networks"):
        Predictor(ENCODING, _networks(1), np.array([0.5]))


def test_equal_accuracies_predict_that_accuracy() -> None:
    known = _networks(30)
    predicted = Predictor(ENCODING, known, np.full(30, 0.25)).predict(_networks(50, seed=3))
    assert predicted == pytest.approx(np.full(50, 0.25), abs=0.05)


def test_no_networks_have_no_predictions() -> None:
    known = _networks(10)
    assert Predictor(ENCODING, known, _additive(known)).predict(known[:0]).shape == (0,)


def test_the_same_measurements_make_bitwise_the_same_predictor() -> None:
    known, unseen = _networks(60), _networks(500, seed=3)
    one, other = (Predictor(ENCODING, known, _curved(known)) for _ in range(2))
    assert one.name == other.name
    assert one.predict(unseen).tobytes() == other.predict(unseen).tobytes()


def test_a_fit_takes_about_a_second_at_most_and_20_000_predictions_less() -> None:
    known, many = _networks(250), random_genomes(ENCODING, 20_000, np.random.default_rng(1))
    start = time.process_time()
    predictor = Predictor(ENCODING, known, _curved(known))
    fitted = time.process_time()
    predictor.predict(many)
    predicted = time.process_time()
    # Both far above what they take (0.3 s and 0.2 s), for slow machines.
    assert fitted - start < 2
    assert predicted - fitted < 1
