"""Networks to compute sizes of."""

from shared.network.shape import AttentionShape, LayerShape, MlpShape, NetworkShape


def uniform_network(
    layers: int,
    mlp_width: int,
    hidden: int,
    heads: int = 4,
    kv_heads: int = 2,
    vocab_size: int = 100,
    tied_embeddings: bool = True,
) -> NetworkShape:
    """A Llama of layers that are alike."""
    attention = AttentionShape(heads=heads, kv_heads=kv_heads, head_dim=hidden // heads)
    layer = LayerShape(hidden, attention, MlpShape(mlp_width))
    return NetworkShape("llama", vocab_size, (layer,) * layers, tied_embeddings)
