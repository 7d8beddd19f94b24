"""Hugging Face checkpoints. Importing this makes transformers' Auto classes open the model type `nasfarm`."""

from services.exporter.huggingface.format import HuggingFace
from services.exporter.huggingface.registration import register

__all__ = ["HuggingFace"]

register()
