"""Studies for tests: every measurement is there, and none was made. Free of torch."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from services.application.study.compared import searched_networks
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.reported_networks import ReportedNetworks
from services.coordinator.results import cost_model, evaluated_so_far, front
from services.coordinator.strategies import inner_search
from services.coordinator.study.candidates import candidates
from services.coordinator.study.choice import cut_alone
from services.coordinator.study.measurement import all_requests, candidate_requests
from services.coordinator.study.networks import FineTuning, Study, StudyNetwork, StudySearch, of_kind
from services.reporting.report_item_use import record_report_item_use
from shared.architecture import Architecture
from shared.events import Events
from shared.manifest import search_space
from shared.messages import CheckpointRef, EvaluationRequest, ItemScores, Measurement, Outcome
from shared.network.sizes import parameters
from shared.settings.study_file import StudiedSupernet, StudySettings
from tests.support.networks import uniform_network
from tests.support.pretending import chance, pretend

SHAPE = uniform_network(layers=30, mlp_width=1536, hidden=576, heads=9, kv_heads=3, vocab_size=49152)
BASE = CheckpointRef(location="there", digest="base")
TASKS = ("arc_challenge", "arc_easy", "mmlu", "truthfulqa_mc1", "winogrande")
SKILLS = {"base": 0.62, "paper": 0.62, "ours": 0.66, "llm-pruner": 0.5, "slicegpt": 0.53, "shortgpt": 0.47}
"""How well networks of each checkpoint do at full size, by how its digest begins."""

Answer = Callable[[EvaluationRequest], Outcome | None]


def study_settings(**changes: Any) -> StudySettings:
    """A study of two super-networks on five tasks against three baselines, at two sizes."""
    space = {"depths": [30, 27, 24], "mlp_widths": [1536, 768]}
    return StudySettings.model_validate(
        {
            "name": "smollm2-study",
            "model": "HuggingFaceTB/SmolLM2-135M",
            "supernets": [
                {"name": "paper", "space": {**space, "depth_rule": "first"}, "training": {"neuron_order": "none"}},
                {"name": "ours", "space": space},
            ],
            "tasks": [{"name": name, "search": {"items": 60}, "report": {"items": 120}} for name in TASKS],
            "sizes": [1.2, 1.4],
            "candidates": 0,  # finding them takes a second for each search and size
            "search": {"evaluations": 24, "population": 8},
            "baselines": [{"baseline": "llm-pruner"}, {"baseline": "slicegpt"}, {"baseline": "shortgpt"}],
            "heuristics": [{"name": "theirs", "supernet": "paper", "depth": 30, "layers": [2, 3, 17]}],
            "serving": {"batch": 1, "prompt_tokens": 16, "generated_tokens": 4, "repeats": 3},
            "reporting": {"random": True, "networks": 3},
            "dtype": "float32",
            **changes,
        }
    )


def answered(request: EvaluationRequest) -> Measurement:
    """Larger networks answer more items right, each mostly the same ones; what each checkpoint is worth is in
    `SKILLS`."""
    measured = pretend(request, SHAPE)
    skill = next(skill for name, skill in SKILLS.items() if request.checkpoint.digest.startswith(name))
    skill -= 0.4 * (1 - measured.parameters / parameters(SHAPE))
    skill += 0.03 * (request.checkpoint.digest.endswith((" full", " lora")))
    scores = tuple(_scores(request, each, skill) for each in measured.scores)
    return measured.model_copy(update={"scores": scores, "versions": {"device": "none", "torch": "2.13.0"}})


def _scores(request: EvaluationRequest, scores: ItemScores, skill: float) -> ItemScores:
    network = f"{request.checkpoint.digest} {request.architecture.digest}"
    right = tuple(
        float(0.8 * chance(f"{scores.task} {item}") + 0.2 * chance(f"{network} {scores.task} {item}") < skill)
        for item in scores.items
    )
    return scores.model_copy(update={"metrics": {"acc": right}, "values": {"acc": sum(right) / len(right)}})


def make_study(directory: Path, settings: StudySettings | None = None, answer: Answer = answered) -> Study:
    """A study of which everything is measured that `answer` answers; None is no answer yet."""
    settings = settings or study_settings()
    searches = tuple(
        _search(directory, settings, supernet, chosen_on, answer)
        for supernet in settings.supernets
        for chosen_on in settings.searched
    )
    about = {"recipe": {"tasks": [task.model_dump(mode="json") for task in settings.tasks]}}
    history = History.create_or_resume(directory / "study.sqlite", about)
    with short_inner_searches():
        found = tuple(candidates(settings, searches))
    study = Study(settings, "float32", searches, (), history, found)
    _record(history, candidate_requests(study), answer)
    networks = searched_networks(settings, BASE, searches, study.candidates, history, Events())
    networks += _baselines(settings, of_kind(networks, "chosen"))
    networks += [_alone(network, tuning) for network in cut_alone(settings, networks) for tuning in ("none", "full")]
    study = replace(study, networks=tuple(networks))
    _record(history, all_requests(study), answer)
    return study


def short_inner_searches() -> AbstractContextManager[Any]:
    """Within it, few networks are predicted when candidates are looked for, which takes most of a study's time here."""
    return patch.object(inner_search, "GENERATIONS", 5)


