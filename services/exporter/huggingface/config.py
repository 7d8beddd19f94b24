"""`config.json` of an exported network: what releases of transformers from 4.46 on read alike."""

from collections.abc import Mapping
from typing import Any

import torch

from services.exporter.network import ExportedNetwork
from shared.manifest import read_config
from shared.network.config import ARITHMETIC, AUTO_MAP, MODEL_TYPE, PER_LAYER, config_of, family_config, network_of
from shared.supernet.decoder import Decoder

MODELLING = "modeling_nasfarm"
CLASSES = {
    "AutoConfig": f"{MODELLING}.NasfarmConfig",
    "AutoModel": f"{MODELLING}.NasfarmModel",
    "AutoModelForCausalLM": f"{MODELLING}.NasfarmForCausalLM",
}
WINDOWS = ("sliding_window", "use_sliding_window", "max_window_layers", "layer_types", "sliding_window_pattern")
"""Keys of families from which transformers would work out which layers' caches forget; `layers` says it of each."""
STALE = ("dtype", "torch_dtype", "transformers_version")
"""Keys that spoke of the checkpoint that the network was cut out of."""


def exported_config(network: ExportedNetwork, decoder: Decoder) -> dict[str, Any]:
    """The config of a network, of which `decoder` are the weights before quantisation."""
    source = read_config(network.checkpoint.directory)
    source = {key: value for key, value in source.items() if key not in STALE}
    config = _with_former_rope(config_of(network.shape, source, network.architecture.layers))
    if config["model_type"] == MODEL_TYPE:
        config = _own(config, decoder)
    if network.architecture.quantization == "int8":
        from services.exporter.huggingface.llm_int8 import quantization_config  # loading bitsandbytes takes seconds

        config["quantization_config"] = quantization_config()
    # Not `dtype`, which old releases don't know: new ones read both.
    return config | {"torch_dtype": str(decoder.embeddings.dtype).removeprefix("torch.")}


def _own(config: dict[str, Any], decoder: Decoder) -> dict[str, Any]:
    config = {key: value for key, value in config.items() if key not in WINDOWS}
    if PER_LAYER in config:
        said = family_config(config) | {PER_LAYER: config[PER_LAYER]}
        if network_of(said) != decoder.shape:  # there are windows
            del config[PER_LAYER]
    rotaries: dict[str, dict[str, Any]] = {}
    for (name, head_dim), rotary in decoder.rotaries.items():
        # Frequencies, not what they are computed from: that differs from one release of transformers to another.
        rotaries.setdefault(name, {})[str(head_dim)] = {
            "frequencies": rotary.frequencies.to(torch.float32).tolist(),
            "scale": float(rotary.scale),
        }
    return config | {
        AUTO_MAP: CLASSES,
        ARITHMETIC: {
            "norm_epsilon": decoder.arithmetic.norm_epsilon,
            "norm_offset": decoder.arithmetic.norm_offset,
            "embedding_scale": decoder.arithmetic.embedding_scale,
            "rotaries": rotaries,
        },
    }


def _with_former_rope(config: dict[str, Any]) -> dict[str, Any]:
    """The same with rotary embeddings as transformers 4 writes them, which 5 reads too, where that form can say it."""
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict):
        return config
    kept = {key: value for key, value in config.items() if key != "rope_parameters"}
    full, sliding = rope.get("full_attention"), rope.get("sliding_attention")
    if full is None or sliding is None:
        return kept | _former(rope) if "rope_theta" in rope else config
    if sliding.get("rope_type", "default") != "default":
        return config
    return kept | _former(full) | {"rope_local_base_freq": sliding["rope_theta"]}


def _former(rope: Mapping[str, Any]) -> dict[str, Any]:
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    return {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": None if scaling.get("rope_type", "default") == "default" else scaling,
    }
