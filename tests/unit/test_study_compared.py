"""What is said of the networks that a study compares, once its searches are done."""

from pathlib import Path

from services.application.study.compared import searched_networks
from services.coordinator.study.networks import StudyNetwork, of_kind
from shared.events import Event, Events, Noted
from tests.support.studies import BASE, close_study, make_study, study_settings

ONE_TASK = [{"name": "arc_easy", "search": {"items": 10}, "report": {"items": 10}}]


def test_of_a_heuristic_the_layers_are_named_that_its_super_network_drops(tmp_path: Path) -> None:
    narrow = [
        {"name": "deep", "supernet": "ours", "depth": 30, "layers": [2, 26, 28]},
        {"name": "shallow", "supernet": "ours", "depth": 27, "layers": [2, 26, 28]},
    ]
    settings = study_settings(tasks=ONE_TASK, heuristics=narrow, sizes=[1.3], search={"evaluations": 6})
    study = make_study(tmp_path, settings)
    told: list[Event] = []
    networks = searched_networks(settings, BASE, study.searches, study.candidates, study.history, Events(told.append))
    close_study(study)
    assert [event.text for event in told if isinstance(event, Noted) and event.subject == "Heuristic"] == [
        "shallow: networks of ours with 27 layers keep none of the layers 26, 28, so it is narrow in 1 of 3 layers only"
    ]
    deep, shallow = (each for each in of_kind(networks, "heuristic") if each.name)
    assert (narrowed(deep), narrowed(shallow)) == ([2, 26, 28], [2])


def narrowed(network: StudyNetwork) -> list[int]:
    widths = network.architecture.mlp_widths
    return [layer for layer, width in zip(network.architecture.layers, widths, strict=True) if width == min(widths)]
