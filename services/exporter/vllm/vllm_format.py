"""The format `vllm`: a checkpoint that vLLM serves without nasfarm."""

import json
import shutil
from pathlib import Path
from typing import Any

from services.exporter.huggingface.tokenizer import settle_tokenizer
from services.exporter.network import ExportedNetwork
from services.exporter.protocol import FormatName, Progressed
from services.exporter.vllm import configuration_decilm
from services.exporter.vllm.compressed import quantization_config, w8a8_weights
from services.exporter.vllm.decilm import decilm_config, obstacle
from services.exporter.weight_files import Weight, WeightFile, weight_files, write_weights
from shared.errors import UserError
from shared.manifest import read_config
from shared.network.config import MODEL_TYPE, config_of
from shared.supernet.saving import copy_companions


class Vllm:
    """A plain checkpoint of the family where that describes the network, otherwise the layout of DeciLMForCausalLM. A
    network in INT8 is written in W8A8, which is another quantisation than the one that was measured."""

    name: FormatName = "vllm"

    def require_possible(self, network: ExportedNetwork) -> None:
        found = None if _plain_config(network) else obstacle(network.shape)
        if found is None:
            return
        what = "export it without INT8 by --to hf" if _quantised(network) else "export it by --to hf"
        raise UserError(
            f"format vllm: vLLM's layout for layers that differ (DeciLMForCausalLM) can't hold {found}; "
            f"{what}, which vLLM serves where nasfarm is installed"
        )

    def bytes(self, network: ExportedNetwork) -> int:
        return sum(file.bytes for file in _files(network))

    def write(self, network: ExportedNetwork, directory: Path, progressed: Progressed) -> None:
        self.require_possible(network)
        source = network.checkpoint.directory
        copy_companions(source, directory)
        settle_tokenizer(source, directory)
        plain = _plain_config(network)
        if plain is None:
            needed = Path(configuration_decilm.__file__)
            shutil.copyfile(needed, directory / needed.name)
        config = plain or decilm_config(network.shape, network.checkpoint.config)
        config = {key: value for key, value in config.items() if key not in ("torch_dtype", "dtype")}
        _, embeddings = next(network.weights())
        config["dtype"] = str(embeddings.dtype).removeprefix("torch.")
        if _quantised(network):
            config["quantization_config"] = quantization_config()
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_weights(_files(network), directory, progressed)


def _quantised(network: ExportedNetwork) -> bool:
    return network.architecture.quantization == "int8"


def _plain_config(network: ExportedNetwork) -> dict[str, Any] | None:
    """The config of the network's family, if that describes the network."""
    kept = network.architecture.layers
    config = config_of(network.shape, read_config(network.checkpoint.directory), kept)
    return None if config["model_type"] == MODEL_TYPE else config


def _files(network: ExportedNetwork) -> list[WeightFile]:
    if _quantised(network):
        return weight_files(w8a8_weights(network))
    return weight_files(Weight.of(name, tensor) for name, tensor in network.weights())
