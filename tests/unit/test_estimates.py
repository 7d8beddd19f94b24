"""How accurate measured networks probably are."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from services.coordinator.estimates import Estimates, accuracies_by_sureness
from services.coordinator.evaluated import Evaluated
from services.coordinator.genomes import Encoding, FloatArray
from services.coordinator.strategies.stratified_sampling import random_genomes
from tests.support.synthetic import SyntheticAccuracy


def measured(seed: int, networks: int, items: int) -> tuple[SyntheticAccuracy, list[Evaluated], FloatArray]:
    """Random networks as they are measured, and their true accuracies."""
    synthetic = SyntheticAccuracy("B", "S1", seed, items)
    encoding = Encoding(synthetic.space)
    genomes = random_genomes(encoding, networks, np.random.default_rng(seed))
    margins, costs = synthetic.margins(genomes), synthetic.costs.of_genomes(genomes)
    columns = zip(encoding.decode(genomes), costs.tolist(), margins, strict=True)
    evaluated = [
        Evaluated(network, tuple(cost), float((own > 0).mean()), tuple(expit(own).tolist()))
        for network, cost, own in columns
    ]
    return synthetic, evaluated, synthetic.exact(genomes)


def error(found: list[Evaluated] | FloatArray, exact: FloatArray) -> float:
    """Standard deviation of accuracies about the true ones, but for what they have in common."""
    values = [one.accuracy if isinstance(one, Evaluated) else one for one in found]
    return float(np.std(np.array(values, np.float64) - exact))


def test_sureness_says_more_than_right_answers_and_all_networks_more_than_one() -> None:
    for seed in range(3):
        synthetic, evaluated, exact = measured(seed, 150, 100)
        by_sureness = error(accuracies_by_sureness(evaluated), exact)
        probable = error(Estimates(synthetic.space, evaluated).probable, exact)
        assert probable < by_sureness < 0.95 * error(evaluated, exact)


def test_the_more_items_the_more_a_networks_own_measurement_counts() -> None:
    deviations = []
    for items in (50, 3000):
        synthetic, evaluated, _ = measured(1, 60, items)
        own = accuracies_by_sureness(evaluated)
        found = np.array([one.accuracy for one in Estimates(synthetic.space, evaluated).probable], np.float64)
        deviations.append(float(np.abs(found - own).mean() / own.std()))
    assert deviations[1] < deviations[0] / 2


def test_networks_that_failed_stay_and_few_networks_stay_as_they_were_measured() -> None:
    synthetic, evaluated, _ = measured(0, 12, 100)
    failed = replace(evaluated[0], accuracy=None, sureness=())
    found = Estimates(synthetic.space, [failed, *evaluated[1:]]).probable
    assert found[0] == failed and [one.architecture for one in found] == [one.architecture for one in evaluated]
    assert Estimates(synthetic.space, [failed, evaluated[1]]).probable == [failed, evaluated[1]]
    assert Estimates(synthetic.space, []).probable == []


def test_what_is_measured_without_items_is_all_that_is_known() -> None:
    synthetic, evaluated, _ = measured(0, 30, 100)
    alone = [replace(one, sureness=()) for one in evaluated]
    assert accuracies_by_sureness(alone).tolist() == [one.accuracy for one in alone]
    found = np.array([one.accuracy for one in Estimates(synthetic.space, alone).probable], np.float64)
    assert found.tolist() == pytest.approx([one.accuracy or 0.0 for one in alone])


def test_sureness_that_falls_with_accuracy_is_not_believed() -> None:
    _, evaluated, _ = measured(0, 30, 100)
    odd = [replace(one, sureness=tuple(1 - each for each in one.sureness)) for one in evaluated]
    assert accuracies_by_sureness(odd).tolist() == [one.accuracy for one in evaluated]


def test_the_order_of_the_networks_changes_nothing() -> None:
    synthetic, evaluated, _ = measured(2, 40, 100)
    forwards = {one.architecture: one.accuracy for one in Estimates(synthetic.space, evaluated).probable}
    backwards = {one.architecture: one.accuracy for one in Estimates(synthetic.space, evaluated[::-1]).probable}
    for network, accuracy in forwards.items():
        assert backwards[network] == pytest.approx(accuracy, abs=1e-6)


def sliced(evaluated: list[Evaluated], items: int, slices: int, easier: float) -> list[Evaluated]:
    """Each network on one slice of its items, of which the first is easier."""
    found = []
    for number, one in enumerate(evaluated):
        own = number % slices
        some = one.sureness[own * items // slices : (own + 1) * items // slices]
        right = sum(each > 0.5 for each in some) / len(some)
        found.append(replace(one, accuracy=right + easier * (own == 0), sureness=some, items=f"slice {own}"))
    return found


def test_networks_on_different_items_are_compared_as_if_on_the_same() -> None:
    synthetic, evaluated, exact = measured(3, 160, 400)
    plain, tilted = (Estimates(synthetic.space, sliced(evaluated, 400, 4, easier)) for easier in (0.0, 0.2))
    assert error(plain.probable, exact) < 0.8 * error(sliced(evaluated, 400, 4, 0.0), exact)
    # What makes a slice easier by as much for all of its networks changes nothing but the level of all.
    for one, other in ((plain.probable, tilted.probable), (plain.levelled, tilted.levelled)):
        differences = [(b.accuracy or 0.0) - (a.accuracy or 0.0) for a, b in zip(one, other, strict=True)]
        assert differences == pytest.approx([0.05] * len(differences), abs=1e-3)
    levels = np.array([one.accuracy for one in tilted.levelled], np.float64)
    slices = np.arange(len(levels)) % 4
    assert abs((levels - exact)[slices == 0].mean() - (levels - exact)[slices == 1].mean()) < 0.02
