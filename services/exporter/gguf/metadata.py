"""What a GGUF file says of the network besides its tensors."""

from collections.abc import Sequence

from gguf import GGML_QUANT_VERSION, GGUFWriter

from services.exporter.gguf.layout import Layout
from services.exporter.gguf.numbers import NumberType, decoder_of
from services.exporter.gguf.rotary import add_rotary
from services.exporter.gguf.tensors import file_width, written_layers
from services.exporter.network import ExportedNetwork
from shared.network.shape import AttentionShape


def add_metadata(writer: GGUFWriter, network: ExportedNetwork, numbers: NumberType, layout: Layout) -> None:
    """Write the sizes and the arithmetic of a network that the layout holds."""
    shape = network.shape
    layers = [shape.layers[index] for index in written_layers(shape)]
    attentions = [layer.attention for layer in layers]
    first = next(attention for attention in attentions if attention is not None)
    writer.add_type("model")
    writer.add_file_type(numbers.file_type)
    if numbers.block > 1:
        writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_context_length(network.checkpoint.config.max_position_embeddings)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(len(layers))
    writer.add_feed_forward_length(_said(layout, [file_width(layer, numbers.block) for layer in layers]))
    writer.add_head_count(_said(layout, [0 if one is None else one.heads for one in attentions]))
    writer.add_head_count_kv(_said(layout, [0 if one is None else one.kv_heads for one in attentions]))
    writer.add_key_length(first.head_dim)
    writer.add_value_length(first.head_dim)
    writer.add_rope_dimension_count(first.head_dim)
    writer.add_vocab_size(shape.vocab_size)
    arithmetic = decoder_of(network).arithmetic
    writer.add_layer_norm_rms_eps(arithmetic.norm_epsilon)
    window = _window(attentions)
    if window is not None:
        writer.add_sliding_window(window)
    add_rotary(network, writer)


def _said(layout: Layout, values: Sequence[int]) -> int | Sequence[int]:
    """Layer by layer where the architecture asks for that."""
    return values if layout.layered else values[0]


def _window(attentions: Sequence[AttentionShape | None]) -> int | None:
    return next((one.window for one in attentions if one is not None and one.window is not None), None)
