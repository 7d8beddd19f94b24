"""What can be chosen of each baseline. Free of torch: whoever asks for a baseline need not load it."""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from shared.errors import UserError
from shared.settings.mistakes import explain
from shared.settings.values import Section, Whole

BaselineName = Literal[
    "evopress", "flap", "greedy", "llm-pruner", "magnitude", "random", "shortgpt", "slicegpt", "wanda"
]

Allocation = Literal["uniform", "global"]
"""Whether each layer loses the same share, or those lose most whose structures are least important."""


NAMED = Field(description="Which baseline it is.")


class WidthOptions(Section):
    """Of baselines that make layers narrower."""

    heads: Annotated[
        bool, Field(description="Remove key/value groups, with their query heads, as well as MLP neurons.")
    ] = True
    allocation: Annotated[
        Allocation,
        Field(
            description="Which layers lose most: `uniform` takes the same share of each, `global` takes whatever is "
            "least important in the whole network."
        ),
    ] = "uniform"


class MagnitudeOptions(WidthOptions):
    """MLP neurons go by their weights alone."""

    baseline: Annotated[Literal["magnitude"], NAMED] = "magnitude"
    heads: Annotated[bool, Field(description=WidthOptions.described("heads"))] = False


class WandaOptions(WidthOptions):
    """Neurons and heads go by their weights times what they are multiplied with."""

    baseline: Annotated[Literal["wanda"], NAMED] = "wanda"


class FlapOptions(WidthOptions):
    """Neurons and heads go by how much what they are multiplied with fluctuates."""

    baseline: Annotated[Literal["flap"], NAMED] = "flap"
    allocation: Annotated[Allocation, Field(description=WidthOptions.described("allocation"))] = "global"
    compensation: Annotated[bool, Field(description="Add what removed structures gave in the mean as a bias.")] = True


class LlmPrunerOptions(WidthOptions):
    """Neurons and heads go by what the loss loses with them to first order; first and last layers are spared."""

    baseline: Annotated[Literal["llm-pruner"], NAMED] = "llm-pruner"
    importance: Annotated[
        Literal["element", "vector"],
        Field(description="Estimate it for each weight (`element`), or for each row and column (`vector`)."),
    ] = "element"


class RandomOptions(Section):
    """Layers and MLP neurons go by chance."""

    baseline: Annotated[Literal["random"], NAMED] = "random"


class ShortGptOptions(Section):
    """Layers go by how little they turn the state."""

    baseline: Annotated[Literal["shortgpt"], NAMED] = "shortgpt"


class GreedyOptions(Section):
    """That layer goes next without which the network's predictions change least."""

    baseline: Annotated[Literal["greedy"], NAMED] = "greedy"


class EvoPressOptions(Section):
    """Which layers stay is found by an evolution."""

    baseline: Annotated[Literal["evopress"], NAMED] = "evopress"
    generations: Annotated[
        Whole, Field(ge=1, description="Generations of the evolution; its time grows with them.")
    ] = 20
    offspring: Annotated[Whole, Field(ge=2, description="Networks that are tried in each generation.")] = 16


class SliceGptOptions(Section):
    """Every state loses the directions in which it varies least."""

    baseline: Annotated[Literal["slicegpt"], NAMED] = "slicegpt"
    step: Annotated[
        Whole,
        Field(
            ge=1,
            description="Hidden sizes are multiples of it, as in the authors' experiments; odd ones are slow to "
            "multiply.",
        ),
    ] = 8


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
