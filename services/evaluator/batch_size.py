"""How many tokens go through a network in one batch: enough to fill the machine, few enough for its memory; and how
much memory that is. Computed, not measured."""

import torch

from services.evaluator.scoring import CACHED_LOGITS, GPU_HEAD_TOKENS, GPU_LOGITS, HEAD_TOKENS, WAVE_BATCHES
from services.evaluator.together import MOST_HELD
from shared.messages import Dtype
from shared.network.shape import LayerShape, NetworkShape
from shared.network.sizes import WEIGHT_BYTES, layer_parameters, weight_bytes

MOST_TOKENS = {"cpu": 2**12, "cuda": 2**14}
"""More don't make it faster, and on a GPU the mask of a row's blocks is made of the square of its length."""
LEAST_TOKENS = 2**9
"""A GPU with room for fewer runs out of memory, which is told."""
SHARE = 0.7
"""Of the free memory: the rest is for what torch can't use of it, and for others."""
SINGLE = 4


def batch_tokens(network: NetworkShape, dtype: Dtype, device: torch.device) -> int:
    """Tokens of a batch for sub-networks of a network whose weights are on the device already: a power of two, so that
    tasks needn't be prepared anew for each change of what is free."""
    if device.type != "cuda":
        return MOST_TOKENS[device.type]
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    # A sub-network in INT8 is no view: it lies beside the weights.
    room = SHARE * (free + cached) - weight_bytes(network, dtype, "int8") - fixed_bytes(network, dtype, device.type)
    fitting = max(LEAST_TOKENS, min(MOST_TOKENS[device.type], int(room / token_bytes(network, dtype))))
    return 1 << (fitting.bit_length() - 1)


def token_bytes(network: NetworkShape, dtype: Dtype) -> int:
    """Memory that scoring takes for each token of a batch: its states, and those of the other batches of a wave, once
    more for each place at which networks part that are scored together; what the widest layer makes of it. The same for
    a network alone, whose batches are to be the same, to the same rounding."""
    hidden = max(max(layer.hidden, layer.between, layer.outputs) for layer in network.layers)
    widest = max(_numbers(layer) for layer in network.layers)
    # A norm is computed in float32.
    states = (1 + MOST_HELD) * WAVE_BATCHES + 4
    return WEIGHT_BYTES[dtype] * (states * hidden + widest) + 2 * SINGLE * hidden


def fixed_bytes(network: NetworkShape, dtype: Dtype, device: str) -> int:
    """Memory that is taken however many tokens a batch has: by the language head, or on a GPU to make a mask of blocks,
    in which there are four bytes for each token that may see another, and on a CPU by a layer's weights reordered."""
    if device == "cuda":
        head = WEIGHT_BYTES[dtype] * GPU_HEAD_TOKENS * network.vocab_size + 2 * SINGLE * GPU_LOGITS
        return max(head, SINGLE * MOST_TOKENS[device] ** 2)
    head = WEIGHT_BYTES[dtype] * HEAD_TOKENS * network.vocab_size + 2 * SINGLE * CACHED_LOGITS
    return head + WEIGHT_BYTES[dtype] * max(layer_parameters(network.family, layer) for layer in network.layers)


def scoring_bytes(network: NetworkShape, dtype: Dtype, device: str, refitted: int = 0) -> int:
    """Memory that scoring the whole network takes on a device ("cpu", "cuda"), with batches as large as they get;
    `refitted` numbers lie beside its weights there."""
    made = MOST_TOKENS[device] * token_bytes(network, dtype) + fixed_bytes(network, dtype, device)
    return weight_bytes(network, dtype, "none") + WEIGHT_BYTES[dtype] * refitted + made


def _numbers(layer: LayerShape) -> int:
    """Numbers that a layer makes of each token at most: queries and keys before and after they are turned, and what
    turns them; or an MLP's neurons three times."""
    attention = 0 if layer.attention is None else 4 * layer.attention.queries + 4 * layer.attention.keys
    return max(attention, 3 * layer.mlp_width)
