"""Down projections refitted for narrower MLPs, in closed form.

Where neurons leave an MLP, its down projection is wrong for those that stay. Of all projections `V` of the first `w`
neurons, the one is taken whose outputs are closest to the whole MLP's on calibration text, by least squares with a
ridge towards the columns that are there (channel pruning's reconstruction, He et al. 2017, arXiv 1707.06168):

    V = argmin |H W' - H[:, :w] V'|^2 + r |V - W[:, :w]|^2
      = W[:, :w] + W[:, w:] G[w:, :w] (G[:w, :w] + r)^-1    with G = H' H

`W` (outputs, width) is the whole MLP's projection, `H` (tokens, width) are its neurons, `'` transposes. A token's
neurons are divided by the root mean square of its state after the layer: what follows norms the state, so that an error
matters as a part of it, and else the few tokens with states a hundred times as large would decide alone (attention
sinks, Sun et al. 2024, arXiv 2402.17762). With a large ridge nothing changes. A bias stays, and so does what follows
the projection.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from shared.errors import UserError
from shared.network.shape import NetworkShape
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.packing import Packed
from shared.supernet.refitted import refitted_file, save_refitted

RIDGE = 0.1
"""As a share of the neurons' mean energy on the calibration text."""

ROWS = 1024
"""Of a Gram matrix that are computed at a time, so that no second one is there."""


def narrower_widths(network: NetworkShape, layer: int, widths: Sequence[int]) -> list[int]:
    """Those of some widths for which a layer's projection is refitted."""
    return [width for width in widths if 0 < width < network.layers[layer].mlp_width]


@torch.inference_mode()
def refit(
    checkpoint: Checkpoint,
    widths: Sequence[int],
    text: Sequence[Packed],
    compute: torch.dtype,
    directory: Path,
    progressed: Callable[[int, int], None],
    ridge: float = RIDGE,
) -> None:
    """Write the refitted projections of all layers of a checkpoint into a directory; those that are there already are
    taken as they are, so they must be of the same weights. `progressed` is called with the layers that are done, first
    none, and with how many there are.

    The text goes through layer by layer, in `compute` on its own device. Held at a time are its states, one layer, and
    in float64 the layer's Gram matrix and, to solve for a width w, 2 w * w + 4 w * outputs numbers. Halving LLaMA2-7B's
    takes 2.2 GB.

    Raises UserError where a layer's neurons are not finite.
    """
    network, shape = checkpoint.cut(), checkpoint.network
    device = text[0].tokens.device
    outside = replace(network, layers=()).map(lambda tensor: tensor.to(device, compute))
    progressed(0, len(network.layers))
    states = [outside.embedded(row.tokens) for row in text]
    rotations = [outside.rotations(row.positions, compute) for row in text]
    for index, layer in enumerate(network.layers):
        placed = layer.map(lambda tensor: tensor.to(device, compute))
        asked = narrower_widths(shape, index, widths)
        gram = None
        if asked and not refitted_file(directory, index).is_file():
            size = shape.layers[index].mlp_width
            gram = torch.zeros(size, size, dtype=torch.float64, device=device)
        for number, row in enumerate(text):
            states[number], neurons = outside.through(index, placed, states[number], rotations[number], row)
            if gram is not None and neurons is not None:
                add_products(gram, neurons, states[number])
        if gram is not None and layer.mlp is not None:
            if not gram.isfinite().all():
                reason = f"the neurons of layer {index} are not finite on the training data"
                raise UserError(f"training.refit: {reason}; set it to false, or lower training.learning_rate")
            weight = layer.mlp.down.weight.to(device)
            save_refitted(directory, shape, index, {width: refitted(weight, gram, width, ridge) for width in asked})
        progressed(index + 1, len(network.layers))


def add_products(gram: Tensor, neurons: Tensor, after: Tensor) -> None:
    """Add H' H of some tokens' neurons (N, width), whose states `after` the layer (N, outputs) are given, to the Gram
    matrix (width, width): products in float32, sums in float64."""
    single = neurons.float() / after.float().square().mean(dim=1, keepdim=True).sqrt()
    for rows, some in zip(torch.split(gram, ROWS), torch.split(single, ROWS, dim=1), strict=True):
        rows.add_(some.t() @ single)


def refitted(weight: Tensor, gram: Tensor, width: int, ridge: float) -> Tensor:
    """The projection (outputs, width) that takes the place of the first columns of `weight` (outputs, neurons), in its
    dtype, given the neurons' Gram matrix (neurons, neurons) in float64."""
    kept, lost = weight[:, :width].double(), weight[:, width:].double()
    system = gram[:width, :width].clone()
    # At least something, for an MLP that is silent on all of the text.
    system.diagonal().add_(ridge * gram.diagonal().mean() + torch.finfo(gram.dtype).tiny)
    factor = torch.linalg.cholesky(system)
    change = torch.cholesky_solve(gram[:width, width:] @ lost.t(), factor)
    return (kept + change.t()).to(weight.dtype)
