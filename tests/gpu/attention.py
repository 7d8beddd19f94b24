"""The compiled kernel of FlexAttention finds what plain attention finds, and so do its gradients."""

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.supernet.flexible import block_mask, flexible_attention
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from tests.gpu.check import Machine, largest_share, require

FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16
TOLERANCE = {FLOAT32: 1e-4, BFLOAT16: 3e-2}
"""Of the largest number. The kernel multiplies float32 exactly, and weighs values by bfloat16 where these are."""
Shape = tuple[int, int, int]
"""Heads, those of keys and values, and their size."""
WIDE: Shape = (8, 8, 64)
GROUPED: Shape = (8, 2, 128)
NARROW: Shape = (4, 1, 12)
"""The kernel fills it up."""
CASES = (
    (WIDE, 0, None, FLOAT32),
    (GROUPED, 0, 40, BFLOAT16),
    (WIDE, 130, None, FLOAT32),
    (WIDE, 130, 40, FLOAT32),
    (GROUPED, 130, None, BFLOAT16),
    (NARROW, 130, 40, FLOAT32),
)
"""Of heads of a shape, behind a prefix of so many tokens, in a window; as few as there are kernels to compile. Without
a prefix, as in the fine-tuning, gradients are compared too."""


def compiled_kernel(machine: Machine) -> str:
    """In trees, in both dtypes, forwards and backwards."""
    worst: dict[torch.dtype, float] = {}
    for shape, before, window, dtype in CASES[-1:] if machine.tiny else CASES:
        worst[dtype] = max(worst.get(dtype, 0.0), _difference(machine, shape, before, window, dtype))
    for dtype, off in worst.items():
        require(off <= TOLERANCE[dtype], f"{dtype}: differs by up to {off:.2g} of plain attention's largest number")
    return ", ".join(f"{str(dtype).removeprefix('torch.')}: within {off:.1g}" for dtype, off in worst.items())


def _difference(machine: Machine, shape: Shape, before: int, window: int | None, dtype: torch.dtype) -> float:
    heads, kv_heads, size = shape
    trees = [
        Tree.merged([range(90), [*range(60), *range(200, 260)], [*range(60), 7]], before)[0],
        Tree.merged([range(100)], before)[0],
    ]
    packed = pack(trees, machine.device)
    tokens = len(packed.tokens)
    generator = torch.Generator().manual_seed(0)
    counts = ((tokens, heads), (before + tokens, kv_heads), (before + tokens, kv_heads))
    given = [torch.randn(count, several, size, generator=generator) for count, several in counts]
    # Gradients are not for a CPU, whose own attention has them.
    trained = before == 0 and machine.device.type != "cpu"
    own = [tensor.to(machine.device, dtype).requires_grad_(trained) for tensor in given]
    plain = [tensor.to(dtype).double().requires_grad_(trained) for tensor in given]
    queries, keys, values = own
    found = flexible_attention(queries, keys, values, block_mask(packed.positions, packed.ends, before, window))
    expected = _plainly(plain, _seen(trees, packed.starts, before, window))
    if not trained:
        return largest_share([found], [expected])
    for result in (found, expected):
        result.double().square().sum().backward()
    return largest_share([found.detach(), *_gradients(own)], [expected.detach(), *_gradients(plain)])


def _gradients(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.grad for tensor in tensors if tensor.grad is not None]


def _seen(trees: list[Tree], starts: list[int], before: int, window: int | None) -> Tensor:
    """Who sees whom, token by token, (T, before + T)."""
    tokens = sum(map(len, trees))
    seen = torch.zeros(tokens, before + tokens, dtype=torch.bool)
    for tree, start in zip(trees, starts, strict=True):
        for query, position in enumerate(tree.positions):
            for key in range(before):
                seen[start + query, key] = window is None or position - key < window
            for key, other in enumerate(tree.positions):
                visible = key <= query < tree.ends[key] and (window is None or position - other < window)
                seen[start + query, before + start + key] = visible
    return seen


def _plainly(given: list[Tensor], seen: Tensor) -> Tensor:
    queries, keys, values = (tensor.transpose(0, 1) for tensor in given)
    share = queries.shape[0] // keys.shape[0]
    keys, values = (tensor.repeat_interleave(share, dim=0) for tensor in (keys, values))
    scores = (queries @ keys.transpose(1, 2) / queries.shape[2] ** 0.5).masked_fill(~seen, float("-inf"))
    return (F.softmax(scores, dim=-1) @ values).transpose(0, 1).flatten(1)
