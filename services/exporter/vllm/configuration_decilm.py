"""The config of a Llama whose layers differ, for vLLM's DeciLMForCausalLM. It lies beside the weights, and stands by
itself: whoever loads them needs transformers alone."""

from typing import Any

from transformers import LlamaConfig


class Block(dict):  # type: ignore[type-arg]
    """A JSON object whose values are attributes too: vLLM asks for `block_configs[0].ffn.intermediate_size`."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return Block(self[name]) if isinstance(self[name], dict) else self[name]


class DeciLMConfig(LlamaConfig):  # type: ignore[no-untyped-call]  # transformers' own hook
    """Llama's config, with `block_configs`, which says of each layer what it is."""

    model_type = "nemotron-nas"

    def __setattr__(self, name: str, value: Any) -> None:
        shown = [Block(block) for block in value] if name == "block_configs" else value
        super().__setattr__(name, shown)  # type: ignore[no-untyped-call]
