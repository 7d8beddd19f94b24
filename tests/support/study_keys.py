"""Every key of a study file, and study files that say odd things under them."""

import copy
from collections.abc import Iterator
from typing import Any, get_args

from hypothesis import strategies as st

from shared.settings import StudySettings
from shared.settings.baselines import BaselineName
from shared.settings.values import Section
from tests.support.search_keys import GOOD as SEARCH
from tests.support.search_keys import ODD as ODD_IN_A_SEARCH
from tests.support.search_keys import put

GOOD: dict[str, Any] = {
    "name": "example",
    "model": SEARCH["model"],
    "supernets": [{"name": "ours", "space": SEARCH["space"]}],
    "tasks": SEARCH["tasks"],
    "sizes": [1.3],
}
FULL: dict[str, Any] = {
    **GOOD,
    "supernets": [
        {"name": "paper", "space": {**SEARCH["space"], "depth_rule": "first"}, "training": {"neuron_order": "none"}},
        {"name": "ours", "space": SEARCH["space"], "training": {"steps": 4}},
    ],
    "baselines": [{"baseline": name} for name in get_args(BaselineName)],
    "fine_tuning": {"full": ["wanda"], "lora": ["slicegpt"]},
    "heuristics": [{"name": "theirs", "supernet": "paper", "depth": 26, "layers": [2, 25]}],
    "serving": {"batch": 2},
    "timed_task": "winogrande",
}
"""With all that there is."""
ODD: list[Any] = [
    *ODD_IN_A_SEARCH,
    *("together", "wanda", "flap", "ours", "n" * 94, "n" * 300, "element", "uniform", 1.3, "1.3", 26),
    *([1.3, 1.5], [1.3, 1.3], [1.0], [0.5], ["wanda"], ["wanda", "wanda"], ["llm-pruner", "slicegpt"], [30], [26, 26]),
    *({"baseline": "flap"}, [{"baseline": "flap"}], [{"baseline": "flap", "step": 3}], [{"heads": True}], [GOOD]),
]


def keys(section: type[Section] = StudySettings, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every key; of lists of sections, of the first, and of each baseline."""
    for key in section.model_fields:
        yield (*above, key)
        for number, within in enumerate(section.alternatives(key)):
            yield from keys(within, (*above, key, number) if section.lists(key) else (*above, key))


@st.composite
def odd_study_files(draw: st.DrawFn) -> dict[str, Any]:
    """A study file with some keys' values changed, among them keys that there aren't."""
    values = copy.deepcopy(draw(st.sampled_from([GOOD, FULL])))
    paths = [*keys(), ("colour",), ("space",), ("tasks", 1, "name"), ("supernets", 1, "name")]
    for path in draw(st.lists(st.sampled_from(paths), max_size=4)):
        put(values, path, copy.deepcopy(draw(st.sampled_from(ODD))))
    return values
