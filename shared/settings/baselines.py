"""What can be chosen of each baseline. Free of torch: whoever asks for a baseline need not load it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.errors import UserError
from shared.settings.mistakes import explain

BaselineName = Literal[
    "evopress", "flap", "greedy", "llm-pruner", "magnitude", "random", "shortgpt", "slicegpt", "wanda"
]

Allocation = Literal["uniform", "global"]
"""Whether each layer loses the same share, or those lose most whose structures are least important."""


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WidthOptions(_Options):
    """Of baselines that make layers narrower; `heads`: key/value groups are removed as well as MLP neurons."""

    heads: bool = True
    allocation: Allocation = "uniform"


class MagnitudeOptions(WidthOptions):
    """Structures go by their weights alone."""

    baseline: Literal["magnitude"] = "magnitude"
    heads: bool = False


class WandaOptions(WidthOptions):
    """Structures go by their weights times what they are multiplied with."""

    baseline: Literal["wanda"] = "wanda"


class FlapOptions(WidthOptions):
    """Structures go by how much what they are multiplied with fluctuates; `compensation`: its mean becomes a bias."""

    baseline: Literal["flap"] = "flap"
    allocation: Allocation = "global"
    compensation: bool = True


class LlmPrunerOptions(WidthOptions):
    """Structures go by what the loss loses with them to first order, estimated for each of their weights (`element`) or
    each row and column (`vector`)."""

    baseline: Literal["llm-pruner"] = "llm-pruner"
    importance: Literal["element", "vector"] = "element"


class RandomOptions(_Options):
    """Layers and MLP neurons go by chance."""

    baseline: Literal["random"] = "random"


class ShortGptOptions(_Options):
    """Layers go by how little they turn the state."""

    baseline: Literal["shortgpt"] = "shortgpt"


class GreedyOptions(_Options):
    """That layer goes next without which the network's predictions change least."""

    baseline: Literal["greedy"] = "greedy"


class EvoPressOptions(_Options):
    """Which layers stay is found by an evolution of so many generations with so many offspring each."""

    baseline: Literal["evopress"] = "evopress"
    generations: Annotated[int, Field(ge=1)] = 20
    offspring: Annotated[int, Field(ge=2)] = 16


class SliceGptOptions(_Options):
    """Every state loses the directions in which it varies least; hidden sizes are multiples of `step`, as in the
    authors' experiments, since odd ones are slow to multiply."""

    baseline: Literal["slicegpt"] = "slicegpt"
    step: Annotated[int, Field(ge=1)] = 8


BaselineOptions = Annotated[
    MagnitudeOptions
    | WandaOptions
    | FlapOptions
    | LlmPrunerOptions
    | RandomOptions
    | ShortGptOptions
    | GreedyOptions
    | EvoPressOptions
    | SliceGptOptions,
    Field(discriminator="baseline"),
]


def parse_options(values: Any, where: str) -> BaselineOptions:
    """The options of the baseline that `values["baseline"]` names.

    Raises UserError, which says `where`, for a baseline or an option that there isn't.
    """
    adapter: TypeAdapter[BaselineOptions] = TypeAdapter(BaselineOptions)
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error)}") from error
