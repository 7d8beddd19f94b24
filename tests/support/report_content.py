"""Reports' content made up for tests: plausible numbers, nothing measured."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from services.reporting.report_data import (
    Advantage,
    Comparison,
    EvaluatedNetwork,
    NetworkRow,
    NonInferiority,
    ReportContent,
    SpeedRow,
    TaskRow,
)
from shared.architecture import Architecture, Quantization
from shared.generation import GenerationRow
from shared.settings import Objective

ATTENTION, WHOLE_MLP, EMBEDDINGS = 67_108_864, 135_266_304, 262_410_240
MLP_WIDTH = 11008
ITEMS = 600
DENSE_REPORT = 0.448


SERVING = "torch 2.13.0 on cpu, bfloat16, batch 1, 128 prompt tokens, 32 generated, 5 repeats."


def report_content(
    *,
    evaluations: int = 250,
    front: int = 9,
    layers: int = 32,
    tasks: tuple[str, ...] = ("arc_challenge",),
    predictor: bool = True,
    name: str = "llama2-arc",
    failures: tuple[str, ...] = ("network 31: out of memory in layer 12 (tried 3 times)",),
    objectives: tuple[Objective, ...] = ("parameters",),
    quantizations: tuple[Quantization, ...] = ("none",),
    int8: bool = False,
    timed: bool = False,
    run: bool = False,
    random_ones: bool = False,
    unreported: int = 0,
) -> ReportContent:
    """The content of a report on a made-up search, the same for the same arguments: with networks in INT8 among those
    searched (`quantizations`) or re-measured (`int8`), with times from a cost table (`timed`), with measured speed
    (`run`), with random networks of the same sizes (`random_ones`), and this many networks of the front that were not
    measured on the report items (`unreported`: N2, N3 ...)."""
    rng = random.Random(0)
    whole = Architecture(layers=tuple(range(layers)), mlp_widths=(MLP_WIDTH,) * layers)
    cached = "kv_cache_bytes" in objectives
    make = _Maker(rng, whole, tasks, timed, run, random_ones, cached)
    measured = _measured(rng, evaluations, layers, quantizations)
    chosen = _spread(_not_dominated(measured, objectives), front)
    rows = tuple(
        make.row(f"N{index}", each, accuracy) for index, (each, accuracy) in enumerate(reversed(chosen), start=1)
    )
    rows = tuple(
        row if not 0 < place <= unreported else row.model_copy(update=UNREPORTED) for place, row in enumerate(rows)
    )
    kept = {each.digest for each, _ in chosen}
    evaluated = tuple(
        EvaluatedNetwork(
            number=number,
            generation=(number - 1) // 50,
            architecture=each,
            parameters=_parameters(each),
            bytes=_bytes(each),
            kv_cache_bytes=_kv_cache_bytes(each) if cached else None,
            prefill_seconds=_prefill_seconds(each) if timed else None,
            decode_seconds=_decode_seconds(each) if timed else None,
            search_accuracy=accuracy,
            on_front=each.digest in kept,
        )
        for number, (each, accuracy) in enumerate(measured, start=1)
    )
    dense = make.row("dense", whole, DENSE_REPORT + 0.004)
    base = make.row("base", whole, 0.434)
    return ReportContent(
        name=name,
        model="meta-llama/Llama-2-7b-hf",
        headline=f"Measured on {', '.join(tasks)} (0-shot; 299 items to search, {ITEMS} others to report).",
        created="2025-05-12 14:03 UTC",
        layers=layers,
        mlp_width=MLP_WIDTH,
        mlp_widths=(MLP_WIDTH, MLP_WIDTH // 2),
        objectives=objectives,
        serving=SERVING if timed or run else None,
        margin=0.02,
        report_items=ITEMS,
        clustered=len(tasks) > 1,
        networks_on_report_items=len(rows) + 2,
        reported_fronts=1,
        front=rows,
        int8=tuple(make.twin(row) for row in (*rows, dense) if row.report_accuracy is not None) if int8 else (),
        random=tuple(make.counterpart(row) for row in rows if row.report_accuracy is not None) if random_ones else (),
        advantage=Advantage(difference=0.031, interval=(0.011, 0.052), pairs=len(rows)) if random_ones else None,
        dense=dense.model_copy(update={"versus_dense": None, "non_inferiority": None}),
        base=base,
        evaluated=evaluated,
        generations=tuple(_generations(rng, len(evaluated), predictor)),
        reference_point=(*(1.0 for _ in objectives), 0.25),
        failures=failures,
        provenance=(
            ("Search file", "examples/llama2-arc.yaml"),
            ("Super-network", "sha256:4f0c9e1d7a6b5c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"),
            ("Strategy", "linas, population 50, seed 0"),
            ("Versions", "nasfarm 0.1.0, torch 2.9.1, transformers 4.57.1"),
        ),
    )


@dataclass(frozen=True)
class _Maker:
    """Makes the rows of networks that were measured on the report part."""

    rng: random.Random
    whole: Architecture
    tasks: tuple[str, ...]
    timed: bool
    run: bool
    random_ones: bool
    cached: bool

    def row(self, name: str, architecture: Architecture, search: float) -> NetworkRow:
        luck = 0.004 if name == "dense" else abs(self.rng.gauss(0, 0.006))
        accuracy = search - luck
        difference = accuracy - DENSE_REPORT
        margin = 1.96 * math.sqrt(accuracy * (1 - accuracy) / ITEMS)
        return NetworkRow(
            name=name,
            architecture=architecture,
            narrow_mlps=sum(width < MLP_WIDTH for width in architecture.mlp_widths),
            parameters=_parameters(architecture),
            bytes=_bytes(architecture),
            cache_bytes_per_token=2 * architecture.depth * 4096 * 2,
            ratio=_bytes(self.whole) / _bytes(architecture),
            kv_cache_bytes=_kv_cache_bytes(architecture) if self.cached else None,
            prefill_seconds=_prefill_seconds(architecture) if self.timed else None,
            decode_seconds=_decode_seconds(architecture) if self.timed else None,
            speed=_speed(architecture) if self.run else None,
            search_accuracy=search,
            report_accuracy=accuracy,
            interval=(accuracy - margin, accuracy + margin),
            by_task={task: _task(accuracy + 0.02 * index, difference) for index, task in enumerate(self.tasks)},
            macro=_task(accuracy + 0.01, difference) if len(self.tasks) > 1 else None,
            versus_dense=_comparison(difference),
            versus_base=None if name == "base" else _comparison(difference + 0.021),
            versus_random=_comparison(0.031) if self.random_ones and name.startswith("N") else None,
            versus_original=None,
            non_inferiority=NonInferiority(lower_bound=difference - 0.013, items_needed=1237),
        )

    def twin(self, row: NetworkRow) -> NetworkRow:
        """The row's network in INT8; the search part is not measured again."""
        measured = self.row(f"{row.name} int8", row.architecture.quantized("int8"), row.report_accuracy)
        change = _comparison(measured.reported[0] - row.reported[0])
        return measured.model_copy(update={"search_accuracy": None, "versus_random": None, "versus_original": change})

    def counterpart(self, row: NetworkRow) -> NetworkRow:
        """A random network of the row's size."""
        widths = row.architecture.mlp_widths
        drawn = row.architecture.model_copy(update={"mlp_widths": (*widths[1:], widths[0])})
        measured = self.row(f"{row.name} random", drawn, row.reported[0] - 0.031)
        alone = dict.fromkeys(("search_accuracy", "versus_dense", "versus_base", "versus_random", "non_inferiority"))
        return measured.model_copy(update=alone)


