"""Everything at equal true size (tables 3 and 4 of the LLaMA-NAS paper), INT8 (figure 5, table 5), and the transfer
matrix. The p-values are not corrected yet."""

from collections.abc import Iterator

from services.coordinator.study.networks import NetworkKind, StudyNetwork, of_kind
from services.reporting.study.answers import StudyAnswers, key, label
from services.reporting.study.compared import Beside
from services.reporting.study.difference import Difference, accuracy_on
from services.reporting.study.selected import origin
from services.reporting.study.study_data import (
    ALL,
    EqualSize,
    Family,
    Int8Row,
    StudyComparison,
    Transfer,
    TransferCell,
    TrueSize,
)

ORDER: tuple[NetworkKind, ...] = ("random", "chosen", "heuristic", "alone", "baseline")
"""Of the rows of a table, after the base and the dense networks."""
WITH_CHOSEN: tuple[NetworkKind, ...] = ("random", "alone")
"""What goes with a chosen network, and is compared with it alone."""


def equal_sizes(answers: StudyAnswers, beside: Beside) -> tuple[EqualSize, ...]:
    """A table for each size. What was chosen on a task is compared on this task, what was chosen on all together on
    each and in the mean over them: with the base, its dense super-network, the random network of its size, itself cut
    from the base model, and every baseline. Heuristics, which aim at no size, are listed at the one that they meet."""
    tables = []
    for size in answers.study.settings.sizes:
        networks = answers.study.networks
        at_size = [each for each in networks if beside.is_of(each, size)]
        shown = [*of_kind(networks, "base"), *of_kind(networks, "dense")]
        for kind in ORDER:
            shown += of_kind(at_size, kind)
        compared = [each for chosen in of_kind(at_size, "chosen") for each in _of_chosen(answers, beside, chosen)]
        tables.append(
            EqualSize(times_smaller=size, networks=tuple(key(each) for each in shown), comparisons=tuple(compared))
        )
    return tuple(tables)


def _of_chosen(answers: StudyAnswers, beside: Beside, chosen: StudyNetwork) -> Iterator[StudyComparison]:
    supernet, chosen_on, size = origin(chosen)
    others: list[StudyNetwork | None] = [beside.base(), beside.dense(supernet)]
    for kind in WITH_CHOSEN:
        others += beside.going_with(kind, supernet, chosen_on, size)
    others += beside.baselines(size)
    for other in others:
        if other is not None:
            yield from _compared(answers, "equal_size", chosen, other, answers.chosen_from(chosen_on))


def against_heuristics(answers: StudyAnswers, beside: Beside) -> tuple[StudyComparison, ...]:
    """Every network that a heuristic builds, whatever its size, on the report items that it was measured on: against
    the base, its dense super-network, and what its search chose at the size that is nearest to its own."""
    compared = list[StudyComparison]()
    for built in of_kind(answers.study.networks, "heuristic"):
        supernet, size = built.supernet or "", beside.size_of(built)
        others = [beside.base(), beside.dense(supernet)]
        if built.chosen_on is not None and size is not None:
            others.append(beside.chosen(supernet, built.chosen_on, size))
        tasks = answers.study.tasks_of(built)
        for other in others:
            if other is not None:
                compared += _compared(answers, "heuristics", built, other, tasks)
    return tuple(compared)


def _compared(
    answers: StudyAnswers, family: Family, one: StudyNetwork, other: StudyNetwork, tasks: tuple[str, ...]
) -> Iterator[StudyComparison]:
    """On each of the tasks that both were measured on, and in the mean if these are all of several."""
    names = label(one), label(other)
    for task in tasks:
        difference = answers.difference(one, other, task)
        if difference is not None:
            yield difference.shown(family, task, *names, one.supernet, one.times_smaller)
    if tasks == answers.tasks and len(tasks) > 1:
        all_mine, all_theirs = answers.of(one), answers.of(other)
        if answers.complete(all_mine) and answers.complete(all_theirs):
            difference = Difference.of_mean(all_mine, all_theirs)
            yield difference.shown(family, ALL, *names, one.supernet, one.times_smaller)


def before_and_after_int8(answers: StudyAnswers) -> list[Int8Row]:
    """Every network that was measured in INT8 as well, before and after, on every task."""
    rows = []
    for network in answers.study.networks:
        before, after = answers.measurements(network), answers.measurements(network, "int8")
        for task in answers.tasks:
            one, other = answers.on(network, task, "int8"), answers.on(network, task)
            if one is None or other is None:
                continue
            name = label(network)
            rows.append(
                Int8Row(
                    label=name,
                    supernet=network.supernet,
                    chosen_on=network.chosen_on,
                    times_smaller=network.times_smaller,
                    task=task,
                    parameters=before[task].parameters,
                    bytes_before=before[task].bytes,
                    bytes_after=after[task].bytes,
                    before=accuracy_on(other),
                    after=accuracy_on(one),
                    comparison=Difference.of_task(one, other).shown(
                        "int8", task, f"{name} int8", name, network.supernet, network.times_smaller
                    ),
                )
            )
    return rows


def transfers(answers: StudyAnswers, beside: Beside) -> tuple[Transfer, ...]:
    """A matrix for each super-network and size that networks were chosen for."""
    settings, matrices = answers.study.settings, []
    for supernet in (each.name for each in settings.supernets):
        for size in settings.sizes:
            chosen = {on: beside.chosen(supernet, on, size) for on in settings.searched}
            if not any(chosen.values()):
                continue
            cells = [_cell(answers, chosen, on, task) for on in settings.searched for task in answers.tasks]
            matrices.append(
                Transfer(
                    supernet=supernet,
                    times_smaller=size,
                    chosen_on=settings.searched,
                    tasks=answers.tasks,
                    sizes={on: _true_size(answers, network) for on, network in chosen.items()},
                    cells=tuple(cells),
                )
            )
    return tuple(matrices)


def _true_size(answers: StudyAnswers, network: StudyNetwork | None) -> TrueSize:
    mine, whole = None if network is None else answers.parameters(network), answers.base_parameters()
    return TrueSize(parameters=mine, times_smaller=whole / mine if whole and mine else None)


def _cell(answers: StudyAnswers, chosen: dict[str, StudyNetwork | None], on: str, task: str) -> TransferCell:
    network, own = chosen[on], chosen[task]
    here, compared = answers.on(network, task), None
    if network is not None and own is not None and on != task:
        difference, names = answers.difference(network, own, task), (label(network), label(own))
        if difference is not None:
            compared = difference.shown("transfer", task, *names, network.supernet, network.times_smaller)
    accuracy = None if here is None else accuracy_on(here)
    return TransferCell(chosen_on=on, task=task, accuracy=accuracy, versus_own=compared)
