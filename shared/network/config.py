"""`config.json`, read and written: a family's own, the same with Hugging Face's `per_layer_config`, or ours, which says
of every layer what it is.

A network that a plain config of its family describes is written so, and any tool opens it. Others have the model type
`nasfarm`: `family` names the family whose keys stand beside, `layers` lists the layers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import UserError
from shared.network.families import FAMILIES, Config, Family
from shared.network.shape import LayerShape, NetworkShape, layers_from_json, layers_to_json
from shared.text import shortened, shown

MODEL_TYPE = "nasfarm"
ARCHITECTURE = "NasfarmForCausalLM"
PER_LAYER = "per_layer_config"
ARITHMETIC, AUTO_MAP = "arithmetic", "auto_map"
"""What an exported network's config says besides: to transformers, and of the code that goes along."""
OVERRIDES = ("intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "sliding_window")
"""What `per_layer_config` may say of a layer."""
SHARED_OVERRIDES = ("intermediate_size", "num_key_value_heads")
"""What is written there: transformers' own config classes refuse other numbers of query heads."""
MOST_LAYERS = 10_000
NOT_OF_FAMILY = (PER_LAYER, ARITHMETIC, AUTO_MAP, "layers", "family")
LISTS = ("layer_types", "no_rope_layers")
"""Keys that hold an entry for each layer."""


def network_of(config: Mapping[str, Any], where: str = "config.json") -> NetworkShape:
    """The network that the parsed `config.json` of a checkpoint describes.

    Raises UserError for a family that isn't supported and for missing or impossible dimensions; `where` names the file
    in the message.
    """
    family, own = _family(config, where), config.get("model_type") == MODEL_TYPE
    if config.get("quantization_config"):
        raise UserError(f"{where}: the weights are quantised; give the checkpoint before quantisation")
    whole = Config(config, where)
    try:
        family.check(whole)
        layers = layers_from_json(config.get("layers"), where) if own else _layers(family, whole)
        for layer in layers:
            family.check_layer(layer)
        return NetworkShape(
            family=family.model_type,
            vocab_size=whole.dimension("vocab_size"),
            layers=layers,
            tied_embeddings=bool(whole.get("tie_word_embeddings", family.tied_by_default)),
        )
    except UserError as error:
        raise error if str(error).startswith(where) else UserError(f"{where}: {error}") from error


def family_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config says to its family's own config class: without what layers have of their own."""
    plain = {key: value for key, value in config.items() if key not in NOT_OF_FAMILY}
    if config.get("model_type") == MODEL_TYPE:
        plain["model_type"] = config["family"]
    return plain


def config_of(network: NetworkShape, config: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """The `config.json` of a network that was made from another one, whose config is given; `kept` are the places that
    its layers had there.

    It is a plain config of the family if that describes the network. Raises ValueError if `kept` doesn't say of each
    layer where it was.
    """
    if len(kept) != network.depth:
        raise ValueError(f"{len(kept)} places for {network.depth} layers")
    plain = family_config(config) | {
        "num_hidden_layers": network.depth,
        "tie_word_embeddings": network.tied_embeddings,
    }
    plain |= {key: [plain[key][index] for index in kept] for key in LISTS if plain.get(key) is not None}
    if len({layer.mlp_width for layer in network.layers}) == 1 and network.layers[0].mlp is not None:
        plain["intermediate_size"] = network.layers[0].mlp.width
    listed = plain | FAMILIES[network.family].lists(network)
    for candidate in (plain, listed):
        if _describes(candidate, network):
            return candidate
    own = plain | {
        "model_type": MODEL_TYPE,
        "architectures": [ARCHITECTURE],
        "family": network.family,
        "layers": layers_to_json(network.layers),
    }
    per_layer = {str(index): _overrides(layer, plain) for index, layer in enumerate(network.layers)}
    if all(layer.attention and layer.mlp for layer in network.layers) and _describes(
        plain | {PER_LAYER: per_layer}, network
    ):
        own[PER_LAYER] = {index: values for index, values in per_layer.items() if values}
    return own


def _family(config: Mapping[str, Any], where: str) -> Family:
    named = config.get("family" if config.get("model_type") == MODEL_TYPE else "model_type")
    if not isinstance(named, str) or named not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UserError(
            f"{where}: model_type {shown(named)} is not supported; use a model of one of the families {known}"
        )
    return FAMILIES[named]


def _layers(family: Family, config: Config) -> tuple[LayerShape, ...]:
    count = config.dimension("num_hidden_layers", most=MOST_LAYERS)
    per_layer = config.get(PER_LAYER, {})
    if not isinstance(per_layer, dict) or not all(isinstance(values, dict) for values in per_layer.values()):
        raise UserError(f"{config.where}: {PER_LAYER} must say for a layer's number what differs there")
    places = {str(index) for index in range(count)}
    for index, values in per_layer.items():
        if index not in places:
            named = shown(index)
            raise UserError(f"{config.where}: {PER_LAYER} names layer {named}, the model has layers 0 to {count - 1}")
        for key in values:
            if key not in OVERRIDES:
                known = ", ".join(OVERRIDES)
                named = f"{PER_LAYER}.{index}.{shortened(key)}"
                raise UserError(f"{config.where}: {named} is not supported; only {known} are")
    return tuple(
        family.layer(Config({**config.values, **per_layer.get(str(index), {})}, config.where), index)
        for index in range(count)
    )


def _describes(config: Mapping[str, Any], network: NetworkShape) -> bool:
    try:
        return network_of(config) == network
    except UserError:
        return False


def _overrides(layer: LayerShape, plain: Mapping[str, Any]) -> dict[str, int]:
    """What differs in a layer, as far as `per_layer_config` is to say it."""
    kv_heads = None if layer.attention is None else layer.attention.kv_heads
    values = dict(zip(SHARED_OVERRIDES, (layer.mlp_width, kv_heads), strict=True))
    return {key: value for key, value in values.items() if value is not None and value != plain.get(key)}
