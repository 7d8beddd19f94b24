"""GGUF files, which llama.cpp and whatever is built on it load."""

from services.exporter.gguf.format import Gguf

__all__ = ["Gguf"]
