"""The engine that is always installed: our own decoder with a KV cache."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from services.evaluator.engines.cache import DecodeStep, KVCache, PaddedPrompts
from services.evaluator.engines.protocol import PassSeconds, random_prompts
from services.evaluator.placement import to_device
from services.evaluator.progress_callback import ProgressCallback, ignore_progress
from shared.architecture import Architecture
from shared.messages import Dtype, Workload
from shared.messages import Engine as EngineName
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.device import device_name, torch_dtype


class TorchEngine:
    """Runs sub-networks as they are cut, in this process."""

    name: EngineName = "torch"
    version = torch.__version__

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.device = device_name(device)

    @contextmanager
    def run(self, checkpoint: Checkpoint, architecture: Architecture, dtype: Dtype) -> Iterator["TorchNetwork"]:
        """Cut a sub-network: no copy of weights that are on the device in `dtype` already."""
        yield TorchNetwork(to_device(checkpoint, self._device, torch_dtype(dtype)).cut(architecture))


class TorchNetwork:
    """A network on its device."""

    def __init__(self, network: Decoder) -> None:
        self._device = network.embeddings.device
        # With its frequencies beside the weights, no pass waits for them to be copied to a GPU.
        rotaries = {
            key: replace(rotary, frequencies=rotary.frequencies.to(self._device))
            for key, rotary in network.rotaries.items()
        }
        self._network = replace(network, rotaries=rotaries)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        cache = KVCache.of_prompts(self._network, prompts, tokens - 1)  # the last token is never an input
        made = [self._prefill(prompts, cache)]
        for _ in range(tokens - 1):
            made.append(self._step(cache, made[-1]))
        lines: list[list[int]] = torch.stack(made, dim=1).tolist()
        return lines

    @torch.inference_mode()
    def time(self, workload: Workload, repeats: int, progressed: ProgressCallback = ignore_progress) -> PassSeconds:
        prompts = random_prompts(workload, self._network.shape.vocab_size)
        rounds = []
        for _ in range(1 + repeats):
            rounds.append(self._round(prompts, workload.generated_tokens))
            progressed()
        prefill, decode = zip(*rounds[1:], strict=True)  # the first round only warms up
        return PassSeconds(prefill, decode)

    def _round(self, prompts: Sequence[Sequence[int]], steps: int) -> tuple[float, float]:
        cache = KVCache.of_prompts(self._network, prompts, steps)
        began = self._now()
        made = self._prefill(prompts, cache)
        prefilled = self._now()
        for _ in range(steps):
            made = self._step(cache, made)
        return prefilled - began, (self._now() - prefilled) / steps

    def _now(self) -> float:
        """The time when all work given to the device is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _prefill(self, prompts: Sequence[Sequence[int]], cache: KVCache) -> Tensor:
        """Prefill the prompts; returns the first new token of each, (sequences,)."""
        padded = PaddedPrompts.begin(prompts, cache)
        return self._likeliest(self._network.hidden(padded)[padded.ends])

    def _step(self, cache: KVCache, newest: Tensor) -> Tensor:
        """Decode one step from the newest token of each sequence, (sequences,); returns the next ones."""
        return self._likeliest(self._network.hidden(DecodeStep.after(cache, newest)))

    def _likeliest(self, states: Tensor) -> Tensor:
        return self._network.logits(states).argmax(-1)
