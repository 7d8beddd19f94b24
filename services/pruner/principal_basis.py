"""The basis in which a sliced network holds its state: found by principal component analysis, and put into weights."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.errors import UserError


@dataclass(frozen=True)
class Basis:
    """`directions` (hidden, kept), orthonormal columns in float64: a state x (hidden,) is held as its coordinates along
    them, times `scale`.

    RMSNorm divides by the mean over the kept numbers; that scale, sqrt(kept / hidden), makes it the mean over all of x,
    with the norm's epsilon as it was, where the directions hold all of x.
    """

    directions: Tensor

    @property
    def scale(self) -> float:
        """Of the coordinates."""
        hidden, kept = self.directions.shape
        return float((kept / hidden) ** 0.5)

    @property
    def lifting(self) -> Tensor:
        """The matrix (hidden, kept) that makes x of what is held."""
        return self.directions / self.scale

    def reading(self, weight: Tensor) -> Tensor:
        """A weight (outputs, hidden) for inputs that are held in this basis, (outputs, kept)."""
        return weight.to(self.directions) @ self.lifting

    def writing(self, weight: Tensor) -> Tensor:
        """A weight (hidden, inputs), or a bias (hidden,), whose outputs are held in this basis: (kept, inputs)."""
        return self.scale * (self.directions.T @ weight.to(self.directions))

    def held(self, states: Tensor) -> Tensor:
        """States, or embeddings, (N, hidden) as they are held in this basis, (N, kept)."""
        return self.scale * (states.to(self.directions) @ self.directions)


def principal_basis(states: Iterable[Tensor], kept: int) -> Basis:
    """The `kept` directions that hold most of the states, all in float64: eigenvectors of the sum of x xᵀ over what
    RMSNorm reads. No mean is subtracted, as RMSNorm subtracts none.

    SliceGPT's section 3.3 sums over what RMSNorm makes of the states, its authors' code over the states themselves.
    The latter is done here: the shortcut loses what is cut off, too, and adds states up as large as they are. On the
    example model it gives much the lower perplexity.

    `states`: parts (N, hidden), at least one. Raises UserError where they hold no numbers.
    """
    moments: Tensor | None = None
    for part in states:
        exact = part.double()
        products = exact.T @ exact
        moments = products if moments is None else moments.add_(products)
    if moments is None:
        raise ValueError("no states")
    if not bool(moments.isfinite().all()):
        raise UserError("slicegpt: the network's states are no finite numbers; is the checkpoint damaged?")
    return Basis(torch.linalg.eigh(moments).eigenvectors.flip(1)[:, :kept].contiguous())
