"""What fine-tuning a network takes: memory of the device, memory of the host and disk, part by part, computed from the
network's shape before anything is loaded. Free of torch.
What scoring takes is in services.evaluator.batch_size.

On a CPU the device's memory is all there is, and has room for what the host needs. All numbers are bytes. The parts
follow from what is held at the same time (services.trainer.fine_tuning); `python -m tests.benchmarks.training_memory`
measures how far they are from the truth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from shared.messages import Dtype
from shared.network.shape import LayerShape, NetworkShape
from shared.network.sizes import WEIGHT_BYTES, parameters, refitted_parameters
from shared.network.tensors import tensors
from shared.settings import MemoryRecipe, SpaceSettings, TrainingSettings

RECIPES: tuple[MemoryRecipe, ...] = ("full", "lean", "leanest")
"""From the one that takes most to the one that takes least."""

SINGLE = 4
"""Bytes of a float32."""
QUANTISED_STATES = 2 * (1 + SINGLE / 256)
"""Bytes of AdamW's two states of a weight: one for each, and a scale in float32 for each block of 256."""
CHUNKED_LOGITS = 2**24
"""Logits that are there together where they are computed a chunk at a time (services.trainer.chunked_loss)."""
SCRATCH = 3 << 25
"""What a step takes besides: buffers of the optimiser, of single matrix products and of torch."""
ROOM = 0.9
"""Share of a memory that is left to a fine-tuning by all else."""
PREDICTED = 0.6
"""Share of a step's tokens that belong to responses, about: of these alone logits are computed. Those of all tokens,
where a teacher teaches alone, are never there together."""
SEQUENCE_TOKENS = 128
"""Length of a training example, as long as nothing was read."""


@dataclass(frozen=True)
class FineTuningNeeds:
    """What a fine-tuning takes, in bytes.

    Of the device: `weights` as they are held, the `copy` of them that a step computes with, those of a `teacher` that
    isn't trained, `optimizer` states, `gradients`; `activations` that the backward pass needs, and `logits`. `host`,
    where the device is a GPU: what is written at the end, and as much to put neurons in order before. On disk: one
    `saved_state` and the `checkpoint` that comes out, with what is refitted. Refitting itself takes less than all of
    this, as it looks at a layer at a time.
    """

    weights: int
    optimizer: int
    gradients: int
    copy: int
    activations: int
    logits: int
    host: int
    saved_state: int
    checkpoint: int
    teacher: int = 0

    @property
    def device(self) -> int:
        """At its peak: in the backward pass gradients come as activations go. The copy goes too, but piece by piece,
        which leaves holes that gradients don't fit into."""
        passing = max(self.gradients, self.activations + self.logits)
        return self.weights + self.copy + self.teacher + self.optimizer + passing + SCRATCH

    @property
    def disk(self) -> int:
        """At its peak: a state is written before the former one goes, and so is the checkpoint."""
        return self.saved_state + max(self.saved_state, self.checkpoint)

    def shared_by(self, processes: int) -> "FineTuningNeeds":
        """What one of several processes takes of its device: each holds its rows of everything and computes its part
        of the examples. What they gather for a moment, a layer at a time, is left out."""
        parts = ("weights", "copy", "optimizer", "gradients", "activations", "logits")
        return replace(self, **{part: -(-getattr(self, part) // processes) for part in parts})


def fine_tuning_needs(
    network: NetworkShape,
    training: TrainingSettings,
    recipe: MemoryRecipe,
    compute: Dtype,
    stored_bytes: int = 2,
    sequence_tokens: int = SEQUENCE_TOKENS,
    refitted: int = 0,
    teacher: NetworkShape | None = None,
) -> FineTuningNeeds:
    """What fine-tuning all of a network's weights takes, where steps are computed in `compute`.

    `stored_bytes` is the size of a number in the model's checkpoint, and so in the one that comes out;
    `sequence_tokens` the length of the examples, on which attention's scores depend; `refitted` how many numbers are
    refitted (`refitted_numbers`); `teacher` the network that teaches this one and is none of its own, held in the dtype
    that computes.
    """
    numbers, tokens = parameters(network), training.tokens_per_step
    predicted = round(PREDICTED * tokens)
    width = WEIGHT_BYTES[compute]
    layers = [_layer_activations(layer, width, min(sequence_tokens, tokens)) for layer in network.layers]
    if recipe == "full":
        copy = 0 if compute == "float32" else width * numbers
        weights, optimizer, gradients = SINGLE * numbers, 2 * SINGLE * numbers, SINGLE * numbers
        activations = tokens * sum(layers)
        logits = predicted * network.vocab_size * (width + 2 * SINGLE)
        saved = 3 * SINGLE * numbers
    else:
        copy, width = 0, WEIGHT_BYTES["bfloat16"]
        weights, optimizer = width * numbers, round(QUANTISED_STATES * numbers)
        gradients = width * (numbers if recipe == "lean" else max(spec.numbers for spec in tensors(network)))
        activations = tokens * (sum(width * layer.hidden for layer in network.layers) + max(layers))
        logits = width * network.vocab_size * network.outputs  # the head's gradient comes with the loss
        logits += min(predicted * network.vocab_size, CHUNKED_LOGITS) * (2 * SINGLE + 2 * width)
        saved = weights + optimizer
    return FineTuningNeeds(
        weights=weights,
        optimizer=optimizer,
        gradients=gradients,
        copy=copy,
        activations=activations,
        logits=logits,
        host=2 * stored_bytes * numbers,
        saved_state=saved,
        checkpoint=stored_bytes * (numbers + refitted),
        teacher=0 if teacher is None else width * parameters(teacher),
    )


def refitted_numbers(network: NetworkShape, space: SpaceSettings, training: TrainingSettings) -> int:
    """Numbers that a super-network has beside its weights."""
    return refitted_parameters(network, space.mlp_widths) if training.refit else 0


def recipes_for(training: TrainingSettings) -> tuple[MemoryRecipe, ...]:
    """Those of RECIPES by which a super-network can be trained so: sub-networks that share a step need its gradients,
    which leanest doesn't keep."""
    return RECIPES if training.subnets_per_step == 1 else RECIPES[:-1]


def first_that_fits(
    memory: int, recipes: Sequence[MemoryRecipe], needs: Callable[[MemoryRecipe], FineTuningNeeds]
) -> MemoryRecipe:
    """The recipe that takes most of those that fit into so many bytes of the device; the last one if none does."""
    return next((recipe for recipe in recipes if needs(recipe).device <= ROOM * memory), recipes[-1])


def _layer_activations(layer: LayerShape, width: int, length: int) -> int:
    """Bytes that the backward pass through a layer needs of each token, `width` of a number, in sequences of a
    length."""
    total = 0
    if layer.attention is not None:
        shape = layer.attention
        total += (SINGLE + 2 * width) * layer.hidden  # the norm's input in float32, its output twice
        total += width * (2 * shape.queries + 2 * shape.keys + shape.heads * length)
    if layer.mlp is not None:
        total += (SINGLE + 2 * width) * layer.between + 4 * width * layer.mlp.width
    return total
