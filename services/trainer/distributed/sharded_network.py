"""A network of which each of several processes holds a part, by PyTorch's own FSDP2 (`fully_shard`).

A layer's weights are gathered while it is computed, forwards and backwards, and their gradients are summed and divided
again: all processes take part in that together, whichever sub-network each of them trains. What is computed of the
gathered weights is the decoder that scoring has, cut out of them as out of a mapped checkpoint.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from services.trainer.distributed.processes import Processes
from services.trainer.examples import Example
from services.trainer.fine_tuning import ArchitecturesOfStep, StepLoss, response_loss, taught_by
from services.trainer.step_division import Share, shares
from services.trainer.weight_updates import held_dtype
from shared.architecture import Architecture
from shared.network.tensors import tensors
from shared.settings import MemoryRecipe
from shared.supernet.checkpoint import Checkpoint, cut_layer
from shared.supernet.decoder import Decoder, LayerObserver, LayerRunner, Sequences, run_once
from shared.supernet.device import compute_device
from shared.supernet.packing import pack
from shared.supernet.tree import Tree

Weights = Mapping[str, Tensor]


class ShardedNetwork:
    """The whole network of a checkpoint, and how the processes train it together."""

    def __init__(
        self,
        base: Checkpoint,
        weights: Weights,
        memory: MemoryRecipe,
        compute: torch.dtype,
        processes: Processes,
        teacher: Architecture | None = None,
        teacher_only: bool = False,
    ) -> None:
        """`weights` are the checkpoint's; of each layer in turn, a process keeps its part, as the recipe holds it. The
        predictions of the network `teacher` teach the sub-networks, besides the data or (`teacher_only`)
        instead of them."""
        self._processes, self._teacher, self._teacher_only = processes, teacher, teacher_only
        self._module = _Network(base, weights, memory, compute, processes)

    @property
    def weights(self) -> dict[str, Tensor]:
        """All weights by their names, as DTensors, in the order of the checkpoint."""
        return self._module.parameters_by_name()

    def gradients(self, of_step: ArchitecturesOfStep, step: int, batch: Sequence[Example]) -> StepLoss:
        """Compute the gradients of a step: those that one process would, of all its examples.

        A layer that no process's sub-network has takes no part, and so gets no gradients, as with one process. Of one
        that some have, the others' gradients are zero.
        """
        kind, architectures = of_step(step)
        passes = shares(batch, len(architectures), self._processes.size)
        trained = {one.network for each in passes for one in each if one.examples}
        layers = sorted({layer for number in trained for layer in architectures[number].layers})
        teacher, loss = self._teacher if kind == "subnet" else None, 0.0
        teacher_only = self._teacher_only and teacher is not None
        everything = sum(one.learnt_tokens(teacher_only) for each in passes for one in each)
        for each in passes:
            share = each[self._processes.rank]
            part = self._module(architectures[share.network], share, layers, teacher, teacher_only)
            part = part * (share.learnt_tokens(teacher_only) / everything)
            loss += self._processes.summed([part.item()])[0]
            if not math.isfinite(loss):
                break  # all together, before weights are updated, which some recipes do in the backward pass
            part.backward()
        tokens = sum(len(example.tokens) for example in batch)
        return StepLoss(kind, torch.tensor(loss), tokens)


class _Gathered(nn.Module):
    """Weights that are gathered at once, under their own names."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self._parameter_names = {name: name.replace(".", "/") for name in weights}  # torch wants no dots in them
        for name, tensor in weights.items():
            self.register_parameter(self._parameter_names[name], nn.Parameter(tensor))

    def named_weights(self) -> dict[str, Tensor]:
        """As they are now: whole while a pass goes through, and parts else."""
        return {name: getattr(self, parameter) for name, parameter in self._parameter_names.items()}


class _Layer(_Gathered):
    """A layer of the whole network."""

    def forward(self, state: Tensor, through: Callable[[Weights, Tensor], Tensor] | None) -> Tensor:
        """The state (T, hidden) after what is made of the layer; where nothing is, it is the same, and the gradients
        of the layer's weights are zero."""
        weights = self.named_weights()
        return _joined(state, weights) if through is None else through(weights, state)


