"""The card of an exported network: what the hub reads, what people read, and how the network is loaded."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from huggingface_hub import ModelCard, metadata_load
from hypothesis import given
from hypothesis import strategies as st

from services.exporter.card.commands import commands
from services.exporter.card.facts import CardFacts, FinishedFacts, License, SearchFacts, TaskAccuracy
from services.exporter.card.layers_picture import CUT, KEPT, layers_picture, summary
from services.exporter.card.license import license_of
from services.exporter.card.model_card import write_card
from services.exporter.card.words import plain
from tests.support.hub import Repository, running_hub

ARC = TaskAccuracy(
    task="arc_easy",
    metric="acc",
    accuracy=0.5213,
    interval=(0.4968, 0.5456),
    items=1600,
    examples=None,
    dense=0.5513,
    base=0.5119,
    against_dense=(-0.051, -0.009),
    against_base=(-0.013, 0.031),
)
FACTS = CardFacts(
    name="smollm2-arc-easy-N5",
    base_model="HuggingFaceTB/SmolLM2-135M-Instruct",
    base_license=License("apache-2.0"),
    family="llama",
    datasets=("tatsu-lab/alpaca",),
    fine_tuning_steps=200,
    tasks=(ARC, replace(ARC, task="winogrande", metric="acc", accuracy=0.5, interval=(0.47, 0.53), examples=5)),
    search=SearchFacts("linas", 48, "3 to 5 layers, each MLP 768, 1152 or 1536 wide"),
    parameters=116_200_000,
    base_parameters=134_515_008,
    bytes_in_memory=232_400_000,
    base_bytes_in_memory=269_030_016,
    bytes_on_disk=232_400_000,
    quantization="none",
    dtype="bfloat16",
    weights="bfloat16",
    measured_as_written=True,
    kept=(0, 1, 3, 4),
    mlp_widths=(1536, 768, 1152, 768),
    base_mlp_widths=(1536,) * 5,
    format="hf",
)
PLAIN = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
OURS = {
    "model_type": "nasfarm",
    "architectures": ["NasfarmForCausalLM"],
    "auto_map": {"AutoConfig": "modeling_nasfarm.NasfarmConfig"},
}
DECILM = {"model_type": "nemotron-nas", "architectures": ["DeciLMForCausalLM"], "auto_map": {}}


def written(directory: Path, facts: CardFacts = FACTS, config: dict[str, Any] | None = None) -> str:
    (directory / "config.json").write_text(json.dumps(config or PLAIN), encoding="utf-8")
    write_card(facts, directory)
    return (directory / "README.md").read_text(encoding="utf-8")


def test_the_hub_reads_the_front_matter_as_what_it_says(tmp_path: Path) -> None:
    written(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert card.data.license == "apache-2.0"
    assert card.data.datasets == ["tatsu-lab/alpaca"]
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.tags == ["nasfarm", "neural-architecture-search", "pruned", "llama"]
    assert card.data["base_model_relation"] == "finetune"
    assert card.data.model_name == "smollm2-arc-easy-N5"
    assert [(each.dataset_name, each.metric_type, each.metric_value) for each in card.data.eval_results or ()] == [
        ("arc_easy", "acc", 52.13),
        ("winogrande", "acc", 50.0),
    ]


def test_results_are_in_the_schema_of_the_hub_s_model_index(tmp_path: Path) -> None:
    written(tmp_path)
    metadata = metadata_load(tmp_path / "README.md")
    assert metadata is not None
    (index,) = metadata["model-index"]
    assert index["name"] == "smollm2-arc-easy-N5"
    assert index["results"][1] == {
        "task": {"type": "text-generation"},
        "dataset": {"name": "winogrande", "type": "winogrande", "args": {"num_few_shot": 5}},
        "metrics": [{"type": "acc", "value": 50.0, "name": "acc, 95 % interval 47.0 to 53.0, 1600 items"}],
    }


def test_people_read_accuracy_size_and_how_it_compares(tmp_path: Path) -> None:
    text = written(tmp_path)
    assert "4 of 5 layers, 3 of them with a narrower MLP" in text
    assert "| parameters | 116.2 M | 134.5 M | 1.16 |" in text
    assert "| 1600 | 52.1 (49.7 to 54.6) | 55.1 | -3.0 (-5.1 to -0.9) | 51.2 | +0.9 (-1.3 to +3.1) |" in text
    assert "The strategy linas then measured 48 sub-networks" in text
    assert "fine-tuned once, for 200 steps" in text
    assert "![4 of 5 layers; dropped: 2;" in text
    assert (tmp_path / "layers.svg").is_file()


def test_a_table_stays_a_table_where_some_networks_were_not_measured(tmp_path: Path) -> None:
    alone = replace(ARC, dense=None, base=None, against_dense=None, against_base=None)
    text = written(tmp_path, replace(FACTS, tasks=(ARC, alone, replace(ARC, against_base=None))))
    rows = [line for line in text.splitlines() if line.startswith("| ") and "arc_easy" in line]
    assert [row.count("|") for row in rows] == [10, 10, 10]
    assert "| +0.9 |" in rows[2]


def test_a_network_that_nobody_measured_or_searched_for_says_so(tmp_path: Path) -> None:
    text = written(tmp_path, replace(FACTS, tasks=(), search=None, fine_tuning_steps=0, datasets=()))
    assert "model-index" not in text and "datasets" not in text
    assert "Not measured." in text and "its accuracy was not measured" in text.lower()
    assert "named by a person" in text and "not fine-tuned" in text


def test_the_whole_network_is_called_that(tmp_path: Path) -> None:
    whole = replace(FACTS, search=None, kept=tuple(range(5)), mlp_widths=(1536,) * 5)
    assert "This is the whole network, of which nothing was cut." in written(tmp_path, whole)


def test_the_license_is_the_base_model_s(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    front = "license: other\nlicense_name: qwen-research\nlicense_link: LICENSE\n"
    (base / "README.md").write_text(f"---\n{front}---\n# Qwen\n", encoding="utf-8")
    found = license_of(base, "Qwen/Qwen2.5-3B")
    assert found == License("other", "qwen-research", "LICENSE")
    text = written(tmp_path, replace(FACTS, base_model="Qwen/Qwen2.5-3B", base_license=found))
    assert "license: other\nlicense_name: qwen-research\n" in text
    assert "license_link: https://huggingface.co/Qwen/Qwen2.5-3B/blob/main/LICENSE\n" in text


def test_a_license_that_lies_at_the_hub_alone_is_looked_up_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        hub.repositories["meta-llama/Llama-2-7b-hf"] = Repository(False, {"README.md": b"---\nlicense: llama2\n---\n"})
        assert license_of(tmp_path, "meta-llama/Llama-2-7b-hf") == License("llama2")
        assert license_of(tmp_path, "meta-llama/Llama-2-13b-hf") is None
        assert license_of(tmp_path, "my model") is None
        assert hub.requests == [
            ("GET", "/meta-llama/Llama-2-7b-hf/resolve/main/README.md"),
            ("GET", "/meta-llama/Llama-2-13b-hf/resolve/main/README.md"),
        ]


def test_a_hub_that_does_not_answer_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def refused(*_: Any, **__: Any) -> None:
        tries.append("once")
        raise ConnectionError("nobody listens")

    monkeypatch.setattr("services.exporter.card.license.get_session", lambda: SimpleNamespace(get=refused))
    assert license_of(tmp_path, "meta-llama/Llama-2-7b-hf") is None
    assert tries == ["once"]


@pytest.mark.parametrize("content", [None, "no front matter", "---\n[\n---\n", "---\nlicense: [mit]\n---\n", "\x00"])
def test_a_base_without_a_readable_license_has_none(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "README.md").write_text(content, encoding="utf-8")
    assert license_of(tmp_path, "my model") is None
    assert "license: unknown" in written(tmp_path, replace(FACTS, base_license=None))


def test_a_base_that_is_no_repository_is_named_to_people_alone(tmp_path: Path) -> None:
    text = written(tmp_path, replace(FACTS, base_model="my model"))
    assert "base_model" not in text
    assert "\nmy model, made smaller by" in text


def test_a_task_of_a_file_is_called_by_the_file_s_name_without_the_way_there(tmp_path: Path) -> None:
    text = written(tmp_path, replace(FACTS, tasks=(replace(ARC, task="/home/somebody/tasks/my_quiz.yaml"),)))
    assert "somebody" not in text
    assert "| my_quiz | acc |" in text and "      name: my_quiz\n" in text


def test_names_that_others_made_up_stay_text(tmp_path: Path) -> None:
    name = "a|b <script> [x](y) *z*\n# heading: `q` - Größe\u202e"
    text = written(tmp_path, replace(FACTS, base_model=name, tasks=(replace(ARC, task=name),)))
    metadata = metadata_load(tmp_path / "README.md")
    assert metadata is not None
    assert metadata["model-index"][0]["results"][0]["dataset"]["name"] == name
    body = text.split("\n---\n", 1)[1]
    assert "<script>" not in body and "\u202e" not in body and "Größe" in body
    assert not [line for line in body.splitlines() if line.startswith("# heading")]


@given(st.text())
def test_plain_text_is_one_line_without_html_or_columns(text: str) -> None:
    shown = plain(text)
    assert len(shown.splitlines()) <= 1
    unescaped = shown.replace("\\\\", "")
    for character in "<>|`[]*$":
        assert unescaped.count(character) == unescaped.count(f"\\{character}")


def test_a_plain_checkpoint_is_loaded_by_every_engine_without_code(tmp_path: Path) -> None:
    text = written(tmp_path)
    assert "trust" not in text
    assert 'AutoModelForCausalLM.from_pretrained(".")' in text
    assert "```sh\nvllm serve .\n```" in text
    assert "python convert_hf_to_gguf.py . --outfile model.gguf" in text
    assert "nasfarm export" not in text


def test_layers_that_differ_need_the_modelling_file_or_the_plugin(tmp_path: Path) -> None:
    text = written(tmp_path, config=OURS)
    assert 'AutoModelForCausalLM.from_pretrained(".", trust_remote_code=True)' in text
    assert "nasfarm[vllm]" in text and "```sh\nvllm serve .\n```" in text
    assert "convert_hf_to_gguf" not in text
    assert "For llama.cpp, `nasfarm export --to gguf` writes" in text


def test_decilm_is_served_by_vllm_alone(tmp_path: Path) -> None:
    text = written(tmp_path, replace(FACTS, format="vllm"), DECILM)
    assert "library_name: vllm" in text
    assert "```sh\nvllm serve . --trust-remote-code\n```" in text
    assert "from_pretrained" not in text


def test_gguf_is_served_by_llama_cpp_from_the_file_that_lies_there(tmp_path: Path) -> None:
    (tmp_path / "smollm2 N5.gguf").touch()
    facts = replace(FACTS, format="gguf", weights="Q8_0", measured_as_written=False)
    text = written(tmp_path, facts)
    assert "For vLLM, `nasfarm export --to vllm`" in text and "from_pretrained" not in text
    assert "library_name: gguf" in text and "base_model_relation: finetune" in text
    assert "```sh\nllama-server -m 'smollm2 N5.gguf'\n```" in text
    assert "where it crashes on a processor with AMX, add `--no-repack`" in text
    assert "before the weights were written as Q8_0" in text and "before the weights became Q8_0" in text
    (command,) = commands(replace(facts, repository="me/smol"), tmp_path)
    assert command.code == "llama-server --hf-repo me/smol --hf-file 'smollm2 N5.gguf'"


def test_a_network_in_the_hub_is_loaded_by_its_id(tmp_path: Path) -> None:
    text = written(tmp_path, replace(FACTS, repository="me/smol-N5"))
    assert 'from_pretrained("me/smol-N5")' in text and "vllm serve me/smol-N5" in text
    assert "from elsewhere" not in text


def test_int8_says_what_it_needs_and_that_other_quantisations_answer_differently(tmp_path: Path) -> None:
    quantized = replace(FACTS, quantization="int8", weights="INT8 (LLM.int8())", bytes_in_memory=140_000_000)
    loaded = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    text = written(tmp_path, quantized, PLAIN | {"quantization_config": loaded})
    assert "`pip install 'transformers>=5' accelerate bitsandbytes`" in text and "can't save it again" in text
    assert "| 140.0 MB | 269.0 MB | 1.92 |" in text
    assert "another quantisation" not in text
    assert "vllm serve" not in text and "convert_hf_to_gguf" not in text
    assert "For vLLM, `nasfarm export --to vllm` writes" in text and "For llama.cpp, `nasfarm export --to gguf`" in text
    text = written(
        tmp_path,
        replace(quantized, format="vllm", weights="INT8 (W8A8)"),
        PLAIN | {"quantization_config": {"quant_method": "compressed-tensors"}},
    )
    assert "vllm serve ." in text and "transformers accelerate compressed-tensors`" in text
    assert "save it again" not in text and "convert_hf_to_gguf" not in text
    assert "INT8 (W8A8) is another quantisation than LLM.int8()" in text


def test_accuracy_is_that_of_what_is_written_where_it_was_measured_again(tmp_path: Path) -> None:
    (tmp_path / "model-Q8_0.gguf").touch()
    again = replace(ARC, accuracy=0.52, before=0.5213)
    facts = replace(FACTS, format="gguf", weights="Q8_0", tasks=(again, replace(again, before=None)))
    text = written(tmp_path, replace(facts, measured_again=True, otherwise=(31, 1600)))
    assert "with the weights as they are here (Q8_0), whose inputs llama.cpp rounds too. As searched is" in text
    assert "the same network in bfloat16, in which the search measured it" in text
    assert "| items | this network | as searched | dense |" in text
    assert "| 1600 | 52.0 (49.7 to 54.6) | 52.1 | 55.1 |" in text
    rows = [line for line in text.splitlines() if line.startswith(("| task", "| ---", "| arc_easy"))][-4:]
    assert [row.count("|") for row in rows] == [11] * 4
    assert "in bfloat16, before it was rounded: 31 of the 1600 items above are answered otherwise" in text
    assert "before the weights" not in text and "value: 52.0\n" in text


def test_without_the_search_s_answers_a_network_that_was_measured_again_has_its_own_alone(tmp_path: Path) -> None:
    facts = replace(FACTS, quantization="int8", format="vllm", weights="INT8 (W8A8)", measured_again=True)
    text = written(tmp_path, facts)
    assert "with the weights as they are here (INT8 (W8A8)). Dense is" in text
    assert "as searched" not in text.lower() and "answers differ between the two" in text


def test_what_was_verified_is_told(tmp_path: Path) -> None:
    assert "was compared" not in written(tmp_path)
    told = "64 items, the same answers, logits at most 1.2e-05 apart"
    assert f"was compared with the network that was measured: {told}." in written(
        tmp_path, replace(FACTS, verified=told)
    )


def test_no_line_of_the_template_is_left(tmp_path: Path) -> None:
    text = written(tmp_path, replace(FACTS, verified="equal"))
    assert "{{" not in text and "{%" not in text and "\n\n\n" not in text and "None" not in text


def test_the_picture_has_a_column_for_each_layer_of_the_base() -> None:
    picture = layers_picture((0, 2), (8, 4), (8, 8, 8))
    root = ElementTree.fromstring(picture)
    namespace = "{http://www.w3.org/2000/svg}"
    columns = root.findall(f"{namespace}g")
    assert [column.findtext(f"{namespace}title") for column in columns] == [
        "layer 0: 8 of 8 MLP neurons",
        "layer 1: dropped",
        "layer 2: 4 of 8 MLP neurons",
    ]
    heights = [
        {bar.get("fill"): float(bar.get("height", 0)) for bar in column.iter(f"{namespace}rect")} for column in columns
    ]
    assert heights == [{CUT: 120, KEPT: 120}, {CUT: 120}, {CUT: 120, KEPT: 60}]


def test_layers_without_attention_have_a_ring_and_are_named() -> None:
    chosen = ((0, 2), (8, 4), (8, 8, 8))
    root = ElementTree.fromstring(layers_picture(*chosen, (2,)))
    rings = [each for each in root.iter() if each.tag.endswith("circle")]
    assert len(rings) == 1 and "no attention" in "".join(root.itertext())
    assert summary(*chosen, (2,)) == f"{summary(*chosen)}; no attention in layers 2"
    assert not any(each.tag.endswith("circle") for each in ElementTree.fromstring(layers_picture(*chosen)).iter())


def test_the_picture_in_words() -> None:
    assert summary((0, 2), (8, 4), (8, 8, 8)) == "2 of 3 layers; dropped: 1; MLP of 4 neurons in layers 2"
    assert summary((0, 1), (8, 8), (8, 8)) == "2 of 2 layers; dropped: none"


def test_what_was_finished_says_how_and_what_that_was_worth(tmp_path: Path) -> None:
    finished = FinishedFacts(steps=400, items=1600, before=0.5, after=0.5213, interval=(0.004, 0.039))
    text = written(tmp_path, replace(FACTS, finished=finished))
    assert "fine-tuned further by itself for 400 steps, taught by the whole network" in text
    assert "On all 1600 items it had 50.0 % before and has 52.1 % after: +2.1 (+0.4 to +3.9) points." in text
    assert "finished" not in written(tmp_path)
