"""The formats by their names."""

from collections.abc import Callable
from dataclasses import replace

from services.exporter.gguf import Gguf
from services.exporter.huggingface import HuggingFace
from services.exporter.names import FormatName, GgufType
from services.exporter.network import Origin
from services.exporter.protocol import ExportFormat
from services.exporter.vllm import Vllm


def _gguf(kind: GgufType | None, origin: Origin | None) -> ExportFormat:
    form = Gguf() if kind is None else Gguf(kind)
    if origin is None:
        return form
    return replace(form, title=origin.title, base_model=origin.base_model, license=origin.license)


WRITERS: dict[FormatName, Callable[[GgufType | None, Origin | None], ExportFormat]] = {
    "hf": lambda *_: HuggingFace(),
    "vllm": lambda *_: Vllm(),
    "gguf": _gguf,
}


def make_format(name: FormatName, gguf_type: GgufType | None = None, origin: Origin | None = None) -> ExportFormat:
    """The writer of a format; `gguf_type` says how numbers are held in a GGUF file, None elsewhere; `origin`
    is said in files that have a place for it."""
    return WRITERS[name](gguf_type, origin)
