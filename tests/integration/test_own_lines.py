"""What a command prints is its own: no progress bars, warnings and notes of the libraries that it uses; but errors."""

import logging
import re
import warnings
from pathlib import Path

import pytest

from services.application.quiet_libraries import quiet_libraries
from services.cli.notes import Notes
from shared.supernet.source import hub
from tests.support.checkpoints import write_checkpoint
from tests.support.command import Run, environment, search_file
from tests.support.rights import nasfarm_without_privileges

HEADED = re.compile(
    r"(Model|Training data|Search space|Search file|Fine-tuning|Super-network|Task|Search|Report|Altogether|Next|Front|"
    r"Memory|GPU memory|Disk|A100|H100 SXM|History|Cost table|Generation \d+:?|Run|Measuring|Reading|Tasks) "
)
CONTINUED = re.compile(r" {15}\S")
TABLE = re.compile(r"[ ─━┏┓┡┩└┘┃│┳╇┴┷].*[─━┓┩┘┃│%)–a-z ]$|(N\d+|dense|base|Name) +\S.*$")
SENTENCES = re.compile(
    r"(No network|N\d+ is the|The largest|Speed: |Tokens per second|.* items? of plain_facts in |torch .* repeats$|"
    r"directory .*: \d+ layers|)"
)


def own(line: str) -> bool:
    return any(pattern.match(line) for pattern in (HEADED, CONTINUED, TABLE)) or bool(
        SENTENCES.match(line) and SENTENCES.match(line).group()  # type: ignore[union-attr]
    )


def test_every_line_of_every_command_is_nasfarm_s_own(tmp_path: Path) -> None:
    few = {"evaluations": 2, "population": 2}
    training = {"data": "plain_facts", "steps": 1, "tokens_per_step": 256, "calibration_tokens": 256}
    search = search_file(tmp_path, search=few, training=training)
    runs, network = tmp_path / "runs", tmp_path / "runs" / "tiny" / "front" / "N1.json"
    for arguments in (
        ["init", tmp_path / "base", "-o", tmp_path / "new.yaml"],
        ["search", search, "--runs", runs],
        ["evaluate", "--architecture", network, "--task", "plain_facts", "--items", 5, "--int8", "--speed", "torch"],
        ["status", runs / "tiny"],
    ):
        ended = nasfarm_without_privileges(
            *arguments, PYTHONWARNINGS="default", NASFARM_GPU_LOCKS=str(tmp_path / "locks")
        )
        assert ended.code == 0, ended
        assert ended.error == ""
        strangers = [line for line in ended.output.splitlines() if line and not own(line)]
        assert strangers == [], arguments


@pytest.mark.parametrize(
    "line",
    [
        "Converting and de-quantizing GGUF tensors...:   0%|          | 0/272 [00:00<?, ?it/s]",
        "Loading weights:  10%|█         | 27/272 [00:00<00:00, 93.11it/s]",
        "/usr/lib/python3/site-packages/torch/nn/modules.py:71: UserWarning: Failed to initialize NumPy",
        "  warnings.warn(",
        "WARNING:lm_eval:something",
        "Token indices sequence length is longer than the specified maximum sequence length",
        "[transformers] `torch_dtype` is deprecated!",
    ],
)
def test_a_line_of_a_library_is_told_apart(line: str) -> None:
    assert not own(line)


def test_the_conversion_of_a_gguf_file_shows_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the example model is made from its package where the hub is not reached, for a model that is made at once."""
    import gguf
    import numpy as np

    model = write_checkpoint(tmp_path / "base", "llama-grouped-tied")
    tokens = ["<s>", "</s>", "t", "1", "t1", *(f"u{number}" for number in range(5, model.config.vocab_size))]
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    config = model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["t 1"])
    writer.add_token_types([1] * len(tokens))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        known = names.get_name(name, try_suffixes=(".weight",))
        if known is not None:
            writer.add_tensor(known, tensor.float().numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    quiet_libraries()
    logging.captureWarnings(False)
    capfd.readouterr()
    hub._convert(tmp_path / "model.gguf", tmp_path / "converted")
    assert (tmp_path / "converted" / "model.safetensors").is_file()
    assert capfd.readouterr() == ("", "")


def test_our_notes_and_others_errors_are_lines_and_what_else_is_logged_is_not_seen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    notes = Notes()

    def logged(name: str, level: int, text: str) -> str:
        notes.handle(logging.LogRecord(name, level, "", 0, text, None, None))
        return capsys.readouterr().err

    assert logged("services.evaluator", logging.WARNING, "no examples\nare given") == "nasfarm: no examples are given\n"
    assert logged("services.evaluator", logging.INFO, "computing") == ""
    assert logged("torch._dynamo", logging.WARNING, "chatter") == ""
    assert logged("torch._dynamo", logging.ERROR, "broken") == "nasfarm: torch._dynamo: broken\n"


def test_what_goes_wrong_within_a_library_is_still_said(run: Run, tmp_path: Path) -> None:
    search_file(tmp_path)
    (tmp_path / "base" / "tokenizer.json").write_text("{")
    ended = run("evaluate", "--checkpoint", tmp_path / "base", "--task", "plain_facts", "--items", 2)
    assert ended.code == 2 and "no readable tokenizer" in ended.error
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("heard again", stacklevel=1)
    assert len(caught) == 1
    assert environment()["HF_HUB_OFFLINE"] == "1"
