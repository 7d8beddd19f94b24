"""Every key of a search file, and search files that say odd things under them."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from shared.settings import SearchSettings
from shared.settings.values import Section

GOOD: dict[str, Any] = {
    "name": "example",
    "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "space": {"depths": [30, 26], "mlp_widths": [1536, 768]},
    "tasks": [
        {"name": "arc_easy", "search": {"items": 200}, "report": {"items": 500}},
        {"name": "winogrande", "metric": "acc", "num_fewshot": 5, "search": {"items": 100}, "report": {"items": 300}},
    ],
}
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 64, 300, 10**30, -(10**30), 0.0, 1.0, 0.5, 1.5, 50.5, 1e300),
    *(
        "",
        " ",
        "0",
        "1",
        "1_000",
        "0-1",
        " 12 ",
        "2.0",
        "2.",
        "1e-4",
        "1_0.5e2",
        "x1",
        "yes",
        "No",
        "ON",
        "tRUE",
        "maybe",
    ),
    *(
        "arc_easy",
        "plain_facts, arc_easy",
        " arc_easy",
        "piqa",
        "piqa,winogrande",
        "piqa,",
        ",",
        "arc_easy,piqa",
        "a.yaml",
    ),
    *("importance", "first", "none", "linas", "acc", "acc_norm", "vllm", "float32", "int8", "a b", "../up", "tool_use"),
    *([], {}, [[]], [1], [3, 2.0], ["4"], [True], [1.5], "2026-11-27"),
    *(["none"], ["int8"], ["none", "int8"], ["int8", "int8"], ["parameters"], ["bytes"], ["bytes", "bytes"]),
    *(
        ["decode_seconds"],
        ["parameters", "prefill_seconds"],
        ["kv_cache_bytes"],
        ["keep", "skip"],
        ["skip"],
        ["first"],
        ["importance", "first"],
        ["first", "first"],
        {"items": 3},
        {"items": 3, "split": "x"},
        {"batch": 2},
    ),
]


def keys(section: type[Section] = SearchSettings, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every key; of the tasks, of the first and of the second."""
    for key in section.model_fields:
        yield (*above, key)
        within = section.section(key)
        if within is not None:
            for place in ((0,), (1,)) if key == "tasks" else ((),):
                yield from keys(within, (*above, key, *place))


def put(values: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
    """Give a key another value, unless what holds the key is no section by now."""
    *above, last = path
    place: Any = values
    for step in above:
        if isinstance(place, dict) and isinstance(step, str):
            place = place.setdefault(step, {})
        elif isinstance(place, list) and isinstance(step, int) and step < len(place):
            place = place[step]
        else:
            return
    if isinstance(place, dict):
        place[last] = value


@st.composite
def odd_search_files(draw: st.DrawFn) -> dict[str, Any]:
    """The good search file with some keys' values changed, among them keys that there aren't."""
    values = copy.deepcopy(GOOD)
    for path in draw(st.lists(st.sampled_from([*keys(), ("colour",), ("space", "heads")]), max_size=5)):
        put(values, path, copy.deepcopy(draw(st.sampled_from(ODD))))
    return values
