"""The networks of a study that need no making: the untouched model, whole super-networks, and what follows from the
searches. Loads no model."""

from collections.abc import Iterator, Sequence

from services.coordinator.history import History
from services.coordinator.results import evaluated_so_far
from services.coordinator.study.candidate_results import evaluated_with
from services.coordinator.study.choice import chosen_network, most_parameters, random_counterpart
from services.coordinator.study.heuristic import heuristic_network, network_with_narrow
from services.coordinator.study.networks import Candidate, StudyNetwork, StudySearch
from shared.architecture import Architecture, dense
from shared.events import Events
from shared.messages import CheckpointRef
from shared.settings.study_file import NarrowLayers, StudiedSupernet, StudySettings
from shared.text import shortened


def searched_networks(
    settings: StudySettings,
    base: CheckpointRef,
    searches: Sequence[StudySearch],
    candidates: Sequence[Candidate],
    history: History,
    events: Events,
) -> list[StudyNetwork]:
    """All of them, in the report's order; `history` is the study's own, with measurements of the candidates. Of a
    search that measured no network small enough for a size there is none; that is said."""
    first = {supernet.name: _first_of(supernet.name, searches) for supernet in settings.supernets}
    networks = [StudyNetwork("base", base, dense(searches[0].plan.space.network))]
    for supernet in settings.supernets:
        plan = first[supernet.name].plan
        tokens = tokens_of(supernet)
        whole = dense(plan.space.network)
        networks.append(StudyNetwork("dense", plan.supernet, whole, supernet.name, tuned_tokens=tokens))
    for supernet in settings.supernets:
        for search in (each for each in searches if each.supernet == supernet.name):
            networks += _of_search(settings, search, candidates, history, tokens_of(supernet), events)
    for heuristic in settings.heuristics:
        plan = first[heuristic.supernet].plan
        (supernet,) = (each for each in settings.supernets if each.name == heuristic.supernet)
        kept = plan.space.kept_layers(heuristic.depth)
        architecture = network_with_narrow(plan.space, kept, heuristic.layers)
        _say_what_is_lacking(heuristic, architecture, events)
        networks.append(
            StudyNetwork(
                "heuristic",
                plan.supernet,
                architecture,
                supernet.name,
                name=heuristic.name,
                tuned_tokens=tokens_of(supernet),
            )
        )
    return networks


def tokens_of(supernet: StudiedSupernet) -> int:
    """Tokens of training data that a super-network's fine-tuning reads."""
    return supernet.training.steps * supernet.training.tokens_per_step


def _of_search(
    settings: StudySettings,
    search: StudySearch,
    candidates: Sequence[Candidate],
    history: History,
    tokens: int,
    events: Events,
) -> Iterator[StudyNetwork]:
    """What a search chose at each size, each with a random network as large, and what its best networks suggest."""
    plan = search.plan
    where = (search.supernet, search.chosen_on)
    for size in settings.sizes:
        at_most = most_parameters(plan.space.network, size)
        chosen = chosen_network(evaluated_with(search, candidates, history, size), plan.space, at_most)
        if chosen is None:
            events.note(
                "Choice",
                f"the search of {search.supernet} on {search.chosen_on} measured no network of at most {at_most:,} "
                f"parameters, so none is compared at {size:g} times smaller; raise its search.evaluations",
            )
            continue
        yield StudyNetwork("chosen", plan.supernet, chosen, *where, size, tuned_tokens=tokens)
        other = random_counterpart(plan.space, chosen, at_most, {chosen}, settings.seed)
        if other is not None:
            yield StudyNetwork("random", plan.supernet, other, *where, size, tuned_tokens=tokens)
    suggested = heuristic_network(evaluated_so_far(plan, search.history), plan.space)
    if suggested is not None:
        yield StudyNetwork("heuristic", plan.supernet, suggested, *where, tuned_tokens=tokens)


def _say_what_is_lacking(heuristic: NarrowLayers, architecture: Architecture, events: Events) -> None:
    """Which layers a shallow network keeps is only known once its super-network is made, unless its depth_rule is
    first, or several with that in the first place."""
    lacking = sorted(set(heuristic.layers).difference(architecture.layers))
    narrow, asked = len(heuristic.layers) - len(lacking), len(heuristic.layers)
    if lacking:
        listed = shortened(", ".join(map(str, lacking)))
        events.note(
            "Heuristic",
            f"{heuristic.name}: networks of {heuristic.supernet} with {heuristic.depth} layers keep none of the "
            f"layers {listed}, so it is narrow in {narrow} of {asked} layers only",
        )


def _first_of(supernet: str, searches: Sequence[StudySearch]) -> StudySearch:
    return next(search for search in searches if search.supernet == supernet)
