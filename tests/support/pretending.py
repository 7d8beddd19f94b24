"""Measurements that were not made: functions of the request alone, the same in every process. Free of torch."""

import hashlib

from shared.architecture import Architecture, derive
from shared.messages import CostSpec, CostTable, Dtype, EvaluationRequest, ItemScores, Measurement, PhaseCosts, Speed
from shared.network.shape import NetworkShape
from shared.network.sizes import parameters, weight_bytes
from tests.support.networks import uniform_network

SHAPE = uniform_network(layers=8, mlp_width=48, hidden=16)


def pretend(request: EvaluationRequest, shape: NetworkShape = SHAPE) -> Measurement:
    """A measurement that depends on the request alone: larger networks answer more items right, with some noise. INT8
    costs no accuracy, and makes everything but the first token a little faster. `shape` is the whole network's."""
    size = parameters(derive(shape, request.architecture))
    share = 0.3 + 0.5 * size / parameters(shape)
    scores = []
    for task in request.spec.tasks:
        items = range(task.start, task.stop)
        right = tuple(float(chance(f"{request.identity}/{item}") < share) for item in items)
        scores.append(
            ItemScores(
                task=task.task,
                items=tuple(items),
                items_digest=f"{task.split}",
                metrics={"acc": right},
                values={"acc": sum(right) / len(right)},
                margins=tuple(value - 0.5 for value in right),
            )
        )
    spec = request.spec
    return Measurement(
        parameters=size,
        bytes=weight_bytes(derive(shape, request.architecture), spec.dtype, request.architecture.quantization),
        scores=tuple(scores),
        speed=None if spec.speed is None else _speed(request, request.architecture),
        speeds=() if spec.speed is None else tuple(_speed(request, network) for network in spec.speed.networks),
        costs=() if spec.costs is None else pretended_tables(spec.costs, spec.dtype),
        seconds={},
        tokens=1,
        worker="test",
        versions={"device": "none"},
    )


def pretended_tables(costs: CostSpec, dtype: Dtype) -> tuple[CostTable, ...]:
    """Time grows with the width; INT8 reads more slowly and generates faster."""

    def phase(fixed: float, unit: float) -> PhaseCosts:
        return PhaseCosts(fixed=fixed, attention=7 * unit, mlp={width: width * unit for width in costs.mlp_widths})

    return tuple(
        CostTable(
            quantization=quantization,
            engine=costs.engine,
            engine_version="1.2.3",
            device="none",
            dtype=dtype,
            workload=costs.workload,
            prefill=phase(0.01, 0.0003 if quantization == "none" else 0.0004),
            decode=phase(0.001, 0.0001 if quantization == "none" else 0.00007),
        )
        for quantization in costs.quantizations
    )


def _speed(request: EvaluationRequest, network: Architecture) -> Speed:
    spec = request.spec.speed
    assert spec is not None
    repeats = [(spec.repeats + repeat) / sum(network.mlp_widths) for repeat in range(spec.repeats)]
    return Speed(
        engine=spec.engine,
        engine_version="1.2.3",
        device="none",
        dtype=request.spec.dtype,
        workload=spec.workload,
        prefill_tokens_per_second=tuple(10 * each for each in repeats),
        decode_tokens_per_second=tuple(repeats),
    )


def chance(text: str) -> float:
    """A number from 0 to 1 that looks random."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32
