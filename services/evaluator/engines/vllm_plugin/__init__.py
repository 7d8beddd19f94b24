"""What vLLM must know of sub-networks. It calls `register` itself, in each of its processes (entry point
`vllm.general_plugins`)."""

MODEL = "NasfarmSubnetForCausalLM"
LOAD_FORMAT = "nasfarm_supernet"


def register() -> None:
    """Make `MODEL` and `LOAD_FORMAT` known. The model is named, not imported: that is vLLM's rule for plugins."""
    from vllm import ModelRegistry
    from vllm.model_executor.model_loader import register_model_loader

    from services.evaluator.engines.vllm_plugin.loader import SupernetLoader

    ModelRegistry.register_model(MODEL, "services.evaluator.engines.vllm_plugin.model:SubnetForCausalLM")
    register_model_loader(LOAD_FORMAT)(SupernetLoader)
