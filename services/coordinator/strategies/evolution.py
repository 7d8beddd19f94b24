"""NSGA-II (Deb 2002) on genomes, put together from pymoo's parts."""

from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from services.coordinator.genomes import Encoding, FloatArray, IntArray

CROSSOVER = 0.9
"""Probability that two parents are crossed rather than copied (LINAS, arXiv 2205.10358)."""
MUTATION = 0.02
"""Probability that a gene is drawn anew (LINAS, arXiv 2205.10358)."""


class Evolution:
    """NSGA-II that is handed the objectives of its children.

    Starts from the best `population` of the networks given, by rank and crowding. `genomes` has shape (networks,
    genes), `parameters` and `accuracies` (networks,). Children are canonical, and differ from each other and from their
    parents.
    """

    def __init__(
        self,
        encoding: Encoding,
        population: int,
        genomes: IntArray,
        parameters: IntArray,
        accuracies: FloatArray,
        rng: np.random.Generator,
    ) -> None:
        problem = Problem(n_var=encoding.genes, n_obj=2, xl=0, xu=encoding.choices - 1, vtype=int)
        start = Population.new("X", genomes, "F", _objectives(parameters, accuracies))
        self._algorithm = NSGA2(
            pop_size=population,
            sampling=RankAndCrowding().do(problem, start, n_survive=population, random_state=rng),
            crossover=UniformCrossover(prob=CROSSOVER),
            mutation=_DrawAnew(encoding),
            repair=_Canonical(encoding),
        )
        self._algorithm.setup(problem, seed=int(rng.integers(2**63)), termination=NoTermination())
        self._algorithm.tell(infills=self._algorithm.ask())
        self._children = Population.empty()

    def ask(self) -> IntArray:
        """Children of the present population, shape (up to `population`, genes); empty if none differs from it."""
        self._children = self._algorithm.ask()
        if self._children is None:
            return np.empty((0, self._algorithm.problem.n_var), dtype=np.int64)
        children: IntArray = self._children.get("X").astype(np.int64)
        return children

    def tell(self, parameters: IntArray, accuracies: FloatArray) -> None:
        """The objectives of the children last asked: the best of them and of their parents are the next population."""
        self._children.set("F", _objectives(parameters, accuracies))
        self._algorithm.tell(infills=self._children)


def _objectives(parameters: IntArray, accuracies: FloatArray) -> FloatArray:
    """Both to be minimised, as pymoo wants it, shape (networks, 2)."""
    return np.column_stack([parameters.astype(np.float64), -accuracies])


class _DrawAnew(Mutation):  # type: ignore[misc]
    """Each gene is drawn anew with probability `MUTATION`.

    pymoo's polynomial mutation, rounded, hardly ever moves a gene that has two choices.
    """

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        self._choices = encoding.choices

    def _do(self, problem: Problem, X: IntArray, random_state: np.random.Generator, **_: Any) -> IntArray:  # noqa: N803
        drawn = random_state.integers(self._choices, size=X.shape)
        return np.where(random_state.random(X.shape) < MUTATION, drawn, X)


class _Canonical(Repair):  # type: ignore[misc]
    """Genes without effect are 0, so that pymoo knows equal networks from their genomes."""

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        self._encoding = encoding

    def _do(self, problem: Problem, X: IntArray, **_: Any) -> IntArray:  # noqa: N803
        return self._encoding.canonical(X)
