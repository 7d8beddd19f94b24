"""What was exported is loaded by the release of transformers that this environment has, without nasfarm."""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

EXPORTS = sorted(Path(os.environ["NASFARM_TEST_EXPORTS"]).iterdir(), key=lambda place: int(place.name))
EXPECTED = {place / "export": json.loads((place / "expected.json").read_text(encoding="utf-8")) for place in EXPORTS}

directories = pytest.mark.parametrize("directory", EXPECTED, ids=lambda place: EXPECTED[place]["name"])


def loaded(directory: Path, kind: Any = AutoModelForCausalLM, **options: Any) -> Any:
    return kind.from_pretrained(directory, trust_remote_code=True, torch_dtype=torch.float32, **options).eval()


def test_nothing_of_nasfarm_takes_part() -> None:
    assert importlib.util.find_spec("services") is None
    print(f"transformers {transformers.__version__}")


@directories
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_and_greedy_tokens_are_those_of_our_engine(directory: Path, attention: str) -> None:
    expected = EXPECTED[directory]
    model = loaded(directory, attn_implementation=attention)
    prompt = torch.tensor([expected["prompt"]])
    with torch.inference_mode():
        logits = model(prompt).logits[0]
    torch.testing.assert_close(logits, torch.tensor(expected["logits"]), atol=2e-5, rtol=1e-5)
    settings = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    mask = torch.ones_like(prompt)
    tokens = model.generate(prompt, attention_mask=mask, max_length=len(expected["tokens"]), **settings)
    assert tokens[0].tolist() == expected["tokens"]


@directories
def test_it_can_be_saved_and_loaded_again_and_has_a_body_and_a_tokenizer(directory: Path, tmp_path: Path) -> None:
    model, prompt = loaded(directory), torch.tensor([EXPECTED[directory]["prompt"]])
    model.save_pretrained(tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(tmp_path)(prompt).logits, model(prompt).logits)
        assert loaded(directory, AutoModel)(prompt)[0].shape[:2] == prompt.shape
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
    assert tokenizer.decode(tokenizer("The quick brown fox").input_ids) == "The quick brown fox"


@directories
def test_in_the_directory_it_goes_on_with_a_text_as_its_card_says(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory)
    model = AutoModelForCausalLM.from_pretrained(".", trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(".", trust_remote_code=True)
    inputs = tokenizer("Ice is made of", return_tensors="pt")
    assert tokenizer.decode(model.generate(**inputs, max_new_tokens=2)[0]).startswith("Ice is made of")


@directories
def test_a_loss_reaches_every_weight(directory: Path) -> None:
    model = loaded(directory).train()
    tokens = torch.tensor([EXPECTED[directory]["prompt"]])
    model(tokens, labels=tokens).loss.backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not without
