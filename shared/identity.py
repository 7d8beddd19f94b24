"""What identities are made of: the named settings that decide an answer, and nothing else.

An identity is the digest of a recipe. Finished work is found again by it, so it must name everything that changes the
answer, and nothing that doesn't: where and when things are saved, how much memory or how many threads they take. It
also outlives releases: a setting that comes later is listed under `later`, with the value that says how it was before
there was a choice, at which it adds nothing. A test sees to it that every field of a setting or message is listed in
one of the three ways, so whoever adds one has to decide.

Recorded beside the identity, in each measurement, and not part of it:

* what the tasks' prompts and few-shot examples are. Whoever asks may have neither lm-eval nor the data. Each answer
  holds a digest of what was read (token ids and right choices), and a history takes no two answers to one task that
  differ in it (`services.coordinator.item_consistency`).
* versions of libraries, which change answers by their rounding.
* an engine's version and the device where speed is measured: known to whoever answers, not to whoever asks. So all
  networks whose speeds are compared are named in one request, which is answered on one device.

Our own methods are another matter: where a later release computes other answers on purpose, the constants here say so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.text import shortened, shown

INT8_VERSION = 2
"""How networks in INT8 are computed. 1: outlier columns were chosen over all tokens of a packed row, so that an item's
score depended on its company; 2: for each item, and for a prefix that items share, by itself."""
TOKENS_VERSION = 2
"""How training rows become tokens. 1: prompt and response were tokenised apart, which put a space (Llama 2) or an end
of text between them; 2: they are tokenised as one text."""


@dataclass(frozen=True)
class Recipe:
    """Which fields of a section decide what comes out.

    Attributes:
        always: those that count whatever their value is.
        later: those that there were not from the beginning, with the values at which they don't count.
        beside: those that never count.
        parts: the recipes of fields that are sections, or lists of sections.
    """

    always: tuple[str, ...] = ()
    later: Mapping[str, Any] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    parts: Mapping[str, "Recipe"] = field(default_factory=dict)

    @property
    def fields(self) -> set[str]:
        """All fields that are decided about."""
        return {*self.always, *self.later, *self.beside}

    def of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe of a section, given as JSON values."""
        counted = {name: self._part(name, values[name]) for name in self.always}
        later = {name: self._part(name, values[name]) for name in self.later if name in values}
        return counted | {name: value for name, value in later.items() if value != self.later[name]}

    def _part(self, name: str, value: Any) -> Any:
        recipe = self.parts.get(name)
        if recipe is None or value is None:
            return value
        return recipe.of(value) if isinstance(value, Mapping) else [recipe.of(each) for each in value]


