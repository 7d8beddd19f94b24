"""How instructions become training tokens: those of the whole text, one BOS where there is one, one EOS."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import BertJapaneseTokenizer, PreTrainedTokenizerFast

from services.trainer.examples import Example, tokenize
from services.trainer.passages import PAIRED, PROMPT
from shared.errors import UserError
from tests.support.tokenizers import BYTES, byte_level, metaspace, wrapped

BOS, EOS = 1, 2

KINDS = {
    "byte-level": (byte_level, "$A"),
    "byte-level, offsets without spaces": (lambda single: byte_level(single, trimmed=True), "$A"),
    "byte-level with BOS": (byte_level, "<s> $A"),
    "byte-level that appends EOS": (byte_level, "$A </s>"),
    "Llama 2": (metaspace, "<s> $A"),
    "Llama 2, new": (lambda single: metaspace(single, legacy=False), "<s> $A"),
    "Llama 2 without BOS": (metaspace, "$A"),
    "Llama 2 that appends EOS": (metaspace, "<s> $A </s>"),
}
TOKENIZERS = {name: wrapped(make(single)) for name, (make, single) in KINDS.items()}
each_kind = pytest.mark.parametrize("kind", KINDS)


def row(output: str, instruction: str = "Say it.", given: str = "") -> dict[str, str]:
    return {"instruction": instruction, "input": given, "output": output}


def prompt(given: dict[str, str]) -> str:
    text = PROMPT.format(paired=PAIRED if given["input"] else "") + f"### Instruction:\n{given['instruction']}\n\n"
    return text + (f"### Input:\n{given['input']}\n\n" if given["input"] else "") + "### Response:\n"


def whole(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """The ids that the tokenizer has for a whole text, closed by one EOS."""
    ids = list(tokenizer(text)["input_ids"])
    return ids if ids[-1] == EOS else [*ids, EOS]


def example(kind: str, of: dict[str, str], limit: int = 10_000) -> Example:
    (made,) = tokenize([of], TOKENIZERS[kind], limit)
    return made


@each_kind
@pytest.mark.parametrize(
    "output", ["Hello there.", "0", "é", "東京", "👍🏽 yes", "e\u0301", " spaced", "\nnext line", "\n\n"]
)
def test_the_tokens_are_those_of_the_whole_text_and_one_end(kind: str, output: str) -> None:
    of, tokenizer = row(output), TOKENIZERS[kind]
    made = example(kind, of)
    assert list(made.tokens) == whole(tokenizer, prompt(of) + output)
    assert made.tokens.count(EOS) == 1 and made.tokens[-1] == EOS
    assert made.tokens.count(BOS) == KINDS[kind][1].count("<s>")
    assert tokenizer.decode(made.tokens, skip_special_tokens=True) == prompt(of) + output


@each_kind
@pytest.mark.parametrize("output", ["Hello there.", "0", "é", "東京", "👍🏽 yes"])
def test_the_loss_is_taken_on_the_response_alone(kind: str, output: str) -> None:
    made, tokenizer = example(kind, row(output, "Say é 東京.", "in é")), TOKENIZERS[kind]
    pieces = [tokenizer.convert_ids_to_tokens(token) for token in made.tokens[made.response - 1 :]]
    assert pieces[0] in ("Ċ", "<0x0A>", "\n"), "what comes before the response is the prompt's last line end"
    response = tokenizer.decode([BOS, *made.tokens[made.response :]], skip_special_tokens=True)
    assert response.removeprefix(" ") == output


def test_llama_2_s_response_begins_as_it_does_within_a_text() -> None:
    """The response alone would begin with ▁H, which is a space and H."""
    made, tokenizer = example("Llama 2", row("H")), TOKENIZERS["Llama 2"]
    assert tokenizer.convert_ids_to_tokens(list(made.tokens[made.response :])) == ["H", "</s>"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("H")["input_ids"])[1].startswith("▁")


@pytest.mark.parametrize("kind", ["byte-level", "byte-level, offsets without spaces", "byte-level with BOS"])
@pytest.mark.parametrize("output", ["\nA line below.", "\n A", "\n\n- A"])
def test_a_token_of_both_prompt_and_response_is_learnt(kind: str, output: str) -> None:
    made, tokenizer = example(kind, row(output)), TOKENIZERS[kind]
    learnt, read = made.tokens[made.response :], made.tokens[: made.response]
    assert tokenizer.decode(learnt).removesuffix("</s>").endswith(output)
    assert prompt(row(output)).startswith(tokenizer.decode(read).removeprefix("<s>"))


def test_there_are_tokens_of_both_prompt_and_response() -> None:
    """Or the test before this one tests nothing."""
    made, tokenizer = example("byte-level", row("\n\n- A")), TOKENIZERS["byte-level"]
    assert tokenizer.decode(made.tokens[made.response]) == "\n\n" and prompt(row("")).endswith(":\n")


@each_kind
def test_a_response_that_spells_its_end_out_ends_once(kind: str) -> None:
    assert example(kind, row("Yes.</s></s>")) == example(kind, row("Yes."))


@each_kind
@settings(max_examples=60, deadline=None)
@given(instruction=st.text(min_size=1), given_input=st.text(), output=st.text(min_size=1))
def test_whatever_the_texts_the_tokens_are_those_of_the_whole(
    kind: str, instruction: str, given_input: str, output: str
) -> None:
    of, tokenizer = row(output, instruction, given_input), TOKENIZERS[kind]
    made = example(kind, of)
    assert list(made.tokens) == whole(tokenizer, prompt(of) + output)
    assert 0 < made.response < len(made.tokens)
    assert prompt(of).encode().startswith(written(tokenizer, made.tokens[: made.response]))


PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
LETTERS = {chr(byte): byte for byte in PRINTABLE} | {
    chr(256 + number): byte for number, byte in enumerate(byte for byte in range(256) if byte not in PRINTABLE)
}
"""GPT-2's letters for bytes."""


