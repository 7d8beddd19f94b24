"""What a study is going to cost, said before it begins."""

from collections.abc import Iterator

from services.application.estimate import (
    INT8_COST,
    TRAINING_COST,
    assumed_tokens,
    estimate,
    training_seconds,
    whole_work,
)
from services.application.study.compared import tokens_of
from services.application.study.events import CostLine, StudyCost
from services.application.study.preparation import PreparedStudy
from services.application.study.reading import searches_of
from services.application.study.study_directory import StudyDirectory
from services.coordinator.budget import networks_to_measure
from shared.memory_needs import refitted_numbers
from shared.network.sizes import outer_parameters, parameters

PRUNING_PASSES = 4.0
"""A baseline reads its text about so often, forwards or backwards; those that try one network after the other read it
oftener."""
TRIED: dict[str, float] = {"greedy": 60.0, "evopress": 300.0}


def study_cost(
    study: PreparedStudy, directory: StudyDirectory, finished: set[str], missing: int | None, rate: float
) -> StudyCost:
    """What is left to be done: `finished` are the names of searches that are, `missing` the number of measurements on
    the report items of a task, if all networks are made, else None; `rate` is this machine's, in parameters times
    tokens per second. Single networks that are fine-tuned already count as if they weren't until all are made."""
    return StudyCost(tuple(_lines(study, directory, finished, missing, rate)), _disk(study, directory))


def _disk(study: PreparedStudy, directory: StudyDirectory) -> int:
    """Bytes of the checkpoints that aren't there: of super-networks, fine-tuned, with what is refitted, and not, and of
    networks at each size. Of a fine-tuning's own state, which is gone at its end, nothing is counted."""
    settings, whole = study.settings, sum(tensor.nbytes for tensor in study.base.weights.values())
    base, supernets = study.base.network, 0.0
    for first in (study.first[supernet.name] for supernet in settings.supernets):
        if first.supernet is None:
            refitted = refitted_numbers(base, first.settings.space, first.settings.training)
            supernets += 1 + refitted / parameters(base)
        supernets += settings.fine_tuning.alone
    each = len(settings.sizes)
    made = len(list(directory.networks.glob("[!.]*")))
    networks = sum(1 + tuned for tuned in _variants(study)) + 2 * _alone(study)
    smaller = whole * sum(1 / size for size in settings.sizes) / each
    return round(supernets * whole + max(0, networks - made) * smaller)


def _lines(
    study: PreparedStudy, directory: StudyDirectory, finished: set[str], missing: int | None, rate: float
) -> Iterator[CostLine]:
    settings, base = study.settings, study.base.network
    whole = parameters(base) - outer_parameters(base)
    sizes = {supernet.name: _typical(study, supernet.name) for supernet in settings.supernets}
    unmade = [supernet for supernet in settings.supernets if study.first[supernet.name].supernet is None]
    if unmade:
        tokens, first = sum(map(tokens_of, unmade)), [study.first[each.name] for each in unmade]
        seconds = sum(training_seconds(each.settings, each.space, rate) for each in first)
        yield CostLine("Super-networks", f"{len(unmade)} to be fine-tuned", tokens, seconds)
    searches, measured, tokens, seconds = 0, 0, 0, 0.0
    for supernet, _, asked in searches_of(study.settings):
        if asked.name in finished:
            continue
        space = study.first[supernet.name].space
        work = whole_work(asked, space)
        of_search, of_report = _tokens(study, [task.name for task in asked.tasks])
        searches += 1
        measured += networks_to_measure(asked.search, space) + work.reported
        tokens += work.searched * of_search + work.reported * of_report
        cost = estimate(asked, space, rate, of_search, of_report, work)
        seconds += cost.search + cost.report
    if searches:
        yield CostLine("Searches", f"{searches}, {measured:,} networks measured", tokens, seconds)
    if missing is None and settings.candidates:
        yield _candidates(study, sizes, rate)
    pruned = [each for each in study.baselines if not directory.place(each.pruning.recipe.digest).is_dir()]
    read = [each.pruning.calibration.tokens if each.pruning.calibration else 0 for each in pruned]
    passes = [TRIED.get(each.name, PRUNING_PASSES) for each in pruned]
    if pruned:
        work_done = sum(number * times for number, times in zip(read, passes, strict=True))
        yield CostLine("Baselines", f"{len(pruned)} to be made", round(work_done), work_done * whole / rate)
    tunings = sum(_variants(study)) + _alone(study)
    if tunings and missing is None and tokens_of(settings.supernets[0]):
        tokens = tunings * tokens_of(settings.supernets[0])
        smaller = whole / min(settings.sizes)
        yield CostLine("Fine-tunings", f"{tunings} of single networks", tokens, TRAINING_COST * tokens * smaller / rate)
    _, of_report = _tokens(study, [task.name for task in settings.tasks])
    plain, int8 = _measurements(study)
    wanted = plain + int8 if missing is None else missing
    tokens = wanted * of_report // len(settings.tasks)
    longer = (plain + INT8_COST * int8) / (plain + int8)
    typical = sum(sizes.values()) / len(sizes)
    yield CostLine(
        "Report", f"{wanted:,} measurements, each of a network on a task", tokens, tokens * longer * typical / rate
    )