UNREPORTED = {
    **dict.fromkeys(
        ("report_accuracy", "interval", "macro", "versus_dense", "versus_base", "versus_random", "versus_original")
    ),
    "non_inferiority": None,
    "by_task": {},
    "speed": None,
}
"""Changes to a row that make it one of a network that was not measured on the report items."""


def _comparison(difference: float) -> Comparison:
    p = math.exp(-((difference / 0.017) ** 2))
    interval = (difference - 0.016, difference + 0.016)
    return Comparison(difference=difference, interval=interval, p_value=p, corrected=min(1.0, 9 * p))


def _task(accuracy: float, difference: float) -> TaskRow:
    return TaskRow(
        accuracy=accuracy,
        interval=(accuracy - 0.03, accuracy + 0.03),
        versus_dense=_comparison(difference),
        versus_base=_comparison(difference + 0.021),
    )


def _measured(
    rng: random.Random, evaluations: int, layers: int, quantizations: Sequence[Quantization]
) -> list[tuple[Architecture, float]]:
    distinct: dict[str, Architecture] = {}
    while len(distinct) < evaluations:
        each = _architecture(rng, layers)
        if len(quantizations) > 1:
            each = each.quantized(rng.choice(quantizations))
        distinct[each.digest] = each
    return [(each, _search_accuracy(rng, each, layers)) for each in distinct.values()]


