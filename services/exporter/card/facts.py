"""What a model card says of an exported network, as data."""

from dataclasses import dataclass

from services.exporter.protocol import FormatName
from shared.architecture import Quantization
from shared.messages import Dtype
from shared.settings import task_title


@dataclass(frozen=True)
class License:
    """The base model's license, as its own card names it: `identifier` is the hub's (`apache-2.0`, `llama2`); where
    that is `other`, `name` and `link` say which one."""

    identifier: str
    name: str | None = None
    link: str | None = None


@dataclass(frozen=True)
class TaskAccuracy:
    """Accuracy on the report items of one task, on which the network was not chosen; shares between 0 and 1.

    `task` and `metric` are lm-eval's names; `interval` is the 95 % interval; `items` how many there were; `examples`
    how many few-shot examples stood in the prompt (None: the task's own). `dense` and `base` are the accuracies of the
    whole super-network and of the untouched base model on the same items, and `against_dense`, `against_base` the 95 %
    intervals of the differences to them, paired item by item; None where there are none. `before`: accuracy of this
    network as the search measured it, where the accuracy is that of another quantisation, in which it is written.
    """

    task: str
    metric: str
    accuracy: float
    interval: tuple[float, float]
    items: int
    examples: int | None
    dense: float | None = None
    base: float | None = None
    against_dense: tuple[float, float] | None = None
    against_base: tuple[float, float] | None = None
    before: float | None = None

    @property
    def title(self) -> str:
        """What the task is called before others."""
        return task_title(self.task)


@dataclass(frozen=True)
class SearchFacts:
    """How a network was found: the strategy, how many networks the search measured, and the search space in words,
    such as `28 to 30 layers, each MLP 768, 1152 or 1536 wide`."""

    strategy: str
    evaluations: int
    space: str


@dataclass(frozen=True)
class FinishedFacts:
    """How a network was fine-tuned further by itself, taught by the whole one: in so many steps; and what that was
    worth on the report items of all tasks: accuracy `before` and `after`, and the 95 % `interval` of the difference,
    paired item by item."""

    steps: int
    items: int
    before: float
    after: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class CardFacts:
    """Everything that a card says.

    `name`: what the network is called (`smollm2-arc-easy-N5`). `base_model`: the base's id at the hub, or, where it was
    a directory, that directory's name: never a path of the machine. `datasets`: ids at the hub of what the
    super-network was fine-tuned on, in `fine_tuning_steps` steps (0: it was not). `tasks` is empty for a network that
    was never measured on report items. `search` is None for a network that no search found, `finished` for one that was
    not fine-tuned further by itself.

    `quantization` and `dtype` are those in which the search measured the network; `weights` says how the weights are
    written (`bfloat16`, `Q8_0`, `INT8 (W8A8)`), and `measured_as_written` whether the accuracies are those of the
    weights as they are written, not of what these were rounded from: because that is the same, or because the network
    was `measured_again` so. Then `otherwise` says how many items of how many are answered otherwise than by the network
    as the search measured it, where that is known. `bytes_in_memory` are those of the weights as the
    network was measured, `base_bytes_in_memory` the base's in the same `dtype` without INT8, `bytes_on_disk` those of
    the weights as they are written.

    `kept` are the places that the network's layers have in the base, `mlp_widths` their widths; `base_mlp_widths`
    those of all layers of the base; `without_attention` those of `kept` where the network lacks it. `verified`: what
    comparing the export with the measured network showed, in words; None if it was not compared. `repository`: the id
    at the hub under which the export is going to lie; None if it stays a directory.
    """

    name: str
    base_model: str
    base_license: License | None
    family: str
    datasets: tuple[str, ...]
    fine_tuning_steps: int
    tasks: tuple[TaskAccuracy, ...]
    search: SearchFacts | None
    parameters: int
    base_parameters: int
    bytes_in_memory: int
    base_bytes_in_memory: int
    bytes_on_disk: int
    quantization: Quantization
    dtype: Dtype
    weights: str
    measured_as_written: bool
    kept: tuple[int, ...]
    mlp_widths: tuple[int, ...]
    base_mlp_widths: tuple[int, ...]
    format: FormatName
    measured_again: bool = False
    otherwise: tuple[int, int] | None = None
    verified: str | None = None
    repository: str | None = None
    finished: FinishedFacts | None = None
    without_attention: tuple[int, ...] = ()

    @property
    def fewer_parameters(self) -> float:
        """How many times fewer parameters than the base's there are."""
        return self.base_parameters / self.parameters

    @property
    def less_memory(self) -> float:
        """How many times less memory than the base's the weights take."""
        return self.base_bytes_in_memory / self.bytes_in_memory
