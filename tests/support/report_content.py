"""Reports' content made up for tests: plausible numbers, nothing measured."""

import math
import random

from services.coordinator.report.content import Comparison, EvaluatedNetwork, GenerationRow, NetworkRow, ReportContent
from shared.architecture import Architecture

ATTENTION, WHOLE_MLP, EMBEDDINGS = 67_108_864, 135_266_304, 262_410_240
MLP_WIDTH = 11008
ITEMS = 600
DENSE_REPORT = 0.448


def report_content(
    *,
    evaluations: int = 250,
    front: int = 9,
    layers: int = 32,
    tasks: tuple[str, ...] = ("arc_challenge",),
    predictor: bool = True,
    name: str = "llama2-arc",
    failures: tuple[str, ...] = ("network 31: out of memory in layer 12 (tried 3 times)",),
) -> ReportContent:
    """The content of a report on a made-up search, the same for the same arguments."""
    rng = random.Random(0)
    whole = Architecture(layers=tuple(range(layers)), mlp_widths=(MLP_WIDTH,) * layers)
    measured = _measured(rng, evaluations, layers)
    chosen = _spread(_not_dominated(measured), front)
    rows = tuple(
        _row(rng, f"N{index}", each, accuracy, whole, tasks)
        for index, (each, accuracy) in enumerate(reversed(chosen), start=1)
    )
    kept = {each.digest for each, _ in chosen}
    evaluated = tuple(
        EvaluatedNetwork(
            number=number,
            generation=(number - 1) // 50,
            architecture=each,
            parameters=_parameters(each),
            search_accuracy=accuracy,
            on_front=each.digest in kept,
        )
        for number, (each, accuracy) in enumerate(measured, start=1)
    )
    dense = _row(rng, "dense", whole, DENSE_REPORT + 0.004, whole, tasks)
    base = _row(rng, "base", whole, 0.434, whole, tasks)
    return ReportContent(
        name=name,
        model="meta-llama/Llama-2-7b-hf",
        headline=f"Measured on {', '.join(tasks)} (0-shot; 299 items to search, {ITEMS} others to report).",
        created="2025-05-12 14:03 UTC",
        layers=layers,
        mlp_width=MLP_WIDTH,
        mlp_widths=(MLP_WIDTH, MLP_WIDTH // 2),
        front=rows,
        dense=dense.model_copy(update={"versus_dense": None}),
        base=base,
        evaluated=evaluated,
        generations=tuple(_generations(rng, len(evaluated), predictor)),
        reference_point=(1.0, 0.25),
        failures=failures,
        provenance=(
            ("Search file", "examples/llama2-arc.yaml"),
            ("Super-network", "sha256:4f0c9e1d7a6b5c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"),
            ("Strategy", "linas, population 50, seed 0"),
            ("Versions", "nasfarm 0.1.0, torch 2.9.1, transformers 4.57.1"),
        ),
    )


def _measured(rng: random.Random, evaluations: int, layers: int) -> list[tuple[Architecture, float]]:
    distinct: dict[str, Architecture] = {}
    while len(distinct) < evaluations:
        each = _architecture(rng, layers)
        distinct[each.digest] = each
    return [(each, _search_accuracy(rng, each, layers)) for each in distinct.values()]


def _architecture(rng: random.Random, layers: int) -> Architecture:
    dropped = rng.choice((0, layers // 8, layers // 4))
    kept = tuple(layer for layer in range(layers) if not layers - 2 - dropped <= layer < layers - 2)
    share = rng.random()
    return Architecture(
        layers=kept, mlp_widths=tuple(MLP_WIDTH if rng.random() < share else MLP_WIDTH // 2 for _ in kept)
    )


def _parameters(architecture: Architecture) -> int:
    mlps = sum(WHOLE_MLP * width // MLP_WIDTH for width in architecture.mlp_widths)
    return EMBEDDINGS + ATTENTION * architecture.depth + mlps


def _search_accuracy(rng: random.Random, architecture: Architecture, layers: int) -> float:
    kept = sum(architecture.mlp_widths) / (MLP_WIDTH * layers)
    return 0.25 + 0.2 * math.pow(kept, 0.6) + rng.gauss(0, 0.012)


def _not_dominated(measured: list[tuple[Architecture, float]]) -> list[tuple[Architecture, float]]:
    best, front = -math.inf, []
    for each, accuracy in sorted(measured, key=lambda pair: (_parameters(pair[0]), -pair[1])):
        if accuracy > best:
            best = accuracy
            front.append((each, accuracy))
    return front


def _spread(front: list[tuple[Architecture, float]], wanted: int) -> list[tuple[Architecture, float]]:
    if len(front) <= wanted:
        return front
    return [front[index * len(front) // wanted] for index in range(wanted)]


def _row(
    rng: random.Random,
    name: str,
    architecture: Architecture,
    search: float,
    whole: Architecture,
    tasks: tuple[str, ...],
) -> NetworkRow:
    parameters = _parameters(architecture)
    luck = 0.004 if name == "dense" else abs(rng.gauss(0, 0.006))
    accuracy = search - luck
    difference = accuracy - DENSE_REPORT
    margin = 1.96 * math.sqrt(accuracy * (1 - accuracy) / ITEMS)
    whole_bytes = 2 * _parameters(whole)
    return NetworkRow(
        name=name,
        architecture=architecture,
        narrow_mlps=sum(width < MLP_WIDTH for width in architecture.mlp_widths),
        parameters=parameters,
        bytes=2 * parameters,
        ratio=whole_bytes / (2 * parameters),
        search_accuracy=search,
        report_accuracy=accuracy,
        interval=(accuracy - margin, accuracy + margin),
        report_by_task={task: accuracy + 0.02 * index for index, task in enumerate(tasks)},
        versus_dense=Comparison(difference=difference, p_value=math.exp(-((difference / 0.017) ** 2))),
        versus_base=None if name == "base" else Comparison(difference=difference + 0.021, p_value=0.034),
    )


def _generations(rng: random.Random, evaluations: int, predictor: bool) -> list[GenerationRow]:
    rows = []
    for generation, end in enumerate(range(50, evaluations + 50, 50)):
        judged = predictor and generation > 0
        rows.append(
            GenerationRow(
                generation=generation,
                evaluations=min(end, evaluations),
                hypervolume=0.11 - 0.04 * math.exp(-generation / 1.5),
                predictor="ridge" if judged else None,
                kendall_tau=round(0.7 + rng.uniform(-0.12, 0.12), 3) if judged else None,
                mean_absolute_error=0.011 if judged else None,
            )
        )
    return rows
