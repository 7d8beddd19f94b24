"""LoRA (arXiv 2106.09685) by the library peft: low-rank updates of all of a network's linear layers, merged at the
end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from shared.errors import UserError, first_line
from shared.supernet.decoder import Decoder, Linear, Projection

if TYPE_CHECKING:
    from peft import PeftModel

EVERY_LAYER = r"\d+"
"""The linear layers' names: numbers, as they stand in a list. LLM-Pruner and SliceGPT adapt all of them, too."""


def require_peft() -> None:
    """Raise UserError where peft is missing or can't be used."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"LoRA needs the package peft, which can't be used here ({first_line(error)}); "
            "install nasfarm's extra `models` again, or peft itself: pip install peft"
        ) from error


class AdaptedLinear(Projection):
    """A linear layer as peft computes it: the layer's own outputs and those of its low-rank update."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self._module(inputs)
        return outputs

    def map(self, change: Callable[[Tensor], Tensor]) -> "AdaptedLinear":
        raise TypeError("a layer with an update has two parts; merge them first")


@dataclass(frozen=True)
class AdaptedNetwork:
    """A network with an update beside each linear layer; embeddings, norms, biases, shortcuts and head have none.

    `base` is the network without, `model` holds peft's layers in the order in which a network hands out its own.
    """

    base: Decoder
    model: "PeftModel"

    @property
    def network(self) -> Decoder:
        """The network with its updates as they are now and will be."""
        return _with_linears(self.base, self.model.get_base_model(), AdaptedLinear)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The updates' factors in float32: all that is trained, in place."""
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Set the updates' factors."""
        with torch.no_grad():
            for name, parameter in self.weights.items():
                parameter.copy_(weights[name])

    def merged(self) -> Decoder:
        """The network with the updates added to its weights, in place: this network and its base are used up by it."""
        merged = self.model.merge_and_unload()
        return _with_linears(self.base, merged, lambda module: Linear(module.weight.detach(), module.bias))


def adapt(network: Decoder, rank: int, alpha: float, seed: int) -> AdaptedNetwork:
    """Put an update of a rank beside each linear layer of a network, whose own weights aren't trained.

    An update is the product of two factors times alpha / rank. It begins with nothing: one factor is zero, the other
    drawn by the seed.
    """
    from peft import LoraConfig, get_peft_model

    linears = nn.ModuleList(_module(projection) for layer in network.layers for projection in layer.projections)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=EVERY_LAYER, lora_dropout=0.0, bias="none")  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AdaptedNetwork(network, get_peft_model(linears, config))


def _module(projection: Projection) -> nn.Linear:
    rows, columns = projection.weight.shape
    module = nn.Linear(columns, rows, bias=projection.bias is not None, device="meta")
    module.weight = nn.Parameter(projection.weight.detach(), requires_grad=False)
    if projection.bias is not None:
        module.bias = nn.Parameter(projection.bias.detach(), requires_grad=False)
    return module


def _with_linears(network: Decoder, modules: Any, form: Callable[[Any], Projection]) -> Decoder:
    """A network with other linear layers: made of modules, one after the other."""
    following = iter(modules)
    layers = tuple(layer.projected(lambda _: form(next(following))) for layer in network.layers)
    return replace(network, layers=layers)
