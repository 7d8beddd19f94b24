"""A sub-network's weights, for vLLM."""

from pathlib import Path
from typing import Any

from vllm.config import ModelConfig
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

from shared.architecture import Architecture
from shared.supernet.checkpoint import Checkpoint


class SupernetLoader(BaseModelLoader):
    """Cuts the weights out of the super-network where they are needed: nothing is written in between."""

    def download_model(self, model_config: ModelConfig) -> None:
        """Nothing to do: the checkpoint is a directory."""

    def load_weights(self, model: Any, model_config: ModelConfig) -> None:
        """Load those of the architecture that `model_loader_extra_config` holds."""
        architecture = Architecture.model_validate(self.load_config.model_loader_extra_config)
        model.load_weights(Checkpoint.open(Path(model_config.model)).cut(architecture).weights())
