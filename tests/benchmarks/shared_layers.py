"""Networks an hour where layers are shared, against one by one, on the example model with items of ARC-Easy.

Run as `python -m tests.benchmarks.shared_layers [ITEMS] [ROUNDS]` (64 and 3), with NASFARM_DATA set. The generations
are those of the example search: as it begins, as it proposes them later; and as many neighbours, which
differ in some of the last ten layers. They are divided into messages as for one evaluator, and scored so and one by
one, in turns; answers must be the same. Medians; beside them how many layers are computed, of all that the networks
have.
"""

import statistics
import sys
import time
from collections.abc import Sequence
from random import Random

import torch

from services.coordinator.cost_model import CostModel
from services.coordinator.neighbours import divided
from services.coordinator.strategies import Evaluated, make_strategy
from services.evaluator.batch_size import MOST_TOKENS
from services.evaluator.placement import to_device
from services.evaluator.preparation import PreparedTask, prepare_task
from services.evaluator.scoring import score, score_together
from services.evaluator.tasks.loading import load_items
from shared.architecture import Architecture
from shared.messages import MOST_TOGETHER, CheckpointRef, EvaluationRequest, EvaluationSpec, ItemScores, TaskItems
from shared.settings import StrategySettings
from shared.space import SearchSpace
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.layer_tree import LayerTree
from shared.supernet.order import drop_order
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from shared.supernet.tokenizer import load_tokenizer
from tests.support.benchmark import environment_with_data

ITEMS, ROUNDS = 64, 3
GENERATION = 24
DEPTHS, WIDTHS = (30, 29, 28), (1536, 1152, 768)
LATE = 10


def generations(space: SearchSpace) -> dict[str, list[Architecture]]:
    """The generations by their names."""
    costs = CostModel(space, ("parameters",), "bfloat16")
    strategy = make_strategy(costs, StrategySettings(strategy="bayesian", population=GENERATION))
    random = Random(0)
    losses = [random.expovariate(1) for _ in range(space.network.depth)]

    def accuracy(network: Architecture) -> float:
        kept = dict(zip(network.layers, network.mlp_widths, strict=True))
        return 0.6 - sum(
            loss * (1 - kept.get(layer, 0) / WIDTHS[0]) / space.network.depth for layer, loss in enumerate(losses)
        )

    first = proposed = strategy.ask(GENERATION)
    for _ in range(3):
        strategy.tell([Evaluated(one, costs.of(one), accuracy(one)) for one in proposed])
        proposed = strategy.ask(GENERATION)
    return {"the first generation": first, "the fourth": proposed, "neighbours": neighbours(proposed[0], random)}


def neighbours(network: Architecture, random: Random) -> list[Architecture]:
    """Networks that have another width than `network` in three of its last layers."""
    found = {network: None}
    while len(found) < GENERATION:
        widths = list(network.mlp_widths)
        for place in random.sample(range(network.depth - LATE, network.depth), 3):
            widths[place] = random.choice(WIDTHS)
        found[Architecture(layers=network.layers, mlp_widths=tuple(widths))] = None
    return list(found)


def messages(networks: Sequence[Architecture]) -> list[list[Architecture]]:
    """The networks as a coordinator asks for them."""
    reference = CheckpointRef(location="", digest="")
    spec = EvaluationSpec(dtype="bfloat16")
    requests = [
        EvaluationRequest(search="", checkpoint=reference, architecture=network, spec=spec) for network in networks
    ]
    return [[request.architecture for request in group] for group in divided(requests, MOST_TOGETHER)]


def together(
    checkpoint: Checkpoint, networks: Sequence[Architecture], task: PreparedTask
) -> dict[Architecture, ItemScores]:
    """The scores of all networks, message by message."""
    found: dict[Architecture, ItemScores] = {}
    for group in messages(networks):
        found |= zip(group, score_together(checkpoint.cut_together(group), task), strict=True)
    return found


def alone(
    checkpoint: Checkpoint, networks: Sequence[Architecture], task: PreparedTask
) -> dict[Architecture, ItemScores]:
    """The scores of all networks, one after the other."""
    return {network: score(checkpoint.cut(network), task) for network in networks}


def main() -> None:
    """Print a line for each generation."""
    environment = environment_with_data()
    if environment is None:
        return
    items, rounds = [int(given) for given in sys.argv[1:3]] + [ITEMS, ROUNDS][len(sys.argv) - 1 :]
    directory, _ = fetch_model(EXAMPLE_MODEL)
    cpu = torch.device("cpu")
    checkpoint = to_device(Checkpoint.open(directory), cpu, torch.bfloat16)
    space = SearchSpace(checkpoint.network, DEPTHS, WIDTHS, drop_order(checkpoint.network.depth, None))
    loaded = load_items(TaskItems(task="arc_easy", split="validation", stop=items), environment.data)
    tokenizer = load_tokenizer(directory)
    task = prepare_task("arc_easy", loaded, tokenizer, checkpoint.config, cpu, MOST_TOKENS["cpu"])
    print(f"{items} items of ARC-Easy, {GENERATION} networks a generation, {rounds} rounds; networks an hour")
    print(f"{'':24}{'one by one':>12}{'together':>12}{'times':>8}{'layers computed':>24}{'of all':>8}")
    for name, networks in generations(space).items():
        seconds: dict[str, list[float]] = {"alone": [], "together": []}
        for _ in range(rounds):
            started = time.perf_counter()
            one = alone(checkpoint, networks, task)
            between = time.perf_counter()
            other = together(checkpoint, networks, task)
            seconds["alone"].append(between - started)
            seconds["together"].append(time.perf_counter() - between)
            assert one == other, "the answers differ"
        all_layers = sum(network.depth for network in networks)
        computed = sum(LayerTree.of(checkpoint.cut_together(group)).layers for group in messages(networks))
        rates = {how: 3600 * len(networks) / statistics.median(taken) for how, taken in seconds.items()}
        print(
            f"{name:24}{rates['alone']:12.0f}{rates['together']:12.0f}{rates['together'] / rates['alone']:8.2f}"
            f"{f'{computed} of {all_layers}':>24}{all_layers / computed:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
