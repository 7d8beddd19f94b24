"""The additive cost model, measured: what each part of a network costs on this machine, by running whole networks."""

import importlib.metadata
import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from scipy.optimize import nnls

from services.evaluator.engines import Engine, PassSeconds
from services.evaluator.progress_callback import ProgressCallback, ignore_progress
from shared.architecture import Architecture, derive
from shared.digest import digest_json
from shared.environment import Environment
from shared.errors import UserError
from shared.files import write_atomically
from shared.messages import CostSpec, CostTable, Dtype, PhaseCosts
from shared.supernet.checkpoint import Checkpoint

log = logging.getLogger(__name__)

SWEEPS, REPEATS = 3, 2
"""The networks are run one after another, there and back and there, each `REPEATS` times: what drifts falls on all
alike, and what disturbs a single sweep doesn't reach the medians."""
MOST_SWEEPS, ENOUGH_SECONDS = 9, 60.0
"""There are more sweeps of networks that run quickly, as small ones do: noise disturbs them most."""

Size = tuple[int, int, bool]
"""Depth, the MLP width of every layer, and whether all have attention; else only the first one has."""


def cost_tables(
    engine: Engine,
    checkpoint: Checkpoint,
    architecture: Architecture,
    dtype: Dtype,
    spec: CostSpec,
    environment: Environment,
    progressed: ProgressCallback = ignore_progress,
) -> tuple[CostTable, ...]:
    """A table for each quantization, measured, or from the cache where this machine has measured it before.

    `progressed` is called after each run of a network.

    Raises UserError for a network of a single layer, whose cost can't be separated from what is outside the layers.
    """
    if architecture.depth < 2:
        raise UserError("costs: the architecture has one layer; give one of two or more")
    tables = []
    for quantization in spec.quantizations:
        chosen = architecture.quantized(quantization)
        path = _cache_path(engine, checkpoint, chosen, dtype, spec, environment)
        table = _cached(path)
        if table is None:
            table = _measured(engine, checkpoint, chosen, dtype, spec, progressed)
            _cache(path, table)
        tables.append(table)
    return tuple(tables)


def _measured(
    engine: Engine,
    checkpoint: Checkpoint,
    architecture: Architecture,
    dtype: Dtype,
    spec: CostSpec,
    progressed: ProgressCallback,
) -> CostTable:
    deep, shallow = architecture.depth, architecture.depth // 2
    sizes = [(depth, width, True) for width in spec.mlp_widths for depth in (deep, shallow)]
    sizes += [(deep, width, False) for width in spec.mlp_widths if "skip" in spec.attention]
    passes: dict[Size, list[PassSeconds]] = {size: [] for size in sizes}
    started = time.monotonic()
    for sweep in range(MOST_SWEEPS):
        if sweep >= SWEEPS and time.monotonic() - started > ENOUGH_SECONDS:
            break
        for size in sizes if sweep % 2 == 0 else reversed(sizes):
            with engine.run(checkpoint, _homogeneous(architecture, *size), dtype) as loaded:
                passes[size].append(loaded.time(spec.workload, REPEATS, progressed))
    return CostTable(
        quantization=architecture.quantization,
        engine=engine.name,
        engine_version=engine.version,
        device=engine.device,
        dtype=dtype,
        workload=spec.workload,
        prefill=fitted({size: [s for each in runs for s in each.prefill] for size, runs in passes.items()}),
        decode=fitted({size: [s for each in runs for s in each.decode] for size, runs in passes.items()}),
    )


def fitted(seconds: Mapping[Size, Sequence[float]]) -> PhaseCosts:
    """The costs that explain the times of networks whose layers are all alike, by least squares of relative errors.

    A network takes `fixed` and a layer's cost for each of its layers. How much of that is attention is what networks
    with a single attention are faster by; then no part may cost less than nothing, as networks without any attention
    are extrapolated. Where there are no such networks, it is where a straight line through the layers' costs over their
    widths begins; with a single width it can't be told, and is 0.
    """
    widths = sorted({width for _, width, _ in seconds})
    typical = np.array([statistics.median(repeats) for repeats in seconds.values()])
    ones = np.ones(len(typical))
    layers = np.array([[depth * (width == each) for each in widths] for depth, width, _ in seconds])
    attentions = np.array([depth if whole else 1 for depth, _, whole in seconds])
    if not all(whole for _, _, whole in seconds):
        parts, _ = nnls(np.column_stack([ones, layers, attentions]) / typical[:, None], ones)
        fixed, *costs, attention = parts.tolist()
        return PhaseCosts(fixed=fixed, attention=attention, mlp=dict(zip(widths, costs, strict=True)))
    fixed, *costs = np.linalg.lstsq(np.column_stack([ones, layers]) / typical[:, None], ones)[0].tolist()
    attention = max(0.0, float(np.polyfit(widths, costs, 1)[1])) if len(widths) > 1 else 0.0
    mlp = {width: layer - attention for width, layer in zip(widths, costs, strict=True)}
    return PhaseCosts(fixed=fixed, attention=attention, mlp=mlp)


def _homogeneous(architecture: Architecture, depth: int, width: int, attention: bool) -> Architecture:
    """The first `depth` layers, all of one width; with attention, or all but the first without, as not every engine
    runs networks that have none at all."""
    layers = architecture.layers[:depth]
    return Architecture(
        layers=layers,
        mlp_widths=(width,) * depth,
        quantization=architecture.quantization,
        without_attention=() if attention else layers[1:],
    )


def _cache_path(
    engine: Engine,
    checkpoint: Checkpoint,
    architecture: Architecture,
    dtype: Dtype,
    spec: CostSpec,
    environment: Environment,
) -> Path:
    """Where a table is cached: under all that its numbers depend on, which the values of the weights are not. Where
    all layers have attention, the key is what it has always been."""
    key = {
        "nasfarm": importlib.metadata.version("nasfarm"),
        "engine": [engine.name, engine.version, engine.device, environment.threads],
        "network": derive(checkpoint.network, architecture).to_json(),
        "mlp_widths": sorted(spec.mlp_widths),
        "quantization": architecture.quantization,
        "dtype": dtype,
        "workload": spec.workload.model_dump(),
        **({"attention": spec.attention} if len(spec.attention) > 1 else {}),
    }
    return environment.cache / "costs" / f"{digest_json(key)}.json"


def _cached(path: Path) -> CostTable | None:
    try:
        return CostTable.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):  # not there, or of another version: it is measured anew
        return None


def _cache(path: Path, table: CostTable) -> None:
    try:
        write_atomically(path, table.model_dump_json(indent=2) + "\n")
    except UserError as error:  # without a cache the next search measures again, no more
        log.warning("the costs are not cached: %s", error)
