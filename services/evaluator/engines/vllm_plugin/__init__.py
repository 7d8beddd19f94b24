"""What vLLM must know of our networks. It calls `register` itself, in each of its processes (entry point
`vllm.general_plugins`), so that `vllm serve DIRECTORY` takes a checkpoint whose layers differ."""

from shared.network.config import ARCHITECTURE

LOAD_FORMAT = "nasfarm_supernet"


def register() -> None:
    """Make the model, its config and `LOAD_FORMAT` known. The model is named, not imported: that is vLLM's rule for
    plugins."""
    from transformers import AutoConfig
    from vllm import ModelRegistry
    from vllm.model_executor.model_loader import register_model_loader

    from services.evaluator.engines.vllm_plugin.config import NasfarmConfig
    from services.evaluator.engines.vllm_plugin.loader import SupernetLoader

    AutoConfig.register(NasfarmConfig.model_type, NasfarmConfig, exist_ok=True)
    ModelRegistry.register_model(ARCHITECTURE, "services.evaluator.engines.vllm_plugin.model:NasfarmForCausalLM")
    register_model_loader(LOAD_FORMAT)(SupernetLoader)
