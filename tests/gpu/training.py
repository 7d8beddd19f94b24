"""Fine-tuning: its steps are a CPU's, and each recipe of memory fits where it should."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from services.trainer.examples import Example
from services.trainer.fine_tuning import fine_tune, gradients_of
from services.trainer.training_state import TrainingState
from shared.architecture import Architecture
from shared.network.config import network_of
from shared.network.sizes import outer_parameters, parameters
from shared.settings import MemoryRecipe, TrainingSettings
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from tests.gpu.check import Machine, require
from tests.gpu.networks import Items, config_of, random_checkpoint

TOLERANCE = 0.01
"""Of the change of all weights, relative to its size: AdamW makes much of the sign of a gradient that is nearly 0."""
STEPS = 3
RATE = 1e-3


def same_as_a_cpu(machine: Machine) -> str:
    """The weights after some steps of a tiny network, in float32."""
    cpu = Machine(torch.device("cpu"), tiny=True)

    def change(where: Machine) -> Tensor:
        before, trained = (random_checkpoint(cpu, "tiny", torch.float32) for _ in range(2))
        after = _trained(where, trained)
        return torch.cat([(after[name].cpu() - tensor).flatten() for name, tensor in before.weights.items()])

    found, expected = change(machine), change(cpu)
    require(float(expected.norm()) > 0, "nothing was learnt")
    off = float((found - expected).norm() / expected.norm())
    require(off <= TOLERANCE, f"what {STEPS} steps change differs by {off:.2%} from what they change on a CPU")
    return f"what {STEPS} steps change is within {off:.1e} of what they change on a CPU"


def full_1b(machine: Machine) -> str:
    """`training.memory: full`, a network of 1.1 billion parameters."""
    return _memory(machine, "1B", "full", 18)


def lean_1b(machine: Machine) -> str:
    """`training.memory: lean`."""
    return _memory(machine, "1B", "lean", 6.5)


def leanest_7b(machine: Machine) -> str:
    """`training.memory: leanest`, a network of 7 billion parameters: within a card of 40 GB."""
    return _memory(machine, "7B", "leanest", 4.5)


def lean_7b(machine: Machine) -> str:
    """`training.memory: lean`."""
    return _memory(machine, "7B", "lean", 6.5)


def _memory(machine: Machine, size: str, recipe: MemoryRecipe, most_bytes: float) -> str:
    """Peak memory, tokens a second and share of the card's rate of some steps of the whole network."""
    few = machine.tiny
    count = parameters(network_of(config_of(machine, size).to_dict(), "config"))
    activations = 0 if few else 12e9
    machine.require_room(count * most_bytes / 1e9 + activations / 1e9)
    checkpoint = random_checkpoint(machine, size, torch.float32 if recipe == "full" else torch.bfloat16)
    machine.empty()
    tokens = 256 if few else 4096
    took = machine.seconds(lambda: _trained(machine, checkpoint, recipe, tokens, steps=2))
    took = machine.seconds(lambda: _trained(machine, checkpoint, recipe, tokens, STEPS)) / STEPS
    peak = machine.peak_bytes()
    layers = count - outer_parameters(checkpoint.network)
    # Two for each product, and as much again for either gradient; what is computed again isn't counted.
    share = 6 * layers * tokens / took / machine.products_per_second()
    said = f"peak {peak / 1e9:.1f} GB ({peak / count:.1f} B a parameter), {tokens / took:.0f} tokens/s, {share:.0%}"
    require(peak <= most_bytes * count + activations, f"{said}; at most {most_bytes} B and activations were promised")
    return said


def _trained(
    machine: Machine, checkpoint: Checkpoint, recipe: MemoryRecipe = "full", tokens: int = 256, steps: int = STEPS
) -> dict[str, Tensor]:
    """The weights after some steps, of random text; the checkpoint's own where they are on the device."""
    weights = {name: tensor.detach().to(machine.device) for name, tensor in checkpoint.weights.items()}
    state = TrainingState.of_single("", weights)
    whole = Architecture(layers=tuple(range(checkpoint.network.depth)), mlp_widths=checkpoint.network.mlp_widths)
    # A small network is computed in float32, so that it can be compared.
    dtype = torch.float32 if machine.tiny or parameters(checkpoint.network) < 10**8 else torch.bfloat16
    rows = Items.random(64 * steps, checkpoint.network.vocab_size, 100 if tokens > 1000 else 24).contexts
    settings = TrainingSettings(
        data="plain_facts", steps=steps, tokens_per_step=tokens, learning_rate=RATE, warmup_steps=0
    )

    def network() -> Decoder:
        return checkpoint.cut(whole, state.weights).map(lambda tensor: tensor.to(dtype))

    with tempfile.TemporaryDirectory() as directory:
        fine_tune(
            gradients_of(lambda _: ("full", [network]), machine.device, recipe),
            [Example(tuple(row), 1) for row in rows],
            settings,
            state,
            Path(directory) / "state",
            Path(directory) / "log",
            lambda _: None,
            memory=recipe,
        )
    return {name: tensor.detach() for name, tensor in state.weights.items()}
