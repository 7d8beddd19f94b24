"""Networks for vLLM without nasfarm."""

from services.exporter.vllm.vllm_format import Vllm

__all__ = ["Vllm"]
