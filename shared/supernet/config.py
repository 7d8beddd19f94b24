"""What transformers makes of a checkpoint's `config.json`."""

from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from shared.network.config import family_config


def transformers_config(values: Mapping[str, Any]) -> PretrainedConfig:
    """The config of a network's family, by the parsed `config.json`, without what single layers have of their own.

    Raises whatever transformers raises for values that it refuses.
    """
    plain = family_config(values)
    config: PretrainedConfig = CONFIG_MAPPING[plain["model_type"]].from_dict(plain)
    return config
