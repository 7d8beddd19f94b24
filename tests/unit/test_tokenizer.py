"""A checkpoint's tokenizer: texts come back from it, or it is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from shared.errors import UserError
from shared.supernet.tokenizer import PROBE, load_tokenizer, require_embedded
from tests.support.checkpoints import FAMILIES, SIZES
from tests.support.tokenizers import byte_level, metaspace, wrapped, write_tokenizer

BOTH = "$A", "<s> $A"


def checkpoint(directory: Path, tokenizer: Tokenizer, declared: str, family: str = "llama", **config: object) -> Path:
    """The files of a checkpoint that its tokenizer depends on."""
    config_class, sizes = FAMILIES[family]
    config_class(**{**SIZES, **sizes}).save_pretrained(directory)
    write_tokenizer(directory, tokenizer, declared, **config)
    return directory


def back(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    return str(tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)))


@pytest.mark.parametrize("declared", ["LlamaTokenizerFast", "LlamaTokenizer"])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("template", BOTH)
def test_a_byte_level_tokenizer_that_is_declared_to_be_llama_2_s_keeps_spaces_and_line_ends(
    tmp_path: Path, declared: str, family: str, template: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = byte_level(template)
    directory = checkpoint(tmp_path, made, declared, family)
    assert "The quick" not in back(AutoTokenizer.from_pretrained(directory), PROBE), "transformers gives texts back now"
    for _ in range(2):
        tokenizer = load_tokenizer(directory)
        assert back(tokenizer, PROBE) == PROBE
        assert tokenizer.encode(PROBE) == made.encode(PROBE).ids
    (said,) = caplog.messages
    assert said == f"{directory}: tokenizer.json is used as it is: as a LlamaTokenizer it would lose spaces or more"


@pytest.mark.parametrize("added", [None, True, False])
def test_its_tokens_are_those_that_transformers_has_by_the_hub_s_id(tmp_path: Path, added: bool | None) -> None:
    flags = {} if added is None else {"add_bos_token": added}
    directory = checkpoint(tmp_path, byte_level("<s> $A"), "LlamaTokenizerFast", **flags)
    config = AutoConfig.from_pretrained(directory)
    config._name_or_path = "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"
    theirs = AutoTokenizer.from_pretrained(directory, config=config)
    ours = load_tokenizer(directory)
    assert type(ours) is type(theirs)
    assert ours(PROBE)["input_ids"] == theirs(PROBE)["input_ids"]
    assert (ours.bos_token_id, ours.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id) == (1, 2)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text())
def test_whatever_the_text_it_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    assert back(declared_llama(tmp_path_factory), text) == text


LOADED: list[PreTrainedTokenizerBase] = []


def declared_llama(factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    if not LOADED:
        LOADED.append(load_tokenizer(checkpoint(factory.mktemp("declared"), byte_level(), "LlamaTokenizerFast")))
    return LOADED[0]


def small(alphabet: str, unknown: str | None = None) -> Tokenizer:
    """A tokenizer that knows a few characters, and has a token for all others or leaves them out."""
    vocabulary = {piece: 3 + index for index, piece in enumerate(alphabet)} | {"<unk>": 0, "<s>": 1, "</s>": 2}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=unknown, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="first")
    return tokenizer


def normalised(normalizer: normalizers.Normalizer) -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.normalizer = normalizer
    return tokenizer


GOOD: dict[str, tuple[Callable[[], Tokenizer], str]] = {
    "Llama 2": (metaspace, "LlamaTokenizerFast"),
    "Llama 2, new": (lambda: metaspace(legacy=False), "LlamaTokenizer"),
    "Llama 2 without a class": (metaspace, "PreTrainedTokenizerFast"),
    "Llama 3": (lambda: byte_level("<s> $A"), "PreTrainedTokenizerFast"),
    "SmolLM": (byte_level, "GPT2Tokenizer"),
    "composing letters": (lambda: normalised(normalizers.NFC()), "PreTrainedTokenizerFast"),
    "decomposing letters": (lambda: normalised(normalizers.NFKD()), "PreTrainedTokenizerFast"),
    "small letters": (lambda: normalised(normalizers.Lowercase()), "PreTrainedTokenizerFast"),
    "spaces made one": (lambda: normalised(normalizers.Replace("  ", " ")), "PreTrainedTokenizerFast"),
    "few letters, an unknown token": (lambda: small("▁\n\tabcdehino", "<unk>"), "PreTrainedTokenizerFast"),
    "few letters, others left out": (lambda: small("▁\n\tabcdehino"), "PreTrainedTokenizerFast"),
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("cleaned", [True, False])
def test_a_good_tokenizer_is_the_one_that_transformers_loads(
    tmp_path: Path, kind: str, cleaned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    make, declared = GOOD[kind]
    directory = checkpoint(tmp_path, make(), declared, clean_up_tokenization_spaces=cleaned)
    ours, theirs = load_tokenizer(directory), AutoTokenizer.from_pretrained(directory)
    assert type(ours) is type(theirs)
    assert ours(PROBE)["input_ids"] == theirs(PROBE)["input_ids"]
    assert [message for message in caplog.messages if message.startswith(str(tmp_path))] == []


def cutting(pre_tokenizer: pre_tokenizers.PreTokenizer) -> Tokenizer:
    """One that loses what its own first stage takes out."""
    tokenizer = byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizer, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer


BAD: dict[str, Callable[[], Tokenizer]] = {
    "no spaces": lambda: cutting(pre_tokenizers.WhitespaceSplit()),
    "no line ends": lambda: cutting(pre_tokenizers.Split("\n", "removed")),
    "no double spaces": lambda: cutting(pre_tokenizers.Split("  ", "removed")),
    "no digits": lambda: cutting(pre_tokenizers.Split("12", "removed")),
    "no letters": lambda: cutting(pre_tokenizers.Split("quick", "removed")),
    "spaces unknown": lambda: small("\n\tabcdehino", "<unk>"),
    "line ends unknown": lambda: small("▁\tabcdehino", "<unk>"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("declared", ["PreTrainedTokenizerFast", "LlamaTokenizerFast"])
def test_a_tokenizer_that_loses_what_is_in_a_text_is_refused(tmp_path: Path, kind: str, declared: str) -> None:
    with pytest.raises(UserError, match=r"its tokenizer doesn't give texts back, .*; copy the model's own") as refusal:
        load_tokenizer(checkpoint(tmp_path, BAD[kind](), declared))
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(f"{tmp_path}: ")


@pytest.mark.parametrize("content", ["", "{torn", "[]", "{}", '{"model": {"type": "other"}}'])
@pytest.mark.parametrize("declared", ["PreTrainedTokenizerFast", "LlamaTokenizerFast"])
def test_a_damaged_tokenizer_is_refused_in_one_line(tmp_path: Path, content: str, declared: str) -> None:
    checkpoint(tmp_path, byte_level(), declared)
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"(no readable tokenizer|doesn't give texts back).*; copy ") as refusal:
        load_tokenizer(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("declared", ["PreTrainedTokenizerFast", "LlamaTokenizerFast", "GPT2Tokenizer", None])
def test_a_directory_without_a_tokenizer_is_refused_in_one_line(tmp_path: Path, declared: str | None) -> None:
    checkpoint(tmp_path, byte_level(), "")
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": declared} if declared else {}))
    with pytest.raises(UserError, match=r"(no readable tokenizer|doesn't give texts back).*; copy ") as refusal:
        load_tokenizer(tmp_path)
    assert "\n" not in str(refusal.value)


def with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose tokenizer is code of its own, which would leave a file `ran`."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    directory = checkpoint(tmp_path, byte_level(), "EvilTokenizer", auto_map={"AutoTokenizer": ["evil.Evil", None]})
    (directory / "evil.py").write_text(f"open({str(directory / 'ran')!r}, 'w')\n", encoding="utf-8")
    return directory


def test_code_that_comes_with_a_tokenizer_is_neither_run_nor_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = with_code(tmp_path, monkeypatch)
    assert load_tokenizer(directory)(PROBE)["input_ids"] == wrapped(byte_level())(PROBE)["input_ids"]
    assert not (directory / "ran").exists()


def test_a_tokenizer_that_is_nothing_but_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = with_code(tmp_path, monkeypatch)
    (directory / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"code of its own \(auto_map\), which is never run; copy a tokenizer\.json"):
        load_tokenizer(directory)
    assert not (directory / "ran").exists()


def test_a_token_that_a_network_does_not_know_is_refused_by_its_name() -> None:
    tokenizer = wrapped(byte_level())
    tokenizer.add_tokens(["<|new|>"])
    size = len(tokenizer)
    require_embedded(tokenizer("a <|new|>")["input_ids"], size, tokenizer)
    require_embedded([], size, tokenizer)
    complaint = rf"the token '<\|new\|>' \({size - 1}\), the network has embeddings of 0 to {size - 2} only"
    with pytest.raises(UserError, match=complaint):
        require_embedded(tokenizer("a <|new|>")["input_ids"], size - 1, tokenizer)