def difference(made: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> str | None:
    """The first field in which two recipes differ, in words: `training.steps was 200, now 400`; None if none does."""
    for name in {**made, **asked}:
        one, other = made.get(name), asked.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found = difference(one, other, f"{prefix}{name}.")
            if found is not None:
                return found
        elif one != other:
            return f"{prefix}{name} was {_shown(one)}, now {_shown(other)}"
    return None


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return shortened(value)
    return "not set" if value is None else shown(value)


# Of a measurement: shared.messages.
ATTENTION: Mapping[str, Any] = {"attention": ["keep"]}
CHAT: Mapping[str, Any] = {"apply_chat_template": False, "fewshot_as_multiturn": True}
TASK_ITEMS = Recipe(("task", "num_fewshot", "split", "start", "stop"), later={**CHAT, "limit": None})
WORKLOAD = Recipe(("batch", "prompt_tokens", "generated_tokens"))
SPEED = Recipe(("engine", "workload", "repeats"), later={"networks": []}, parts={"workload": WORKLOAD})
COSTS = Recipe(("engine", "workload", "mlp_widths", "quantizations"), later=ATTENTION, parts={"workload": WORKLOAD})
EVALUATION = Recipe(
    ("tasks", "dtype", "speed", "costs"),
    later={"int8_version": 1},
    parts={"tasks": TASK_ITEMS, "speed": SPEED, "costs": COSTS},
)

# Of a super-network: shared.manifest. The model and the data count by their content, not by their names; memory by what
# was taken, which `training.memory` leaves open where it is `auto`.
TRAINED_SPACE = Recipe(("depths", "mlp_widths", "depth_rule"), later=ATTENTION, beside=("quantization",))
TRAINING = Recipe(
    (
        "steps",
        "tokens_per_step",
        "learning_rate",
        "warmup_steps",
        "weight_decay",
        "clip_norm",
        "neuron_order",
        "calibration_tokens",
        "seed",
    ),
    later={
        "subnets_per_step": 1,
        "sampling": "uniform",
        "distillation": "none",
        "refit": False,
        "importance_on": "all",
        "full_every": 2,
    },
    beside=("data", "memory", "checkpoint_every_seconds"),
)
SUPERNET = Recipe(
    ("base", "data", "space", "training"),
    later={"tokens_version": 1, "memory": "full"},
    parts={"space": TRAINED_SPACE, "training": TRAINING},
)

# Of a network made by a baseline: services.pruner.recipe. The base and the text count by their content; the text where
# a baseline reads it, the seed where it draws.
PARAMETER_TARGET = Recipe(("measure", "at_most"))
BYTE_TARGET = Recipe(("measure", "at_most", "dtype", "quantization"))
TARGETS: Mapping[str, Recipe] = {"parameters": PARAMETER_TARGET, "bytes": BYTE_TARGET}
WIDTH = ("baseline", "heads", "allocation")
BASELINES: Mapping[str, Recipe] = {
    "evopress": Recipe(("baseline", "generations", "offspring")),
    "flap": Recipe((*WIDTH, "compensation")),
    "greedy": Recipe(("baseline",)),
    "llm-pruner": Recipe((*WIDTH, "importance")),
    "magnitude": Recipe(WIDTH),
    "random": Recipe(("baseline",)),
    "shortgpt": Recipe(("baseline",)),
    "slicegpt": Recipe(("baseline", "step")),
    "wanda": Recipe(WIDTH),
}
PRUNED = Recipe(("base", "options", "target", "calibration", "seed"))

# Of a network that was fine-tuned by itself: services.trainer.recipe. No sub-networks are trained, nothing is ordered.
SINGLE_TRAINING = Recipe(
    ("steps", "tokens_per_step", "learning_rate", "warmup_steps", "weight_decay", "clip_norm", "seed"),
    beside=(
        "data",
        "neuron_order",
        "calibration_tokens",
        "memory",
        "checkpoint_every_seconds",
        "subnets_per_step",
        "sampling",
        "distillation",
        "refit",
        "importance_on",
        "full_every",
    ),
)
METHODS: Mapping[str, Recipe] = {"full": Recipe(("method",)), "lora": Recipe(("method", "rank", "alpha"))}
TUNING = Recipe(
    ("data", "tokens_version", "training", "method"),
    later={"memory": "full", "teacher": "none"},
    parts={"training": SINGLE_TRAINING},
)
SINGLE = Recipe(("base", "architecture", "tuning"), parts={"tuning": TUNING})

# Of a search: services.coordinator.plan. The super-network counts by its content, which includes how it was made.
SEARCHED_SPACE = Recipe(("depths", "mlp_widths", "quantization"), later=ATTENTION, beside=("depth_rule",))
PART = Recipe(("items", "split"))
TASK = Recipe(("name", "metric", "num_fewshot", "search", "report"), later=CHAT, parts={"search": PART, "report": PART})
STRATEGY = Recipe(
    ("strategy", "population", "seed"),
    later={"overlap": False, "asynchronous": False, "slices": 1},
    beside=("evaluations",),
)
SERVING = Recipe(("engine", "batch", "prompt_tokens", "generated_tokens", "repeats"))
REPORTING = Recipe(later={"margin": 2.0}, beside=("networks", "random"))
"""What is claimed is fixed before anything is measured; more networks may be looked at later, which is counted."""
SEARCH = Recipe(
    ("space", "tasks", "search", "objectives", "serving", "remeasure_int8"),
    later={"reporting": {}},
    beside=("name", "model", "supernet", "training", "include_path", "dtype"),
    parts={
        "space": SEARCHED_SPACE,
        "tasks": TASK,
        "search": STRATEGY,
        "serving": SERVING,
        "reporting": REPORTING,
    },
)
"""`include_path` is beside as a task counts by its name, wherever it is defined; `dtype` as `auto` is decided when a
search begins; the history has what it was decided to be."""
