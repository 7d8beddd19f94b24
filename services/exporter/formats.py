"""The formats by their names. Each writer is imported when it is asked for, as it may need packages of its own."""

from importlib import import_module

from services.exporter.names import FormatName, GgufType
from services.exporter.protocol import ExportFormat
from shared.errors import UserError

WRITERS: dict[FormatName, tuple[str, str]] = {
    "hf": ("services.exporter.huggingface", "HuggingFace"),
    "vllm": ("services.exporter.vllm", "Vllm"),
    "gguf": ("services.exporter.gguf", "Gguf"),
}
"""Module and class of each format's writer."""


def make_format(name: FormatName, gguf_type: GgufType | None = None) -> ExportFormat:
    """The writer of a format; `gguf_type` says how numbers are held in a GGUF file, None elsewhere.

    Raises UserError for a type without GGUF, ModuleNotFoundError where a package that the format needs is missing.
    """
    module, writer = WRITERS[name]
    if name != "gguf" and gguf_type is not None:
        raise UserError(f"--type {gguf_type}: means nothing without --to gguf; give that too, or leave it out")
    options = () if gguf_type is None else (gguf_type,)
    made: ExportFormat = getattr(import_module(module), writer)(*options)
    return made
