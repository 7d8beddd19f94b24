"""The engine that is always installed: our own decoder with a KV cache."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from services.evaluator.engines.decoding import Capture, Captured, Decoding, StepByStep, capturable
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
    """Runs sub-networks as they are cut, in this process. `capture` is how steps of decoding are captured, if they
    are."""

    name: EngineName = "torch"
    version = torch.__version__

    def __init__(self, device: torch.device, capture: Capture | None = None) -> None:
        self._device, self._capture = device, capture
        self.device = device_name(device)

    @contextmanager
    def run(self, checkpoint: Checkpoint, architecture: Architecture, dtype: Dtype) -> Iterator["TorchNetwork"]:
        """Cut a sub-network: no copy of weights that are on the device in `dtype` already."""
        network = to_device(checkpoint, self._device, torch_dtype(dtype)).cut(architecture)
        yield TorchNetwork(network, self._capture)


class TorchNetwork:
    """A network on its device."""

    def __init__(self, network: Decoder, capture: Capture | None) -> None:
        self._network = network
        self._device = network.embeddings.device
        self._capture = capture if capturable(network) else None

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        decoding = self._decoding(prompts, tokens - 1)  # the last token is never an input
        decoding.make_ready()
        decoding.prefill()
        made = [decoding.newest.clone()]
        for _ in range(tokens - 1):
            decoding.step()
            made.append(decoding.newest.clone())
        lines: list[list[int]] = torch.stack(made, dim=1).tolist()
        return lines

    @torch.inference_mode()
    def time(self, workload: Workload, repeats: int, progressed: ProgressCallback = ignore_progress) -> PassSeconds:
        prompts = random_prompts(workload, self._network.shape.vocab_size)
        decoding = self._decoding(prompts, workload.generated_tokens)
        rounds = []
        for _ in range(1 + repeats):
            rounds.append(self._round(decoding, workload.generated_tokens))
            progressed()
        prefill, decode = zip(*rounds[1:], strict=True)  # the first round only warms up
        return PassSeconds(prefill, decode)

    def _decoding(self, prompts: Sequence[Sequence[int]], steps: int) -> Decoding:
        if self._capture is None or steps == 0:
            return StepByStep(self._network, prompts, steps)
        return Captured(self._network, prompts, steps, self._capture)

    def _round(self, decoding: Decoding, steps: int) -> tuple[float, float]:
        decoding.make_ready()
        began = self._now()
        decoding.prefill()
        prefilled = self._now()
        for _ in range(steps):
            decoding.step()
        return prefilled - began, (self._now() - prefilled) / steps

    def _now(self) -> float:
        """The time when all work given to the device is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
