"""Verification of GGUF files: by llama.cpp, whose greedy tokens are judged by our network."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from services.application.export.verification import llama_cpp_child
from services.application.export.verification.float32 import in_float32
from services.application.export.verification.protocol import DifferentExportError, Verification
from services.application.export.verification.verified_items import VerifiedItems
from services.exporter.names import GgufType
from services.exporter.network import ExportedNetwork
from shared.supernet.packing import pack
from shared.supernet.tokenizer import load_tokenizer
from shared.supernet.tree import Tree

PROMPTS, LENGTH = 3, 32
"""Prompts, and tokens after each."""
TIE = 0.01
"""In float32, a token that our network finds less likely than its own by so little, in log-probability, is as good."""
SAME_WHEN_ROUNDED = 0.5
"""Share of tokens that are ours in types that round weights: another network has next to none."""


class LlamaCppVerifier:
    """Has llama.cpp continue some prompts. Each token is compared with what our network says after the same tokens, so
    that one that is different doesn't make the following ones so."""

    def __init__(self, gguf_type: GgufType) -> None:
        self._type = gguf_type

    def tokens(self, items: VerifiedItems) -> int:
        """Prompts and what follows, here and there."""
        return 2 * sum(len(prompt) + LENGTH for prompt in _prompts(items))

    def steps(self, items: VerifiedItems) -> int:
        """llama.cpp continues all prompts in one go."""
        return 1

    @torch.inference_mode()
    def verify(
        self, network: ExportedNetwork, directory: Path, items: VerifiedItems, progressed: Callable[[], None]
    ) -> Verification:
        """As the protocol says."""
        prompts = _prompts(items)
        followed = _greedy_tokens(next(directory.glob("*.gguf")), prompts)
        ours = in_float32(replace(network, architecture=network.architecture.quantized("none")))
        ends = load_tokenizer(network.checkpoint.directory).all_special_ids  # with which llama.cpp is told not to end
        behind = list[float]()
        for prompt, tokens in zip(prompts, followed, strict=True):
            packed = pack([Tree.plain([*prompt, *tokens[:-1]])])
            predicted = ours.logits(ours.hidden(packed)[len(prompt) - 1 :]).log_softmax(-1)
            chosen = predicted.gather(1, torch.tensor(tokens)[:, None])[:, 0]
            predicted[:, ends] = float("-inf")
            behind += (predicted.amax(-1) - chosen).tolist()
        progressed()
        same = sum(each <= TIE for each in behind)
        found = Verification(
            engine="llama.cpp",
            origin=f"{len(prompts)} prompts of {items.origin}",
            tokens=len(behind),
            words=f"{same} of {len(behind)} greedy tokens are those of the network before it was written",
        )
        asked = PROMPTS * LENGTH if self._type == "f32" else SAME_WHEN_ROUNDED * PROMPTS * LENGTH
        if len(behind) < PROMPTS * LENGTH or same < asked:
            raise DifferentExportError(
                f"the export is not the network that was measured, and was removed: {found.in_words()}; this is a "
                "fault of nasfarm or of the engine's release, please report it; --no-verify exports all the same"
            )
        return found


def _prompts(items: VerifiedItems) -> list[tuple[int, ...]]:
    return [windows[0].inputs for windows in items.windows[:PROMPTS]]


def _greedy_tokens(file: Path, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    asked = {
        "file": str(file),
        "prompts": [list(prompt) for prompt in prompts],
        "length": LENGTH,
        "threads": torch.get_num_threads(),
    }
    done = subprocess.run(
        [sys.executable, "-m", llama_cpp_child.__name__],
        input=json.dumps(asked).encode(),
        capture_output=True,
        check=False,
    )
    answers = [
        line for line in done.stdout.decode(errors="replace").splitlines() if line.startswith(llama_cpp_child.ANSWER)
    ]
    if not answers:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise DifferentExportError(
            f"the export can't be loaded by llama.cpp, and was removed ({said[-1]}); --no-verify exports all the same"
        )
    tokens: list[list[int]] = json.loads(answers[0].removeprefix(llama_cpp_child.ANSWER))
    return tokens
