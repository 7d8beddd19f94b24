"""The networks that the searches chose (table 2 of the LLaMA-NAS paper), and how much luck there is in it."""

from collections.abc import Mapping
from math import sqrt

from services.coordinator.study.networks import StudyNetwork, of_kind
from services.reporting.item_answers import ItemAnswers, differences
from services.reporting.statistics.task_means import MeanEstimate, item_mean, mean_over_tasks
from services.reporting.statistics.winners_curse import correlated_excess, expected_excess
from services.reporting.study.answers import StudyAnswers, key
from services.reporting.study.difference import Answers, accuracy_on, mean_accuracy
from services.reporting.study.searched import Searched
from services.reporting.study.study_data import Accuracy, SelectedRow, WinnersCurse
from shared.architecture import dense

Searches = Mapping[tuple[str, str], Searched]
"""By super-network and what they chose on."""


def selected(answers: StudyAnswers, searches: Searches) -> tuple[SelectedRow, ...]:
    """A row for each network that was chosen, in their order."""
    return tuple(_row(answers, network, searches) for network in of_kind(answers.study.networks, "chosen"))


def _row(answers: StudyAnswers, network: StudyNetwork, searches: Searches) -> SelectedRow:
    supernet, chosen_on, size = origin(network)
    search = searches.get((supernet, chosen_on))
    on_search = search.on_search_items(network.architecture) if search else None
    report = answers.on_each(network, answers.chosen_from(chosen_on))
    widest = max(search.search.plan.space.mlp_widths) if search else max(network.architecture.mlp_widths)
    return SelectedRow(
        network=key(network),
        supernet=supernet,
        chosen_on=chosen_on,
        times_smaller=size,
        layers=network.architecture.depth,
        narrow_mlps=sum(width < widest for width in network.architecture.mlp_widths),
        skipped_attentions=len(network.architecture.without_attention),
        search_accuracy=None if on_search is None else _over_tasks(on_search).value,
        report=None if report is None else _accuracy(report),
        curse=_curse(answers, search, on_search, report) if search else None,
    )


def _curse(
    answers: StudyAnswers, search: Searched, chosen: ItemAnswers | None, report: Answers | None
) -> WinnersCurse | None:
    """Of several tasks, of the mean over them: each has its own share of easy items among its search and its report
    items, whose numbers differ, so items of all tasks together would compare two mixtures."""
    if chosen is None or not search.evaluated:
        return None
    looked_at, estimate = search.looked_at, _over_tasks(chosen)
    whole = search.on_search_items(dense(search.search.plan.space.network))
    optimism = None if report is None else estimate.value - _accuracy(report).accuracy
    of_dense = _dense_optimism(answers, search, whole)
    paired = None if whole is None else _over_tasks(chosen, whole)
    return WinnersCurse(
        networks=looked_at,
        search_items=len(chosen.values),
        optimism=optimism,
        optimism_beyond_dense=None if optimism is None or of_dense is None else optimism - of_dense,
        bound=expected_excess(sqrt(estimate.variance), looked_at),
        correlated=None if paired is None else correlated_excess(sqrt(paired.variance), looked_at),
    )


def _dense_optimism(answers: StudyAnswers, search: Searched, whole: ItemAnswers | None) -> float | None:
    """How much more accurate the whole super-network is on the search items than on the report items."""
    tasks = answers.chosen_from(search.search.chosen_on)
    networks = [each for each in of_kind(answers.study.networks, "dense") if each.supernet == search.search.supernet]
    report = answers.on_each(networks[0], tasks) if networks else None
    return None if whole is None or report is None else _over_tasks(whole).value - _accuracy(report).accuracy


def _over_tasks(one: ItemAnswers, other: ItemAnswers | None = None) -> MeanEstimate:
    """Accuracy on a search's items in the mean over its tasks, each as lm-eval aggregates it; with another network
    given, the difference from it."""
    tasks = []
    for number, mine in enumerate(one.each()):
        values = mine.values if other is None else differences(mine, other.each()[number])
        tasks.append(item_mean(values, mine.clusters, mine.even))
    return mean_over_tasks(tasks)


def _accuracy(report: Answers) -> Accuracy:
    """On the report items of the one task that a search chose on, or in the mean over its tasks."""
    return accuracy_on(*report.values()) if len(report) == 1 else mean_accuracy(report)


def origin(network: StudyNetwork) -> tuple[str, str, float]:
    """Whose search chose a network, on what, at which size. Raises ValueError for one that no search chose."""
    if network.supernet is None or network.chosen_on is None or network.times_smaller is None:
        raise ValueError(f"{network.kind}: no search chose this network")
    return network.supernet, network.chosen_on, network.times_smaller
