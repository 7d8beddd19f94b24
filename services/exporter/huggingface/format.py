"""Hugging Face checkpoints: a plain one of the network's family where that describes it; otherwise one of our model
type, with the file that teaches transformers what it is."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import services.exporter.huggingface.modeling_nasfarm as modelling
from services.exporter.huggingface.config import MODELLING, exported_config
from services.exporter.huggingface.tokenizer import settle_tokenizer
from services.exporter.network import ExportedNetwork
from services.exporter.protocol import FormatName, Progressed
from services.exporter.weight_files import FLOATS, SHARD_BYTES, Weight, WeightFile, weight_files, write_weights
from shared.errors import UserError
from shared.network.config import MODEL_TYPE
from shared.supernet.saving import copy_companions


@dataclass(frozen=True)
class HuggingFace:
    """`shard_bytes`: how many bytes of tensors a file holds at most."""

    shard_bytes: int = SHARD_BYTES

    @property
    def name(self) -> FormatName:
        return "hf"

    def require_possible(self, network: ExportedNetwork) -> None:
        for name, tensor in network.weights():
            if tensor.dtype not in FLOATS:
                kind = str(tensor.dtype).removeprefix("torch.")
                raise UserError(f"{name}: {kind} can't be exported; save the checkpoint as bfloat16 or float32")

    def bytes(self, network: ExportedNetwork) -> int:
        return sum(file.bytes for file in self._files(network))

    def write(self, network: ExportedNetwork, directory: Path, progressed: Progressed) -> None:
        self.require_possible(network)
        source = network.checkpoint.directory
        copy_companions(source, directory)
        settle_tokenizer(source, directory)
        decoder = network.checkpoint.cut(network.architecture.quantized("none"))
        config = exported_config(network, decoder)
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if config["model_type"] == MODEL_TYPE:
            shutil.copyfile(Path(modelling.__file__), directory / f"{MODELLING}.py")
        write_weights(self._files(network), directory, progressed)

    def _files(self, network: ExportedNetwork) -> list[WeightFile]:
        if network.architecture.quantization == "int8":
            from services.exporter.huggingface.llm_int8 import int8_weights  # loading bitsandbytes takes seconds

            return weight_files(int8_weights(network), self.shard_bytes)
        return weight_files((Weight.of(name, tensor) for name, tensor in network.weights()), self.shard_bytes)