def _candidates(study: PreparedStudy, sizes: dict[str, float], rate: float) -> CostLine:
    """Networks of the sizes to compare at, on the search items; counted as if none was measured."""
    settings = study.settings
    number, tokens, seconds = 0, 0, 0.0
    for supernet, _, asked in searches_of(settings):
        of_search, _ = _tokens(study, [task.name for task in asked.tasks])
        count = settings.candidates * len(settings.sizes)
        number += count
        tokens += count * of_search
        seconds += count * of_search * sizes[supernet.name] / rate
    return CostLine("Candidates", f"{number:,} networks measured", tokens, seconds)


def _measurements(study: PreparedStudy) -> tuple[int, int]:
    """Measurements of a network on a task's report items, unquantised and in INT8, at most: searches may choose the
    same network."""
    settings = study.settings
    every, sizes = len(settings.tasks), len(settings.sizes)
    own = sum(len(asked.tasks) for _, _, asked in searches_of(settings))
    whole = (1 + len(settings.supernets)) * every
    chosen = len(list(searches_of(settings))) * sizes * every
    beside = own * sizes + own + len(settings.heuristics) * every  # random ones, and what the searches suggest
    made = (sum(1 + tuned for tuned in _variants(study)) + 2 * _alone(study)) * every
    # In INT8: the controls on every task; what was chosen, and the random ones, each on its own.
    again = whole + 2 * own * sizes if settings.remeasure_int8 else 0
    return whole + chosen + beside + made, again


def _variants(study: PreparedStudy) -> Iterator[int]:
    """Of each baseline at each size, how many fine-tuned networks there are besides it."""
    settings = study.settings
    for baseline in study.baselines:
        yield (baseline.name in settings.fully_tuned) + (baseline.name in settings.fine_tuning.lora)


def _alone(study: PreparedStudy) -> int:
    """Chosen networks that are cut out of the untouched model besides, and fine-tuned by themselves."""
    settings = study.settings
    return len(settings.supernets) * len(settings.sizes) if settings.fine_tuning.alone else 0


def _typical(study: PreparedStudy, supernet: str) -> float:
    """Parameters in the layers of a network between the largest and the smallest."""
    space = study.first[supernet].space
    smallest, largest = space.parameters(space.smallest()), space.parameters(space.largest())
    return (smallest + largest) / 2 - outer_parameters(space.network)


def _tokens(study: PreparedStudy, tasks: list[str]) -> tuple[int, int]:
    """Tokens that one network reads of the search and of the report items of some tasks."""
    asked = study.settings.search_settings(study.settings.supernets[0], study.settings.searched[0])
    chosen = tuple(task for task in study.settings.tasks if task.name in tasks)
    if study.tasks is None:
        return assumed_tokens(asked.model_copy(update={"tasks": chosen}))
    search, report = (
        sum(task.tokens for task in study.tasks[part] if task.name in tasks) for part in ("search", "report")
    )
    return search, report
