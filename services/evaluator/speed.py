"""How fast a network runs: in an engine, as a result; or roughly, within a second, to estimate how long a search will
take."""

import statistics
import time

import torch
from torch import Tensor

from services.evaluator.engines import Engine
from services.evaluator.progress_callback import ProgressCallback, ignore_progress
from shared.architecture import Architecture
from shared.messages import Dtype, Speed, SpeedSpec
from shared.network.shape import NetworkShape
from shared.network.sizes import outer_parameters, parameters
from shared.network.tensors import tensors
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import compute_device, torch_dtype
from shared.supernet.packing import pack
from shared.supernet.tree import Tree

SEQUENCES, LENGTH, REPEATS = 16, 48, 3


def measured_speed(
    engine: Engine,
    checkpoint: Checkpoint,
    architecture: Architecture,
    dtype: Dtype,
    spec: SpeedSpec,
    progressed: ProgressCallback = ignore_progress,
) -> Speed:
    """Run a network and return its prefill and decode speeds; `progressed` is called after each repeat."""
    workload = spec.workload
    prompts = workload.batch * workload.prompt_tokens
    with engine.run(checkpoint, architecture, dtype) as loaded:
        passes = loaded.time(workload, spec.repeats, progressed)
    return Speed(
        engine=engine.name,
        engine_version=engine.version,
        device=engine.device,
        dtype=dtype,
        workload=workload,
        prefill_tokens_per_second=tuple(prompts / seconds for seconds in passes.prefill),
        decode_tokens_per_second=tuple(workload.batch / seconds for seconds in passes.decode),
    )


@torch.inference_mode()
def parameter_tokens_per_second(checkpoint: Checkpoint, dtype: Dtype) -> float:
    """Parameters of the decoder's layers times tokens, per second, in a forward pass; measured on two layers.

    Two layers say as much as all of them, and a model of any size is measured at once; of a checkpoint without weights,
    on others of the same shape.
    """
    whole = checkpoint.network
    count = min(2, whole.depth)
    few = Architecture(layers=tuple(range(count)), mlp_widths=whole.mlp_widths[:count])
    weights = checkpoint.weights or _any_weights(whole, count, torch_dtype(dtype))
    network = checkpoint.cut(few, weights).map(lambda tensor: tensor.to(compute_device(), torch_dtype(dtype)))
    packed = pack([Tree.plain([1] * LENGTH)] * SEQUENCES, compute_device())
    seconds = []
    for _ in range(1 + REPEATS):  # the first one only warms up
        started = time.perf_counter()
        network.hidden(packed).sum().item()
        seconds.append(time.perf_counter() - started)
    layers = parameters(network.shape) - outer_parameters(network.shape)
    return layers * SEQUENCES * LENGTH / statistics.median(seconds[1:])


def _any_weights(network: NetworkShape, layers: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights of a network's first layers and of what is outside the layers. Their values make no difference."""
    specs = (spec for spec in tensors(network) if spec.layer is None or spec.layer < layers)
    return {spec.name: torch.full(spec.size, 0.01, dtype=dtype) for spec in specs}