def _architecture(rng: random.Random, layers: int) -> Architecture:
    dropped = rng.choice((0, layers // 8, layers // 4))
    kept = tuple(layer for layer in range(layers) if not layers - 2 - dropped <= layer < layers - 2)
    share = rng.random()
    return Architecture(
        layers=kept, mlp_widths=tuple(MLP_WIDTH if rng.random() < share else MLP_WIDTH // 2 for _ in kept)
    )


def _layer_parameters(architecture: Architecture) -> int:
    return sum(ATTENTION + WHOLE_MLP * width // MLP_WIDTH for width in architecture.mlp_widths)


def _parameters(architecture: Architecture) -> int:
    return EMBEDDINGS + _layer_parameters(architecture)


def _bytes(architecture: Architecture) -> int:
    in_layers = 1 if architecture.quantization == "int8" else 2
    return 2 * EMBEDDINGS + in_layers * _layer_parameters(architecture)


def _prefill_seconds(architecture: Architecture) -> float:
    """Attention is expensive, and INT8 slow."""
    slower = 1.3 if architecture.quantization == "int8" else 1.0
    return 0.05 + slower * sum(0.012 + 0.01 * width / MLP_WIDTH for width in architecture.mlp_widths)


def _decode_seconds(architecture: Architecture) -> float:
    """Reading the weights takes the time."""
    return 0.002 + _bytes(architecture) / 4e11


def _speed(architecture: Architecture) -> SpeedRow:
    prefill, decode = 128 / _prefill_seconds(architecture), 1 / _decode_seconds(architecture)
    return SpeedRow(
        engine="torch 2.13.0",
        device="a processor (CPU)",
        prefill=(prefill, 0.97 * prefill, 1.01 * prefill),
        decode=(decode, 0.96 * decode, 1.02 * decode),
    )


def _search_accuracy(rng: random.Random, architecture: Architecture, layers: int) -> float:
    kept = sum(architecture.mlp_widths) / (MLP_WIDTH * layers)
    return 0.25 + 0.2 * math.pow(kept, 0.6) + rng.gauss(0, 0.012)


def _kv_cache_bytes(architecture: Architecture) -> int:
    """Of a batch of eight sequences of 500 tokens."""
    return 8 * 500 * 2 * 2 * 4096 * sum(architecture.attentions)


COSTS = {
    "parameters": _parameters,
    "bytes": _bytes,
    "kv_cache_bytes": _kv_cache_bytes,
    "prefill_seconds": _prefill_seconds,
    "decode_seconds": _decode_seconds,
}


def _not_dominated(
    measured: list[tuple[Architecture, float]], objectives: Sequence[Objective]
) -> list[tuple[Architecture, float]]:
    """Ascending by the first objective."""
    points = [(*(float(COSTS[name](each)) for name in objectives), -accuracy) for each, accuracy in measured]
    front = [
        (point, pair)
        for point, pair in zip(points, measured, strict=True)
        if not any(
            other != point and all(mine >= theirs for mine, theirs in zip(point, other, strict=True))
            for other in points
        )
    ]
    return [pair for _, pair in sorted(front, key=lambda each: each[0])]


def _spread(front: list[tuple[Architecture, float]], wanted: int) -> list[tuple[Architecture, float]]:
    if len(front) <= wanted:
        return front
    return [front[index * len(front) // wanted] for index in range(wanted)]


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
                size_tau=0.69 if judged else None,
                partial_tau=-0.08 if judged else None,
                size_error=0.013 if judged else None,
            )
        )
    return rows
