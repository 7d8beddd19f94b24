"""The model type `nasfarm` for transformers, where nasfarm is installed: no code that comes with a network is run."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from services.exporter.huggingface.modeling_nasfarm import NasfarmConfig, NasfarmForCausalLM, NasfarmModel


def register() -> None:
    """Make transformers' Auto classes know the model type. Doing so again changes nothing."""
    AutoConfig.register(NasfarmConfig.model_type, NasfarmConfig, exist_ok=True)
    AutoModel.register(NasfarmConfig, NasfarmModel, exist_ok=True)
    AutoModelForCausalLM.register(NasfarmConfig, NasfarmForCausalLM, exist_ok=True)
    # `save_pretrained` then puts the modelling file beside the weights, for those who haven't got nasfarm.
    NasfarmConfig.register_for_auto_class()  # type: ignore[no-untyped-call]
    NasfarmModel.register_for_auto_class("AutoModel")  # type: ignore[no-untyped-call]
    NasfarmForCausalLM.register_for_auto_class("AutoModelForCausalLM")  # type: ignore[no-untyped-call]
