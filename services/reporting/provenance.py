"""Where a report's numbers come from: the tasks and data, the settings, the machine, the releases."""

from collections.abc import Sequence

from services.coordinator.history import History
from services.coordinator.pareto import ReferencePoint
from services.coordinator.plan import SearchPlan
from services.reporting.report_item_use import ReportItemUse
from services.reporting.wording import chat_template, proceeding
from shared.messages import CostTable, Measurement


def headline(plan: SearchPlan, history: History) -> str:
    """What was measured on, in a sentence: the tasks, how many of their items, and the origin of the data."""
    tasks = []
    for task in plan.settings.tasks:
        shots = f"{task.num_fewshot}-shot, " if task.num_fewshot is not None else ""
        chat = chat_template(task.apply_chat_template, task.fewshot_as_multiturn)
        tasks.append(
            f"{task.name} ({shots}{f'{chat}, ' if chat else ''}{task.metric}; {task.search.items} items to search, "
            f"{task.report.items} others to report)"
        )
    origins = history.about().get("origins", {})
    data = "; ".join(f"{what}: {origin}" for what, origin in origins.items())
    return f"Measured on {', '.join(tasks)}." + (f" {data}." if data else "")


def serving(plan: SearchPlan, tables: Sequence[CostTable]) -> str | None:
    """With what, and under which load, speeds and seconds were measured; None if they were not."""
    settings = plan.settings.serving
    if settings is None:
        return None
    table, load = tables[0], settings.workload
    return (
        f"{table.engine} {table.engine_version} on {table.device}, {table.dtype}, batch {load.batch}, "
        f"{load.prompt_tokens} prompt tokens and {load.generated_tokens} generated tokens per sequence, "
        f"{settings.repeats} repeats"
    )


def provenance(
    plan: SearchPlan,
    history: History,
    tables: Sequence[CostTable],
    point: ReferencePoint,
    use: ReportItemUse,
    searched: int,
    dense: Measurement,
) -> tuple[tuple[str, str], ...]:
    """Pairs of what and its value, in the order in which they are shown; `searched` counts the networks that the search
    measured, `dense` is the measurement of the dense network on the report items."""
    settings, about, speeds = plan.settings, history.about(), serving(plan, tables)
    fronts = f"{use.fronts} front{'' if use.fronts == 1 else 's'}"
    orders = " or ".join(str(list(order)) for order in plan.space.drop_orders)
    return (
        ("Base model", f"{settings.model} ({plan.base.digest})"),
        ("Super-network", plan.supernet.digest),
        *((f"Origin of {what}", str(origin)) for what, origin in about.get("origins", {}).items()),
        ("Networks measured by the search", str(searched)),
        ("Networks ever measured on the report items", f"{use.networks}, for {fronts}"),
        ("Search space", f"{plan.space.networks} distinct networks, {plan.space.genomes} genomes"),
        ("Depths, MLP widths", f"{list(plan.space.depths)}, {list(plan.space.mlp_widths)}"),
        *((("Attention", ", ".join(plan.space.attentions)),) if len(plan.space.attentions) > 1 else ()),
        ("Depth rule, drop order", f"{' or '.join(settings.space.depth_rules)}, {orders}"),
        ("Strategy", f"{settings.search.strategy}, {proceeding(settings.search)}"),
        ("Margin", f"{settings.reporting.margin:g} points"),
        ("Seeds", f"search {settings.search.seed}, training {settings.training.seed}"),
        ("Fine-tuning", ", ".join(f"{key} {value}" for key, value in settings.training.model_dump().items())),
        *about.get("provenance", {}).items(),
        ("Data type of the computation", plan.dtype),
        ("Objectives", ", ".join(settings.objectives)),
        ("Quantization", ", ".join(plan.space.quantizations)),
        *((("Speeds measured with", speeds),) if speeds else ()),
        ("Reference point", f"{point.cost} x the dense network's cost, accuracy {point.accuracy}"),
        ("Search started", str(about["created"])),
        *((f"Version of {name}" if name != "device" else "Device", value) for name, value in dense.versions.items()),
        *((f"Items of {scores.task}, digest", scores.items_digest) for scores in dense.scores),
    )
