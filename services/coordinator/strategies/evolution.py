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
"""Probability that a gene is drawn again (LINAS, arXiv 2205.10358)."""


class Evolution:
    """NSGA-II with `ask` and `tell`: the costs and the accuracies of its children come from the caller.

    It starts from the best `population` of the networks given, by rank and crowding. `genomes` has shape (networks,
    genes), `costs` (networks, objectives), `accuracies` (networks,). Children are canonical, and differ from each other
    and from their parents.
    """

    def __init__(
        self,
        encoding: Encoding,
        population: int,
        genomes: IntArray,
        costs: FloatArray,
        accuracies: FloatArray,
        rng: np.random.Generator,
    ) -> None:
        self._genes = _VaryingGenes(encoding)
        limits = self._genes.choices - 1
        problem = Problem(n_var=len(limits), n_obj=costs.shape[1] + 1, xl=0, xu=limits, vtype=int)
        start = Population.new("X", self._genes.of(genomes), "F", np.column_stack([costs, -accuracies]))
        self._algorithm = NSGA2(
            pop_size=population,
            sampling=RankAndCrowding().do(problem, start, n_survive=population, random_state=rng),
            crossover=UniformCrossover(prob=CROSSOVER),
            mutation=_RandomResetMutation(self._genes),
            repair=_CanonicalRepair(self._genes),
        )
        self._algorithm.setup(problem, seed=int(rng.integers(2**63)), termination=NoTermination())
        self._algorithm.tell(infills=self._algorithm.ask())
        self._children = Population.empty()

    def ask(self) -> IntArray:
        """Children of the present population, shape (up to `population`, genes); empty if none differs from it."""
        self._children = self._algorithm.ask()
        if self._children is None:
            return np.empty((0, self._genes.encoding.genes), dtype=np.int64)
        return self._genes.canonical(self._children.get("X").astype(np.int64))

    def tell(self, costs: FloatArray, accuracies: FloatArray) -> None:
        """Costs and accuracies of the children last asked: the best of them and of their parents are the next
        population."""
        self._children.set("F", np.column_stack([costs, -accuracies]))
        self._algorithm.tell(infills=self._children)


class _VaryingGenes:
    """The part of a genome that pymoo sees: genes with more than one choice. The others are always 0."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self._varying = encoding.choices > 1
        self.choices: IntArray = encoding.choices[self._varying]

    def of(self, genomes: IntArray) -> IntArray:
        """The varying genes of whole genomes, shape (networks, varying genes)."""
        return genomes[:, self._varying]

    def canonical(self, varying: IntArray) -> IntArray:
        """Whole canonical genomes from their varying genes, shape (networks, genes)."""
        genomes = np.zeros((len(varying), self.encoding.genes), dtype=np.int64)
        genomes[:, self._varying] = varying
        return self.encoding.canonical(genomes)


class _RandomResetMutation(Mutation):  # type: ignore[misc]
    """Each gene is drawn again with probability `MUTATION`.

    pymoo's polynomial mutation, rounded, hardly ever changes a gene that has two choices.
    """

    def __init__(self, genes: _VaryingGenes) -> None:
        super().__init__()
        self._choices = genes.choices

    def _do(self, problem: Problem, X: IntArray, random_state: np.random.Generator, **_: Any) -> IntArray:  # noqa: N803
        drawn = random_state.integers(self._choices, size=X.shape)
        return np.where(random_state.random(X.shape) < MUTATION, drawn, X)


class _CanonicalRepair(Repair):  # type: ignore[misc]
    """Genes without effect are 0, so that pymoo knows equal networks from their genomes."""

    def __init__(self, genes: _VaryingGenes) -> None:
        super().__init__()
        self._genes = genes

    def _do(self, problem: Problem, X: IntArray, **_: Any) -> IntArray:  # noqa: N803
        return self._genes.of(self._genes.canonical(X.astype(np.int64)))
