"""What a search would take of other machines than this one: memory, disk, and hours of a GPU. All of it is computed."""

from services.application.accelerators import ACCELERATORS, SHARE
from services.application.estimate import Estimate, assumed_tokens, estimate, whole_work
from services.cli.console import console, duration
from services.evaluator.batch_size import scoring_bytes
from services.reporting.wording import size
from shared.memory_needs import RECIPES, fine_tuning_needs, refitted_numbers
from shared.messages import Dtype
from shared.network.sizes import weight_bytes
from shared.settings import SearchSettings
from shared.space import SearchSpace

DTYPE: Dtype = "bfloat16"
"""What GPUs compute in."""


def print_requirements(settings: SearchSettings, space: SearchSpace) -> None:
    """Memory of a GPU and disk, and how long known GPUs take, stage by stage."""
    network, training = space.network, settings.training
    refitted = refitted_numbers(network, settings.space, training)
    needs = {recipe: fine_tuning_needs(network, training, recipe, DTYPE, refitted=refitted) for recipe in RECIPES}
    scoring = scoring_bytes(network, DTYPE, "cuda", refitted)
    memory = ", ".join(f"{size(need.device)} ({recipe})" for recipe, need in needs.items())
    console.print(f"GPU memory     fine-tuning {memory}; scoring {size(scoring)}")
    model = size(weight_bytes(network, DTYPE, "none"))
    supernet = size(needs["full"].checkpoint)
    disk = ", ".join(f"{size(need.disk)} ({recipe})" for recipe, need in needs.items())
    console.print(f"Disk           model {model}, super-network {supernet}; while it is fine-tuned {disk}")
    for accelerator in ACCELERATORS:
        cost = estimate(settings, space, accelerator.rate, *assumed_tokens(settings), whole_work(settings, space))
        console.print(f"{accelerator.name:<15}{_stages(cost)}")
    console.print(
        f"               computed from {100 * SHARE:.0f} % of the peak rates that are published, not measured"
    )


def _stages(cost: Estimate) -> str:
    stages = {"fine-tuning": cost.training, "search": cost.search, "report": cost.report}
    said = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in stages.items())
    return f"{said}; altogether {duration(cost.total)}"