def written(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[int]) -> bytes:
    """The bytes that tokens stand for, also where they end in the middle of a character."""
    pieces = [piece for piece in tokenizer.convert_ids_to_tokens(list(tokens)) if piece not in ("<s>", "</s>")]
    if isinstance(tokenizer.backend_tokenizer.decoder, decoders.ByteLevel):
        return bytes(LETTERS[letter] for letter in "".join(pieces))
    spelt = [bytes([int(piece[3:5], 16)]) if piece in BYTES else piece.replace("▁", " ").encode() for piece in pieces]
    return b"".join(spelt).removeprefix(b" ")


def test_examples_are_cut_at_the_limit_without_an_end_and_prompts_without_room_left_out() -> None:
    of = row("One two three.")
    made = example("Llama 2", of)
    assert example("Llama 2", of, made.response + 2).tokens == made.tokens[: made.response + 2]
    assert tokenize([of], TOKENIZERS["Llama 2"], made.response) == []


def test_a_tokenizer_without_an_end_is_refused() -> None:
    with pytest.raises(UserError, match=r"no EOS token, .*; name one in tokenizer_config\.json \(eos_token\)$"):
        tokenize([row("x")], wrapped(byte_level(), bos_token="<s>"), 100)


def test_a_tokenizer_that_does_not_say_where_its_tokens_lie_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\na\n", encoding="utf-8")
    slow = BertJapaneseTokenizer(
        str(tmp_path / "vocab.txt"), word_tokenizer_type="basic", subword_tokenizer_type="character", eos_token="a"
    )
    with pytest.raises(UserError, match=r"doesn't say where tokens lie in a text, .*convert it to a tokenizer\.json$"):
        tokenize([row("x")], slow, 100)


def test_a_tokenizer_that_cuts_and_fills_texts_does_not_do_so_here() -> None:
    tokenizer = byte_level("<s> $A")
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=400, pad_id=EOS, pad_token="</s>")
    assert tokenize([row("One.")], wrapped(tokenizer), 1000) == [example("byte-level with BOS", row("One."))]


def test_the_tokenizer_is_left_as_it_was() -> None:
    tokenizer = wrapped(byte_level("<s> $A </s>"))
    before = tokenizer.backend_tokenizer.to_str()
    tokenize([row("x")], tokenizer, 1000)
    assert tokenizer.backend_tokenizer.to_str() == before


def test_a_response_of_nothing_that_the_tokenizer_knows_is_its_end() -> None:
    known = sorted(set(prompt(row("")) + "x"))
    tokenizer = Tokenizer(models.BPE(vocab={piece: 3 + n for n, piece in enumerate(known)} | {"</s>": EOS}, merges=[]))
    (made,) = tokenize([row("東")], wrapped(tokenizer, eos_token="</s>"), 1000)
    assert made.tokens[made.response :] == (EOS,)
