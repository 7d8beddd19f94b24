"""GPUs of which `nasfarm init` says how long they take, by published figures: our code was not measured on them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Accelerator:
    """A GPU, and the most dense bfloat16 operations a second that its maker states."""

    name: str
    operations: float

    @property
    def rate(self) -> float:
        """Parameters times tokens a second in a forward pass: one multiplication and one addition each."""
        return SHARE * self.operations / 2


ACCELERATORS = (
    # NVIDIA A100 Tensor Core GPU, data sheet: 312 teraFLOPS in bfloat16 (624 with sparsity), in all its forms.
    Accelerator("A100", 312e12),
    # NVIDIA H100 Tensor Core GPU, data sheet, SXM: 1,979 teraFLOPS in bfloat16 with sparsity, so half as many without.
    Accelerator("H100 SXM", 989e12),
)
SHARE = 0.4
"""The share of these operations that is assumed to be useful. MosaicML published for the training of a network of 7
billion parameters, in rows of 1,024 and 2,048 tokens, 58 and 64 % on A100s with 80 GB, 51 % on those with 40 GB, 43 and
46 % on H100s (github.com/mosaicml/llm-foundry, scripts/train/benchmarking/README.md, column MFU)."""
