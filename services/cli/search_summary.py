"""The profile of a search: how many networks, how large, how long."""

from services.application.estimate import Estimate
from services.cli.console import console, duration, networks
from services.reporting.statistics.paired_comparison import discordance_allowed
from services.reporting.wording import parameters, proceeding, size
from shared.architecture import derive
from shared.messages import Dtype
from shared.network.sizes import weight_bytes
from shared.settings import SearchSettings
from shared.space import SearchSpace


def print_space(space: SearchSpace, dtype: Dtype) -> None:
    """Number of networks, the largest and the smallest; their bytes for each quantization, if INT8 may be chosen."""
    largest, smallest = space.parameters(space.largest()), space.parameters(space.smallest())
    console.print(
        f"Search space   depths {list(space.depths)}, MLP widths {list(space.mlp_widths)} "
        f"in each of {space.network.depth} layers{_attention(space)}{_orders(space)}"
    )
    console.print(f"               {networks(space.networks)} distinct networks ({networks(space.genomes)} genomes)")
    console.print(
        f"               {parameters(smallest)} to {parameters(largest)} parameters ({smallest:,} to {largest:,}), "
        f"ratio {largest / smallest:.2f}"
    )
    if space.quantizations == ("none",):
        return
    for quantization in space.quantizations:
        low, high = (
            weight_bytes(derive(space.network, end), dtype, quantization) for end in (space.smallest(), space.largest())
        )
        name = dtype if quantization == "none" else quantization.upper()
        console.print(f"               in {name}: {size(low)} to {size(high)}")


def print_cost(settings: SearchSettings, networks: int, cost: Estimate, training: bool) -> None:
    """What will be done, with so many `networks`, and how long what is left of it may take."""
    if training:
        tokens = settings.training.steps * settings.training.tokens_per_step
        console.print(
            f"Fine-tuning    {settings.training.steps} steps, {tokens:,} tokens: about {duration(cost.training)}"
        )
    search = settings.search
    console.print(
        f"Search         {search.strategy}, {networks} networks {proceeding(search)}: about {duration(cost.search)}"
    )
    console.print(f"Report         {_report(settings)}: about {duration(cost.report)}")
    console.print(f"               {_margin(settings)}")
    total = cost.total if training else cost.total - cost.training
    console.print(f"Altogether     about {duration(total)}, if the machine stays as free as it is now")


def _attention(space: SearchSpace) -> str:
    return ", with or without attention" if len(space.attentions) > 1 else ""


def _orders(space: SearchSpace) -> str:
    orders = len(space.drop_orders)
    return f", which leave in one of {orders} orders" if orders > 1 else ""


def _report(settings: SearchSettings) -> str:
    networks = f"{settings.reporting.networks} networks of the front"
    if settings.reporting.random:
        networks += " and as many random ones"
    again = ", and once more in INT8" if settings.remeasure_int8 else ""
    return f"{networks}, measured once on other items{again}{', with speeds' if settings.serving else ''}"


def _margin(settings: SearchSettings) -> str:
    """What the report items can show."""
    items = sum(task.report.items for task in settings.tasks)
    allowed = discordance_allowed(items, settings.reporting.margin / 100)
    return (
        f"{items} items show that a network as good as the whole one loses at most {settings.reporting.margin:g} "
        f"points if the answers of the two differ on up to {100 * allowed:.1f} % of them"
    )