class _Network(_Gathered):
    """Embeddings, last norm and head of the whole network, which are gathered all the time, and its layers."""

    def __init__(
        self, base: Checkpoint, weights: Weights, memory: MemoryRecipe, compute: torch.dtype, processes: Processes
    ) -> None:
        device, held = compute_device(), held_dtype(memory)

        def copied(names: Sequence[str]) -> dict[str, Tensor]:
            return {name: weights[name].to(device, held, copy=True) for name in names}

        specs = list(tensors(base.network))
        super().__init__(copied([spec.name for spec in specs if spec.layer is None]))
        self._base, self._order, self._memory = base, list(weights), memory
        self._shapes = {
            name: torch.empty(tensor.shape, dtype=compute, device="meta") for name, tensor in weights.items()
        }
        policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32)
        options: dict[str, Any] = {"mesh": init_device_mesh(device.type, (processes.size,)), "mp_policy": policy}
        self.layers = nn.ModuleList()
        for index in range(base.network.depth):
            layer = _Layer(copied([spec.name for spec in specs if spec.layer == index]))
            fully_shard(layer, **options)  # before the next one is there
            self.layers.append(layer)
        fully_shard(self, **options)
        for module in self.modules():
            if isinstance(module, FSDPModule):  # losses are parts of the whole batch's, so gradients are summed
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def parameters_by_name(self) -> dict[str, Tensor]:
        found = self.named_weights()
        for layer in self.layers:
            found |= layer.named_weights()  # type: ignore[operator]
        return {name: found[name] for name in self._order}

    def forward(
        self,
        architecture: Architecture,
        share: Share,
        layers: Sequence[int],
        teacher: Architecture | None,
        teacher_only: bool,
    ) -> Tensor:
        """The mean loss of a share; 0 of an empty one. `layers` are those in which some process takes part; before them
        all take part in the teacher's, if there is one; with `teacher_only` they learn from
        that alone."""
        outer = self.named_weights()
        network = self._cut(architecture, layers, outer)
        taught = None
        if not share.examples:
            state = torch.zeros(1, network.shape.hidden, dtype=network.norm.dtype, device=network.norm.device)
            if teacher is not None:
                with torch.no_grad():
                    self._without_part(state, teacher.layers)
            return self._without_part(_joined(state, outer), layers).sum()
        packed = pack([Tree.plain(example.tokens) for example in share.examples], network.norm.device)
        if teacher is not None:
            taught = taught_by(self._cut(teacher, teacher.layers, outer), packed, share.examples, teacher_only)
        return response_loss(network, packed, share.examples, self._memory, taught)

    def _cut(self, architecture: Architecture, layers: Sequence[int], outer: Weights) -> "_GatheredDecoder":
        """A network that is run along with the other processes' through layers, some of which it may lack."""
        network = self._base.cut(architecture, {**self._shapes, **outer})
        return _GatheredDecoder(**vars(network), run_layers=partial(self._through, network, architecture, layers))

    def _without_part(self, state: Tensor, layers: Sequence[int]) -> Tensor:
        """The same state, after layers that only the other processes compute."""
        for index in layers:
            state = self.layers[index](state, None)
        return state

    def _through(
        self,
        network: Decoder,
        architecture: Architecture,
        layers: Sequence[int],
        sequences: Sequences,
        run: LayerRunner,
    ) -> Tensor:
        """The state after the last layer of a network that has its layers' shapes, but not their weights."""
        places = {index: place for place, index in enumerate(architecture.layers)}

        def cut_and_run(index: int, weights: Weights, state: Tensor) -> Tensor:
            place = places[index]

            def step(state: Tensor) -> tuple[Tensor, None]:
                layer = cut_layer(network.shape.family, network.shape.layers[place], index, weights)
                return network.layer_outputs(place, layer, state, sequences), None

            return run(step, state)[0]

        state = network.embedded(sequences.tokens)
        for index in layers:
            state = self.layers[index](state, partial(cut_and_run, index) if index in places else None)
        return state


@dataclass(frozen=True)
class _GatheredDecoder(Decoder):
    """A network whose layers are run by modules that gather their weights for it."""

    run_layers: Callable[[Sequences, LayerRunner], Tensor]

    def hidden(self, sequences: Sequences, observe: LayerObserver | None = None, run: LayerRunner = run_once) -> Tensor:
        if observe is not None:
            raise ValueError("nobody can look into layers of which each process has a part")
        return self.outputs(self.run_layers(sequences, run))


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, state: Tensor, *weights: Tensor) -> Tensor:
        context.like = [(weight.shape, weight.dtype, weight.device) for weight in weights]
        return state.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        zeros = (torch.zeros(shape, dtype=dtype, device=device) for shape, dtype, device in context.like)
        return gradients[0], *zeros


def _joined(state: Tensor, weights: Weights) -> Tensor:
    """The state, on which the weights then have an influence of zero: without gradients a process would take no part
    when they are summed, and wait for ever for the others."""
    joined: Tensor = _Joined.apply(state, *weights.values())  # type: ignore[no-untyped-call]
    return joined