def close_study(study: Study) -> None:
    """Close all its histories."""
    for history in (study.history, *(search.history for search in study.searches)):
        history.close()


def _search(
    directory: Path, settings: StudySettings, supernet: StudiedSupernet, chosen_on: str, answer: Answer
) -> StudySearch:
    """A search that looked at random networks, with its report measured."""
    asked = settings.search_settings(supernet, chosen_on)
    drop_order = tuple(range(29, 0, -1)) if supernet.space.depth_rule == "first" else tuple(range(28, 1, -2))
    plan = SearchPlan(
        settings=asked,
        space=search_space(SHAPE, supernet.space, drop_order),
        supernet=CheckpointRef(location="there", digest=supernet.name),
        base=BASE,
        dtype="float32",
    )
    history = History.create_or_resume(directory / f"{asked.name}.sqlite", plan.about())
    history.note("origins", {"training data": "made up"})
    history.note("provenance", {"Fine-tuned with": f"torch of {supernet.name}"})
    if asked.serving is not None:
        _record(history, [plan.costs_request(asked.serving)], answer)
    rng = random.Random(asked.name)
    drawn = dict.fromkeys((plan.space.largest(), plan.space.smallest()))
    while len(drawn) < asked.search.evaluations:
        drawn[plan.space.sample(rng)] = None
    requests = [plan.request(network, "search") for network in drawn]
    history.add_candidates(0, [(request, None) for request in requests])
    _record(history, requests, answer)
    found = front(evaluated_so_far(plan, history))
    networks = ReportedNetworks(plan, cost_model(plan, history), found)
    record_report_item_use(networks, history)
    _record(history, [*networks.controls, *networks.others], answer)
    return StudySearch(supernet.name, chosen_on, plan, history)


def _baselines(settings: StudySettings, chosen: list[StudyNetwork]) -> Iterator[StudyNetwork]:
    """What each makes at each size, without fine-tuning and with both kinds of it: as large as what was chosen last."""
    for size in settings.sizes:
        *_, like = (each.architecture for each in chosen if each.times_smaller == size)
        for options in settings.baselines:
            widths = list(like.mlp_widths)
            random.Random(options.baseline).shuffle(widths)
            architecture = Architecture(layers=like.layers, mlp_widths=tuple(widths))
            for tuning in ("none", "full", "lora"):
                digest = f"{options.baseline} {size} {tuning}"
                yield StudyNetwork(
                    kind="baseline",
                    checkpoint=CheckpointRef(location="there", digest=digest),
                    architecture=architecture,
                    times_smaller=size,
                    name=options.baseline,
                    fine_tuning=tuning,
                    tuned_tokens=0 if tuning == "none" else 8192,
                )


def _alone(chosen: StudyNetwork, tuning: FineTuning) -> StudyNetwork:
    """A chosen network, cut from the base model."""
    digest = f"base {chosen.architecture.digest} {tuning}"
    checkpoint = CheckpointRef(location="there", digest=digest)
    tokens = 0 if tuning == "none" else 8192
    return replace(chosen, kind="alone", checkpoint=checkpoint, fine_tuning=tuning, tuned_tokens=tokens)


def _record(history: History, requests: list[EvaluationRequest], answer: Answer) -> None:
    asked = {request.identity: request for request in requests if not history.knows(request.identity)}
    outcomes = [(request, answer(request)) for request in asked.values()]
    history.add_results([(request, outcome) for request, outcome in outcomes if outcome is not None])
