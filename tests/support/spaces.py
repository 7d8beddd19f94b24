"""Search spaces for tests: the paper's, and random ones."""

from typing import Any

from hypothesis import strategies as st

from shared.architecture import AttentionChoice, Quantization
from shared.network.shape import NetworkShape
from shared.space import Genome, SearchSpace
from tests.support.networks import uniform_network

QUANTIZATIONS: tuple[tuple[Quantization, ...], ...] = (("none",), ("none", "int8"), ("int8", "none"), ("int8",))
Attentions = tuple[tuple[AttentionChoice, ...], ...]
ATTENTIONS: Attentions = (("keep",), ("keep", "skip"), ("skip", "keep"))

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
LLAMA2_7B_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}
"""LLaMA2-7B's configuration, as far as it says what the network's shape is."""
LLAMA2_7B = uniform_network(32, 11008, 4096, heads=32, kv_heads=32, vocab_size=32000, tied_embeddings=False)
PAPER_SPACE = SearchSpace(LLAMA2_7B, (24, 28, 32), (5504, 11008), tuple(range(31, 0, -1)))
"""LLaMA-NAS's: the first 24, 28 or 32 layers, each one's MLP whole or halved."""


@st.composite
def shapes(draw: st.DrawFn, max_layers: int) -> NetworkShape:
    """A small network with any number of layers and neurons."""
    return uniform_network(draw(st.integers(1, max_layers)), draw(st.integers(1, 50)), hidden=16)


@st.composite
def spaces(
    draw: st.DrawFn, max_layers: int = 7, attentions: Attentions = ATTENTIONS, max_orders: int = 3
) -> SearchSpace:
    """A space with any choices of depth, width, attention and quantization, whose layers leave in any orders, which may
    be equal."""
    shape = draw(shapes(max_layers))
    depths = draw(st.lists(st.integers(1, shape.depth), min_size=1, unique=True))
    widths = draw(st.lists(st.integers(1, shape.mlp_widths[0]), min_size=1, max_size=4, unique=True))
    orders = draw(st.lists(st.permutations(range(shape.depth)).map(tuple), min_size=1, max_size=max_orders))
    quantizations = draw(st.sampled_from(QUANTIZATIONS))
    attention = draw(st.sampled_from(attentions))
    return SearchSpace(shape, tuple(depths), tuple(widths), tuple(orders), quantizations, attention)


@st.composite
def spaces_with_genomes(draw: st.DrawFn, genomes: int) -> tuple[SearchSpace, list[Genome]]:
    """A space and some of its genomes."""
    space = draw(spaces())
    genome = st.tuples(*(st.integers(0, gene.choices - 1) for gene in space.genes))
    return space, [draw(genome) for _ in range(genomes)]
