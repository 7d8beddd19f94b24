"""Down projections that were refitted for narrower MLPs, beside a super-network's weights.

    refitted/layer-007.safetensors    of each layer that has an MLP: a tensor for each width, under the name of the
                                      layer's down projection and the width (model.layers.7.mlp.down_proj.weight.768)

A file for each layer, so that no more than a layer's are in memory when they are made.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from shared.checkpoint_files import REFITTED
from shared.errors import UserError
from shared.network.shape import NetworkShape
from shared.network.tensors import layer_tensors
from shared.supernet.mapped import mapped_tensors

Refitted = Mapping[tuple[int, int], Tensor]
"""By layer and width (outputs, width): what takes the place of the first columns of the whole MLP's projection."""


def refitted_file(directory: Path, layer: int) -> Path:
    """Where a checkpoint has those of a layer."""
    return directory / REFITTED / f"layer-{layer:03}.safetensors"


def down_projection(network: NetworkShape, layer: int) -> str:
    """Name of the weight that is refitted. Raises StopIteration for a layer without an MLP."""
    specs = layer_tensors(network.family, network.layers[layer], layer)
    return next(spec.name for spec in specs if spec.neurons == "columns")


def save_refitted(directory: Path, network: NetworkShape, layer: int, projections: Mapping[int, Tensor]) -> None:
    """Write a layer's projections, by width: the file is whole or not there. Raises what safetensors does where it
    can't be written."""
    file, name = refitted_file(directory, layer), down_projection(network, layer)
    file.parent.mkdir(exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    tensors = {f"{name}.{width}": tensor.detach().to("cpu").contiguous() for width, tensor in projections.items()}
    save_file(tensors, unfinished, metadata={"format": "pt"})
    unfinished.chmod(0o644)  # safetensors keeps its files to their owner, but evaluators may run as another user
    unfinished.replace(file)


def read_refitted(directory: Path, network: NetworkShape) -> dict[tuple[int, int], Tensor]:
    """All that a checkpoint has, mapped; nothing where none was refitted.

    Raises UserError for what doesn't belong to the network, and where a width is there for some layers only.
    """
    found: dict[tuple[int, int], Tensor] = {}
    if not (directory / REFITTED).is_dir():
        return found
    layers = [(index, layer) for index, layer in enumerate(network.layers) if layer.mlp is not None]
    for index, layer in layers:
        file, own = refitted_file(directory, index), down_projection(network, index)
        for name, tensor in mapped_tensors(file).items() if file.is_file() else ():
            width, shape = tensor.shape[-1] if tensor.dim() else 0, tuple(tensor.shape)
            if name != f"{own}.{width}" or shape != (layer.outputs, width) or not 0 < width < layer.mlp_width:
                raise UserError(f"{file}: {name} {shape} is no projection of this network; copy the checkpoint again")
            found[index, width] = tensor
    for width in {width for _, width in found}:
        for index, layer in layers:
            if width < layer.mlp_width and (index, width) not in found:
                file = refitted_file(directory, index)
                raise UserError(
                    f"{file}: missing, or without width {width}, which others have; copy the checkpoint again"
                )
    return found
