"""What formats, and the kinds of numbers in GGUF files, are called on the command line."""

from typing import Literal

FormatName = Literal["hf", "vllm", "gguf"]
GgufType = Literal["f32", "f16", "bf16", "q8_0"]
