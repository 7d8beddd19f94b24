"""Speed of the fine-tuning on the example model: ours against a plain Hugging Face loop, and `lean` against `full`.

Run as `python -m tests.benchmarks.training [--rounds 3] [--tokens 1024]`, with NASFARM_DATA set where the hub is out of
reach. All take the same batches of Alpaca with the same AdamW on the same threads, in the dtype that the machine
prefers, in turns: ours trains the full network, or the full network and sub-networks in turn; transformers' trains the
full one, once with the batch padded to its longest example and once with the batch packed into one row (positions begin
anew with each example, and an attention mask keeps them apart). Tokens a second count no padding; medians and ranges
over the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from services.trainer.examples import Example, batches
from services.trainer.fine_tuning import elastic, gradients_of, learning_rate
from services.trainer.lean_adamw import BETAS
from services.trainer.make_supernet import cut_out, cutting
from services.trainer.training_data import load_training_data
from services.trainer.weight_updates import computing_dtype, held_dtype, weight_updates
from shared.environment import Environment
from shared.errors import UserError
from shared.settings import MemoryRecipe, TrainingSettings
from shared.space import SearchSpace
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import compute_device, preferred_dtype, torch_dtype
from shared.supernet.order import drop_order
from shared.supernet.source import EXAMPLE_MODEL, fetch_model

IGNORED = -100
Step = Callable[[int, Sequence[Example]], None]


def main() -> None:
    """Run all of them in turns, and print their rates and ratios."""
    asked = _arguments()
    environment = Environment.read()
    torch.set_num_threads(environment.threads)
    training = TrainingSettings(steps=10**6, tokens_per_step=asked.tokens)
    try:
        directory, _ = fetch_model(EXAMPLE_MODEL)
        base = Checkpoint.open(directory)
        data = load_training_data(base, training, environment)
    except UserError as error:
        print(f"skipped: {error}")
        return
    steps: dict[str, Callable[[], Step]] = {
        "ours, full network": lambda: ours(base, training, "full", alternating=False),
        "ours, alternating": lambda: ours(base, training, "full", alternating=True),
        "ours, lean, alternating": lambda: ours(base, training, "lean", alternating=True),
        "ours, leanest, alternating": lambda: ours(base, training, "leanest", alternating=True),
        "transformers, padded": lambda: theirs(directory, training, padded),
        "transformers, packed": lambda: theirs(directory, training, packed_row),
    }
    rates: dict[str, list[float]] = {name: [] for name in steps}
    stream = batches(data.examples, asked.tokens, 0)
    print(f"{environment.threads} threads, {preferred_dtype()}, {asked.tokens} tokens a step", flush=True)
    for _ in range(asked.rounds):
        those = list(islice(stream, 1 + asked.steps))  # the first warms up
        for name, make in steps.items():
            rates[name].append(timed(make(), those))
            print(f"{name:28}{rates[name][-1]:8.0f} tokens/s", flush=True)
    print()
    for name, values in rates.items():
        print(f"{name:28}{statistics.median(values):8.0f} ({min(values):.0f} to {max(values):.0f}) tokens/s")
    for one, other in (
        ("ours, full network", "transformers, padded"),
        ("ours, full network", "transformers, packed"),
        ("ours, alternating", "transformers, padded"),
        ("ours, alternating", "transformers, packed"),
        ("ours, lean, alternating", "ours, alternating"),
        ("ours, leanest, alternating", "ours, alternating"),
    ):
        ratios = [first / second for first, second in zip(rates[one], rates[other], strict=True)]
        print(f"{one} : {other}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def timed(step: Step, given: Sequence[Sequence[Example]]) -> float:
    """Tokens a second over all batches but the first."""
    step(0, given[0])
    started = time.perf_counter()
    for number, batch in enumerate(given[1:], start=1):
        step(number, batch)
    return sum(len(example.tokens) for batch in given[1:] for example in batch) / (time.perf_counter() - started)


def ours(base: Checkpoint, training: TrainingSettings, memory: MemoryRecipe, alternating: bool) -> Step:
    """A step of `fine_tune`."""
    device, dtype = compute_device(), held_dtype(memory)
    weights = {name: tensor.to(device, dtype, copy=True).requires_grad_() for name, tensor in base.weights.items()}
    updates = weight_updates(memory, weights, training, {})
    depth, width = base.network.depth, max(base.network.mlp_widths)
    order = drop_order(depth, None)
    space = SearchSpace(base.network, (depth, depth - depth // 16), (width, width * 3 // 4, width // 2), order)
    compute = computing_dtype(memory, torch_dtype(preferred_dtype()))
    networks = cut_out(cutting(base, weights, compute), elastic(base.network, space, training))
    gradients = gradients_of(networks, device, memory)

    def step(number: int, batch: Sequence[Example]) -> None:
        updates.begin(number, learning_rate(number, training))
        loss = gradients(number if alternating else 0, batch).loss
        assert bool(loss.isfinite()) and bool(updates.gradient_norm().isfinite())
        updates.finish()

    return step


Laid = tuple[dict[str, Tensor], Tensor]


def theirs(directory: Path, training: TrainingSettings, lay: Callable[[Sequence[Example]], Laid]) -> Step:
    """A step as one writes it with transformers: weights in float32, autocast to the dtype that the machine prefers."""
    device, dtype = compute_device(), torch_dtype(preferred_dtype())
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa").to(device)
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, betas=BETAS, weight_decay=0, fused=True
    )

    def step(number: int, batch: Sequence[Example]) -> None:
        inputs, labels = lay(batch)
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(number, training)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = model(**inputs, labels=labels.to(device), use_cache=False).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        assert bool(loss.isfinite()) and bool(norm.isfinite())
        optimizer.step()

    return step


def padded(batch: Sequence[Example]) -> Laid:
    """A line for each example, padded to the longest."""
    longest = max(len(example.tokens) for example in batch)
    tokens = torch.zeros(len(batch), longest, dtype=torch.long)
    labels, seen = torch.full_like(tokens, IGNORED), torch.zeros_like(tokens)
    for line, example in enumerate(batch):
        length = len(example.tokens)
        tokens[line, :length] = torch.tensor(example.tokens)
        labels[line, example.response : length] = tokens[line, example.response : length]
        seen[line, :length] = 1
    return {"input_ids": tokens, "attention_mask": seen}, labels


def packed_row(batch: Sequence[Example]) -> Laid:
    """All examples in one line, each attending to itself alone."""
    lengths = [len(example.tokens) for example in batch]
    tokens = torch.tensor([token for example in batch for token in example.tokens])
    positions = torch.cat([torch.arange(length) for length in lengths])
    owner = torch.repeat_interleave(torch.arange(len(batch)), torch.tensor(lengths))
    visible = (owner[:, None] == owner) & torch.ones(len(owner), len(owner), dtype=torch.bool).tril()
    labels = torch.cat(list(_labels(batch)))
    inputs = {"input_ids": tokens[None], "position_ids": positions[None], "attention_mask": visible[None, None]}
    return inputs, labels[None]


def _labels(batch: Sequence[Example]) -> Iterator[Tensor]:
    for example in batch:
        label = torch.tensor(example.tokens)
        label[: max(1, example.response)] = IGNORED
        yield label


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="steps that are timed in each round")
    parser.add_argument("--tokens", type=int, default=1024)
    return parser.parse_args()


if __name__ == "__main__":
    main()
