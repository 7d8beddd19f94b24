"""What our strategies are compared with: searches of other libraries and plain random ones, all driven in one way."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling

from services.coordinator.cost_model import CostModel
from services.coordinator.estimates import Estimates
from services.coordinator.genomes import Encoding, FloatArray, IntArray
from services.coordinator.strategies import Evaluated, make_strategy
from shared.settings import StrategyName, StrategySettings

POPULATION = 12


def accuracy_of(one: Evaluated) -> float:
    """That of a network whose measurement didn't fail, as none does here."""
    assert one.accuracy is not None
    return one.accuracy


class Searcher(ABC):
    """Asks for genomes, shape (networks, genes), and is told their accuracies; any network may be asked for twice."""

    def __init__(self, costs: CostModel, seed: int) -> None:
        self.costs, self.seed, self.encoding = costs, seed, Encoding(costs.space)

    @abstractmethod
    def ask(self, limit: int) -> IntArray:
        """Up to `limit` canonical genomes."""

    @abstractmethod
    def tell(self, evaluated: Sequence[Evaluated]) -> None:
        """What the networks last asked for turned out to be, in the order of their genomes."""

    def chosen_by(self, accuracies: FloatArray) -> FloatArray:
        """The accuracies by which networks are chosen in the end, shape (networks,), of all that were told, given the
        measured ones."""
        return accuracies


class OurStrategy(Searcher):
    """One of ours."""

    def __init__(self, name: StrategyName, population: int, costs: CostModel, seed: int) -> None:
        super().__init__(costs, seed)
        self._strategy = make_strategy(costs, StrategySettings(strategy=name, population=population, seed=seed))
        self._estimates, self._evaluated = name == "bayesian", list[Evaluated]()

    def ask(self, limit: int) -> IntArray:
        return self.encoding.encode(self._strategy.ask(limit))

    def tell(self, evaluated: Sequence[Evaluated]) -> None:
        self._strategy.tell(evaluated)
        self._evaluated += evaluated

    def chosen_by(self, accuracies: FloatArray) -> FloatArray:
        if not self._estimates:
            return accuracies
        return np.array([one.accuracy for one in Estimates(self.costs.space, self._evaluated).probable], np.float64)


class UniformGenes(Searcher):
    """Each gene drawn uniformly."""

    def __init__(self, costs: CostModel, seed: int) -> None:
        super().__init__(costs, seed)
        self._rng = np.random.default_rng(seed)

    def ask(self, limit: int) -> IntArray:
        count = min(limit, POPULATION)
        return self.encoding.canonical(self._rng.integers(self.encoding.choices, size=(count, self.encoding.genes)))

    def tell(self, evaluated: Sequence[Evaluated]) -> None:
        """Nothing is learnt."""


class PymooNsga2(Searcher):
    """pymoo's NSGA-II as its documentation sets it up for whole numbers."""

    def __init__(self, costs: CostModel, seed: int) -> None:
        super().__init__(costs, seed)
        self._varying = self.encoding.choices > 1
        upper = self.encoding.choices[self._varying] - 1
        self._algorithm = NSGA2(
            pop_size=POPULATION,
            sampling=IntegerRandomSampling(),
            crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
            mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
            eliminate_duplicates=True,
        )
        self._problem = Problem(n_var=len(upper), n_obj=2, xl=0, xu=upper, vtype=int)
        self._algorithm.setup(self._problem, seed=seed, termination=NoTermination())
        self._asked: Any = None

    def ask(self, limit: int) -> IntArray:
        self._asked = self._algorithm.ask()
        genomes = np.zeros((len(self._asked), self.encoding.genes), np.int64)
        genomes[:, self._varying] = self._asked.get("X").astype(np.int64)
        return self.encoding.canonical(genomes)[:limit]

    def tell(self, evaluated: Sequence[Evaluated]) -> None:
        self._asked = self._asked[: len(evaluated)]  # the budget may end amid a generation
        self._asked.set("F", np.array([(*one.costs, -accuracy_of(one)) for one in evaluated]))
        self._algorithm.tell(infills=self._asked)


class Optuna(Searcher):
    """One of Optuna's samplers, one network at a time."""

    def __init__(self, sampler: str, costs: CostModel, seed: int) -> None:
        super().__init__(costs, seed)
        import optuna  # type: ignore[import-not-found,unused-ignore]

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        options = {"population_size": POPULATION} if sampler == "NSGAIISampler" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a sampler is experimental
            self._study = optuna.create_study(
                directions=["minimize", "maximize"],
                sampler=getattr(optuna.samplers, sampler)(seed=seed, **options),
            )
        self._trial: Any = None

    def ask(self, limit: int) -> IntArray:
        self._trial = self._study.ask()
        genes = zip(self.encoding.space.genes, self.encoding.choices.tolist(), strict=True)
        drawn = tuple(self._trial.suggest_int(gene.name, 0, choices - 1) for gene, choices in genes)
        return self.encoding.canonical(self.encoding.array([drawn]))

    def tell(self, evaluated: Sequence[Evaluated]) -> None:
        (one,) = evaluated
        self._study.tell(self._trial, [*one.costs, accuracy_of(one)])


SEARCHERS: Mapping[str, Callable[[CostModel, int], Searcher]] = {
    "bayesian": partial(OurStrategy, "bayesian", POPULATION),
    "bayesian-50": partial(OurStrategy, "bayesian", 50),
    "linas": partial(OurStrategy, "linas", POPULATION),
    "linas-50": partial(OurStrategy, "linas", 50),
    "nsga2": partial(OurStrategy, "nsga2", POPULATION),
    "random": partial(OurStrategy, "random", POPULATION),
    "uniform": UniformGenes,
    "pymoo-nsga2": PymooNsga2,
    "optuna-nsga2": partial(Optuna, "NSGAIISampler"),
    "optuna-tpe": partial(Optuna, "TPESampler"),
    "optuna-gp": partial(Optuna, "GPSampler"),
}
"""All searches by name: ours in generations of 12, or as many as the name says."""


def missing(names: Sequence[str]) -> list[str]:
    """Those of the searches whose library isn't installed."""
    return [name for name in names if name.startswith("optuna") and find_spec("optuna") is None]
