"""Search spaces for tests: the paper's, and random ones."""

from typing import Any

from hypothesis import strategies as st

from shared.architecture import Quantization
from shared.shape import ModelShape
from shared.space import Genome, SearchSpace

QUANTIZATIONS: tuple[tuple[Quantization, ...], ...] = (("none",), ("none", "int8"), ("int8", "none"), ("int8",))

EXAMPLE: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "tie_word_embeddings": True,
}
"""The example model's configuration, as far as it says what the network's shape is."""
LLAMA2_7B = ModelShape(
    family="llama",
    vocab_size=32000,
    hidden_size=4096,
    layers=32,
    heads=32,
    kv_heads=32,
    head_dim=128,
    mlp_width=11008,
    tied_embeddings=False,
)
PAPER_SPACE = SearchSpace(LLAMA2_7B, (24, 28, 32), (5504, 11008), tuple(range(31, 0, -1)))
"""LLaMA-NAS's: the first 24, 28 or 32 layers, each one's MLP whole or halved."""


@st.composite
def shapes(draw: st.DrawFn, max_layers: int) -> ModelShape:
    """A small shape with any number of layers and neurons."""
    return ModelShape(
        family="llama",
        vocab_size=100,
        hidden_size=16,
        layers=draw(st.integers(1, max_layers)),
        heads=4,
        kv_heads=2,
        head_dim=4,
        mlp_width=draw(st.integers(1, 50)),
        tied_embeddings=True,
    )


@st.composite
def spaces(draw: st.DrawFn, max_layers: int = 7) -> SearchSpace:
    """A space with any choices of depth, width and quantization, whose layers leave in any order."""
    shape = draw(shapes(max_layers))
    depths = draw(st.lists(st.integers(1, shape.layers), min_size=1, unique=True))
    widths = draw(st.lists(st.integers(1, shape.mlp_width), min_size=1, max_size=4, unique=True))
    order = draw(st.permutations(range(shape.layers)))
    quantizations = draw(st.sampled_from(QUANTIZATIONS))
    return SearchSpace(shape, tuple(depths), tuple(widths), tuple(order), quantizations)


@st.composite
def spaces_with_genomes(draw: st.DrawFn, genomes: int) -> tuple[SearchSpace, list[Genome]]:
    """A space and some of its genomes."""
    space = draw(spaces())
    genome = st.tuples(*(st.integers(0, gene.choices - 1) for gene in space.genes))
    return space, [draw(genome) for _ in range(genomes)]
