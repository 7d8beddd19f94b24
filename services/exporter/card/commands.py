"""How to load and serve what was exported, as commands for what lies in the directory."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from services.exporter.card.facts import CardFacts
from services.exporter.protocol import FormatName
from shared.manifest import read_config
from shared.network.config import ARCHITECTURE, MODEL_TYPE

DECILM = "DeciLMForCausalLM"
BITSANDBYTES = "bitsandbytes"
"""A quantisation that vLLM has nothing for by itself, and transformers before 5 only on some machines."""
FORMATS: dict[str, FormatName] = {"transformers": "hf", "vLLM": "vllm", "llama.cpp": "gguf"}
"""What is written for each engine."""


@dataclass(frozen=True)
class Command:
    """What to type: `engine` is what it loads the network with, `needs` says in Markdown what must be installed and
    anything else that matters, `code` is in `language`."""

    engine: str
    needs: str
    language: str
    code: str


def commands(facts: CardFacts, directory: Path) -> tuple[Command, ...]:
    """Commands for every engine that can load the directory as it is."""
    place = facts.repository or "."
    if facts.format == "gguf":
        return _llama_cpp(facts, directory)
    config = read_config(directory)
    architecture = (config.get("architectures") or [""])[0]
    ours = config.get("model_type") == MODEL_TYPE or architecture == ARCHITECTURE
    remote = "auto_map" in config
    method = (config.get("quantization_config") or {}).get("quant_method")
    found = [] if architecture == DECILM else [_transformers(place, remote, method)]
    found += [] if method == BITSANDBYTES else [_vllm(place, ours, remote)]
    found += [] if method or ours or remote else [_converted(place)]
    return tuple(found)


def engines_of_other_formats(facts: CardFacts, directory: Path) -> dict[str, FormatName]:
    """Those that can't load the directory as it is, and what to export the network to for them."""
    able = {command.engine for command in commands(facts, directory)}
    return {engine: name for engine, name in FORMATS.items() if engine not in able}


def _transformers(place: str, remote: bool, quantised_by: str | None) -> Command:
    flag = ", trust_remote_code=True" if remote else ""
    transformers = "'transformers>=5'" if quantised_by == BITSANDBYTES else "transformers"
    needs = f"`pip install {transformers} accelerate{f' {quantised_by}' if quantised_by else ''}`"
    if remote:
        needs += "; the flag lets it run the modelling file beside the weights"
    return Command(
        "transformers",
        needs,
        "python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{place}"{flag})\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{place}"{flag})\n'
        'inputs = tokenizer("Ice is made of", return_tensors="pt")\n'
        "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0]))",
    )


def _vllm(place: str, ours: bool, remote: bool) -> Command:
    if ours:
        needs = "`pip install 'nasfarm[vllm]'`, whose plugin tells vLLM of layers that differ"
        return Command("vLLM", needs, "sh", f"vllm serve {shlex.quote(place)}")
    flag = " --trust-remote-code" if remote else ""
    return Command("vLLM", "`pip install vllm`", "sh", f"vllm serve {shlex.quote(place)}{flag}")


def _llama_cpp(facts: CardFacts, directory: Path) -> tuple[Command, ...]:
    needs = "[llama.cpp](https://github.com/ggml-org/llama.cpp)"
    if facts.weights == "Q8_0":
        needs += "; where it crashes on a processor with AMX, add `--no-repack`"
    found = []
    for file in sorted(path.name for path in directory.glob("*.gguf")):
        name = shlex.quote(file)
        source = f"--hf-repo {shlex.quote(facts.repository)} --hf-file {name}" if facts.repository else f"-m {name}"
        found.append(Command("llama.cpp", needs, "sh", f"llama-server {source}"))
    return tuple(found)


def _converted(place: str) -> Command:
    """A plain checkpoint of its family is what llama.cpp's own converter takes."""
    return Command(
        "llama.cpp",
        "its `convert_hf_to_gguf.py` takes this directory",
        "sh",
        f"python convert_hf_to_gguf.py {shlex.quote(place)} --outfile model.gguf\nllama-server -m model.gguf",
    )
