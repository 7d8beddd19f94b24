"""A process that loads one network into vLLM, runs prompts and ends: `VllmEngine` starts it.

The job is read from standard input, its answer written to standard output, each as one JSON object; what vLLM prints
goes to standard error.
"""

import json
import os
import sys
import time
from typing import Any

from pydantic import ValidationError
from vllm import EngineArgs, LLMEngine, SamplingParams

from services.evaluator.memory import is_out_of_memory
from shared.errors import first_line
from shared.parent import end_with


def main() -> None:
    """Do the job: `options` of the engine, `prompts`, new `tokens` of each, `rounds` of the whole; `parent` is the
    process that waits for the answer.

    The answer holds the new `tokens` of the last round and the seconds of `prefill` and of one step of `decode` of
    each round. Where vLLM can't run the network or has too little memory, it holds the reason as `refused` or
    `out_of_memory`; other exceptions are bugs.
    """
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job = json.load(sys.stdin)
    end_with(job["parent"])
    json.dump(_answer(job), output)
    output.close()


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    try:
        try:
            engine = LLMEngine.from_engine_args(EngineArgs(**job["options"]))
        except (ValueError, NotImplementedError) as error:
            # vLLM raises the same exceptions for a lack of memory and for a head size that it doesn't support.
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else first_line(error)
            return {"out_of_memory" if "memory" in reason else "refused": reason}
        rounds = [_round(engine, f"{number}", job["prompts"], job["tokens"]) for number in range(job["rounds"])]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return {"out_of_memory": first_line(error)}
    tokens, prefill, decode = zip(*rounds, strict=True)
    return {"tokens": tokens[-1], "prefill": prefill, "decode": decode}


def _round(engine: LLMEngine, name: str, prompts: list[list[int]], tokens: int) -> tuple[list[list[int]], float, float]:
    """The `tokens` likeliest next tokens of every prompt, seconds until all had their first, seconds of a step after.

    Every sequence has the same number of them, so all steps but the first are steps of the whole batch.
    """
    sampling = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
    made: dict[str, list[int]] = {}
    began = prefilled = time.perf_counter()
    for index, prompt in enumerate(prompts):
        engine.add_request(f"{name}-{index}", {"prompt_token_ids": prompt}, sampling)
    while engine.has_unfinished_requests():
        for output in engine.step():
            made[output.request_id] = list(output.outputs[0].token_ids)
        if prefilled == began and len(made) == len(prompts):
            prefilled = time.perf_counter()
    ended = time.perf_counter()
    lines = [made[f"{name}-{index}"] for index in range(len(prompts))]
    return lines, prefilled - began, (ended - prefilled) / max(1, tokens - 1)


if __name__ == "__main__":
    main()
