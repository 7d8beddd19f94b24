"""The config of a network whose layers differ, as vLLM reads it from a checkpoint's directory."""

from typing import Any

from transformers import PretrainedConfig

from shared.network.config import ARITHMETIC, AUTO_MAP, MODEL_TYPE, PER_LAYER, network_of
from shared.network.shape import layers_to_json
from shared.supernet.config import transformers_config


class NasfarmConfig(PretrainedConfig):  # type: ignore[no-untyped-call]  # transformers' own hook
    """What the family's config class makes of `config.json`, with `family` and the list of `layers` beside it.

    Windows are those that `layers` names; vLLM must not add one for all of them. It has what an export's own model asks
    for too, which transformers may be told to load in a process of vLLM's.
    """

    model_type = MODEL_TYPE

    def __init__(self, use_cache: bool = True, **others: Any) -> None:
        self.use_cache = use_cache
        super().__init__(**others)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """The config. Raises UserError for one that makes no sense."""
        layers = network_of({key: value for key, value in config_dict.items() if key != "quantization_config"}).layers
        values = transformers_config(config_dict).to_dict()
        for key in (PER_LAYER, "layer_types", "sliding_window", "model_type"):
            values.pop(key, None)
        kept = ("architectures", ARITHMETIC, AUTO_MAP, "dtype", "family", "quantization_config", "use_cache")
        values |= {key: config_dict[key] for key in kept if key in config_dict}
        return super().from_dict(values | {"layers": layers_to_json(layers)}, **kwargs)
