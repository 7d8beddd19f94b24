"""Fine-tuning: its steps are a CPU's, and each recipe of memory fits where it should."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from services.trainer.examples import Example
from services.trainer.fine_tuning import fine_tune, gradients_of
from services.trainer.lean_adamw import LeanAdamW
from services.trainer.training_state import TrainingState
from shared.architecture import Architecture
from shared.memory_needs import PREDICTED, SCRATCH, fine_tuning_needs
from shared.network.config import network_of
from shared.network.sizes import outer_parameters, parameters
from shared.settings import MemoryRecipe, TrainingSettings
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from tests.gpu.check import Machine, largest_difference, largest_share, require
from tests.gpu.networks import Items, config_of, random_checkpoint

TOLERANCE = 0.01
"""Of the change of all weights, relative to its size: AdamW makes much of the sign of a gradient that is nearly 0."""
STEPS = 3
RATE = 1e-3
LOW_RATE = 1e-6
"""At which a large network stays what it is."""


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


def states_of_8_bits(machine: Machine) -> str:
    """What `training.memory: lean` keeps of each weight; and how far it moves them on average, as each one is rounded
    at random."""
    generator = torch.Generator().manual_seed(0)
    start = (torch.randn(256, 1024, generator=generator) * 0.02).bfloat16()
    # Alike within a row, so that the row's mean tells how far its weights were to go.
    gradients = [torch.randn(256, 1, generator=generator).expand_as(start) * 1e-3 for _ in range(STEPS)]

    def updated(device: torch.device) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        weight, optimizer = start.to(device, copy=True), LeanAdamW(0.1, seed=0)
        for step, gradient in enumerate(gradients):
            optimizer.update("weight", weight, gradient.bfloat16().to(device), step, RATE, None)
        state = optimizer.state_dict()["weight"]
        codes, scales = ([state[f"{part}{kind}"] for part in ("first", "second")] for kind in ("", "_scale"))
        return (weight.cpu().float() - start.float()).mean(1), codes, scales

    found, expected = updated(machine.device), updated(torch.device("cpu"))
    require(largest_difference(found[1], expected[1]) <= 1, "states differ from a CPU's by more than the last bit")
    scales, moved = largest_share(found[2], expected[2]), largest_share([found[0]], [expected[0]])
    require(scales < 1e-4, f"scales of states differ by {scales:.1e} from a CPU's")
    require(moved < 0.05, f"weights move {moved:.1%} differently from a CPU's")
    return f"states and scales are a CPU's, weights move as far within {moved:.1%}"


def full_1b(machine: Machine) -> str:
    """`training.memory: full`, a network of 1.1 billion parameters."""
    return _memory(machine, "1B", "full", 18)


def lean_1b(machine: Machine) -> str:
    """`training.memory: lean`."""
    return _memory(machine, "1B", "lean", 6.5)


def leanest_7b(machine: Machine) -> str:
    """`training.memory: leanest`, a network of 7 billion parameters: where a card of 40 GB has room for it, too."""
    return _memory(machine, "7B", "leanest", 4.5)


def lean_7b(machine: Machine) -> str:
    """`training.memory: lean`."""
    return _memory(machine, "7B", "lean", 6.5)


def _memory(machine: Machine, size: str, recipe: MemoryRecipe, most_bytes: float) -> str:
    """Peak memory, tokens a second and share of the card's rate of some steps of the whole network."""
    network = network_of(config_of(machine, size).to_dict(), "config")
    tokens, length = (256, 24) if machine.tiny else (4096, 100)
    needs = fine_tuning_needs(network, _settings(tokens, STEPS, LOW_RATE), recipe, "bfloat16", sequence_tokens=length)
    count = parameters(network)
    most = most_bytes * count + needs.activations + needs.logits + SCRATCH
    machine.require_room(most / 1e9)
    checkpoint = random_checkpoint(machine, size, torch.float32 if recipe == "full" else torch.bfloat16)
    machine.empty()
    took = machine.seconds(lambda: _trained(machine, checkpoint, recipe, tokens, 2, LOW_RATE))
    took = machine.seconds(lambda: _trained(machine, checkpoint, recipe, tokens, STEPS, LOW_RATE)) / STEPS
    peak = machine.peak_bytes()
    layers = count - outer_parameters(network)
    # Two for each product, and as much again for either gradient; what is computed again isn't counted.
    share = 6 * layers * tokens / took / machine.products_per_second()
    said = (
        f"peak {peak / 1e9:.1f} GB ({peak / count:.1f} B a parameter; computed: {needs.device / 1e9:.1f} GB), "
        f"{tokens / took:.0f} tokens/s, {share:.0%} of the card's rate"
    )
    require(peak <= most, f"{said}; {most_bytes} B a parameter and activations, {most / 1e9:.1f} GB, were promised")
    return said


def _settings(tokens: int, steps: int, rate: float) -> TrainingSettings:
    return TrainingSettings(data="plain_facts", steps=steps, tokens_per_step=tokens, learning_rate=rate, warmup_steps=0)


def _trained(
    machine: Machine,
    checkpoint: Checkpoint,
    recipe: MemoryRecipe = "full",
    tokens: int = 256,
    steps: int = STEPS,
    rate: float = RATE,
) -> dict[str, Tensor]:
    """The weights after some steps, of random text; the checkpoint's own where they are on the device."""
    weights = {name: tensor.detach().to(machine.device) for name, tensor in checkpoint.weights.items()}
    state = TrainingState.of_single("", weights)
    whole = Architecture(layers=tuple(range(checkpoint.network.depth)), mlp_widths=checkpoint.network.mlp_widths)
    # A small network is computed in float32, so that it can be compared.
    dtype = torch.float32 if machine.tiny or parameters(checkpoint.network) < 10**8 else torch.bfloat16
    rows = Items.random(64 * steps, checkpoint.network.vocab_size, 100 if tokens > 1000 else 24).contexts
    settings = _settings(tokens, steps, rate)

    def network() -> Decoder:
        return checkpoint.cut(whole, state.weights).map(lambda tensor: tensor.to(dtype))

    with tempfile.TemporaryDirectory() as directory:
        fine_tune(
            gradients_of(lambda _: ("full", [network]), machine.device, recipe),
            [Example(tuple(row), len(row) - round(PREDICTED * len(row))) for row in rows],
            settings,
            state,
            Path(directory) / "state",
            Path(directory) / "log",
            lambda _: None,
            memory=recipe,
        )
    return {name: tensor.detach() for name, tensor in state.weights.items()}
