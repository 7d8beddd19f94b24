"""What formats, and the kinds of numbers in GGUF files, are called on the command line."""

from typing import Literal

FormatName = Literal["hf", "vllm", "gguf"]
GgufType = Literal["F32", "F16", "BF16", "Q8_0"]
