"""What is exported: one network, as it is cut out of a checkpoint."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from shared.architecture import Architecture, derive
from shared.network.shape import NetworkShape
from shared.network.tensors import tensors
from shared.supernet.checkpoint import Checkpoint


@dataclass(frozen=True)
class Origin:
    """What a network and its base are called, and the base's license (such as apache-2.0), if it is known."""

    title: str
    base_model: str
    license: str | None = None


@dataclass(frozen=True)
class ExportedNetwork:
    """An architecture of a checkpoint, which is a super-network or any other one (then `dense`, as a rule).

    `architecture.quantization` is int8 where the network was measured so; `weights` are those before quantisation.
    """

    checkpoint: Checkpoint
    architecture: Architecture

    @cached_property
    def shape(self) -> NetworkShape:
        """The network by itself."""
        return derive(self.checkpoint.network, self.architecture)

    @cached_property
    def quantized(self) -> frozenset[str]:
        """Names of the weights that INT8 is about: those of the layers' linear layers."""
        return frozenset(spec.name for spec in tensors(self.shape) if spec.kind == "linear" and not spec.bias)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor once under the name that the network's own checkpoint gives it, in the checkpoint's dtype: views
        of the mapped files, so that whoever takes one after the other needs the memory of one."""
        return self.checkpoint.cut(self.architecture.quantized("none")).weights()
