"""The networks that the searches chose (table 2 of the LLaMA-NAS paper), and how much luck there is in it."""

from collections.abc import Mapping
from math import sqrt

from services.coordinator.study.networks import StudyNetwork, of_kind
from services.reporting.item_answers import ItemAnswers, differences
from services.reporting.statistics.clusters import mean_variance
from services.reporting.statistics.winners_curse import correlated_excess, expected_excess
from services.reporting.study.answers import StudyAnswers, key
from services.reporting.study.difference import accuracy_chosen_by
from services.reporting.study.searched import Searched
from services.reporting.study.study_data import SelectedRow, WinnersCurse
from shared.architecture import dense

Searches = Mapping[tuple[str, str], Searched]
"""By super-network and what they chose on."""


def selected(answers: StudyAnswers, searches: Searches) -> tuple[SelectedRow, ...]:
    """A row for each network that was chosen, in their order."""
    return tuple(_row(answers, network, searches) for network in of_kind(answers.study.networks, "chosen"))


def _row(answers: StudyAnswers, network: StudyNetwork, searches: Searches) -> SelectedRow:
    supernet, chosen_on, size = origin(network)
    search = searches.get((supernet, chosen_on))
    report = answers.together(network, answers.chosen_from(chosen_on))
    widest = max(search.search.plan.space.mlp_widths) if search else max(network.architecture.mlp_widths)
    return SelectedRow(
        network=key(network),
        supernet=supernet,
        chosen_on=chosen_on,
        times_smaller=size,
        layers=network.architecture.depth,
        narrow_mlps=sum(width < widest for width in network.architecture.mlp_widths),
        search_accuracy=search.accuracy_on_search_items(network.architecture) if search else None,
        report=None if report is None else accuracy_chosen_by(report),
        curse=_curse(answers, network, search, report) if search else None,
    )


def _curse(
    answers: StudyAnswers, network: StudyNetwork, search: Searched, report: ItemAnswers | None
) -> WinnersCurse | None:
    chosen = search.on_search_items(network.architecture)
    if chosen is None or not search.evaluated:
        return None
    looked_at, values = len(search.evaluated), chosen.values
    whole = search.on_search_items(dense(search.search.plan.space.network))
    optimism = None if report is None else chosen.accuracy - report.accuracy
    of_dense = _dense_optimism(answers, search, whole)
    paired = None if whole is None else mean_variance(differences(chosen, whole), chosen.clusters)
    return WinnersCurse(
        networks=looked_at,
        search_items=len(values),
        optimism=optimism,
        optimism_beyond_dense=None if optimism is None or of_dense is None else optimism - of_dense,
        bound=expected_excess(sqrt(mean_variance(values, chosen.clusters)), looked_at),
        correlated=None if paired is None else correlated_excess(sqrt(paired), looked_at),
    )


def _dense_optimism(answers: StudyAnswers, search: Searched, whole: ItemAnswers | None) -> float | None:
    """By how much more of the search items than of the report items the whole super-network answers right."""
    tasks = answers.chosen_from(search.search.chosen_on)
    networks = [each for each in of_kind(answers.study.networks, "dense") if each.supernet == search.search.supernet]
    report = answers.together(networks[0], tasks) if networks else None
    return None if whole is None or report is None else whole.accuracy - report.accuracy


def origin(network: StudyNetwork) -> tuple[str, str, float]:
    """Whose search chose a network, on what, at which size. Raises ValueError for one that no search chose."""
    if network.supernet is None or network.chosen_on is None or network.times_smaller is None:
        raise ValueError(f"{network.kind}: no search chose this network")
    return network.supernet, network.chosen_on, network.times_smaller
