"""The model families that nasfarm knows. A new one is a module here, and its line in `FAMILIES`."""

from shared.network.families.family import Arithmetic, Config, Family
from shared.network.families.gemma3_text import Gemma3Text
from shared.network.families.llama import Llama
from shared.network.families.mistral import Mistral
from shared.network.families.qwen2 import Qwen2
from shared.network.families.qwen3 import Qwen3
from shared.network.families.smollm3 import SmolLM3

__all__ = ["FAMILIES", "Arithmetic", "Config", "Family", "family_of"]

FAMILIES: dict[str, Family] = {
    family.model_type: family for family in (Llama(), Mistral(), Qwen2(), Qwen3(), SmolLM3(), Gemma3Text())
}


def family_of(model_type: str) -> Family:
    """The family that a config names. Raises KeyError for one that isn't supported."""
    return FAMILIES[model_type]
