"""Making a super-network: the fine-tuning, its data, and the checkpoint that comes out."""

import copy
import itertools
import json
import random
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM

from services.trainer import make_supernet, ordering
from services.trainer.examples import Example, batches, tokenize
from services.trainer.fine_tuning import StepReport, learning_rate, response_loss
from services.trainer.make_supernet import plan_training
from shared.architecture import Architecture
from shared.environment import Environment
from shared.errors import UserError
from shared.identity import TRAINING
from shared.manifest import SupernetManifest
from shared.settings import TrainingSettings
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.packing import pack
from shared.supernet.tokenizer import load_tokenizer
from shared.supernet.tree import Tree
from tests.support.checkpoints import (
    LAYERS,
    WIDTH,
    copied_subnet,
    logits_one_by_one,
    random_sequences,
    tiny_tokenizer,
    write_checkpoint,
)
from tests.support.content import content_of, digest_of
from tests.support.disk import nearly_full_disk
from tests.support.instructions import ROWS
from tests.support.tasks import CHATML, tokenizer_with_chat
from tests.support.tiny_training import run, tiny_plan, tiny_settings, train_in

NOWHERE = Environment(data=None, cache=Path("none"), threads=1)


def log_of(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / "run" / "supernet" / "training.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SupernetManifest]:
    directory = tmp_path_factory.mktemp("trained")
    return directory, run(directory, steps=60)


def test_the_loss_falls_for_the_full_network_and_for_the_subnets(trained: tuple[Path, SupernetManifest]) -> None:
    log = log_of(trained[0])
    for kind in ("full", "subnet"):
        losses = [line["loss"] for line in log if line["network"] == kind]
        assert mean(losses[-5:]) < 0.5 * mean(losses[:3])


def test_even_steps_train_the_full_network_and_odd_ones_a_subnet(trained: tuple[Path, SupernetManifest]) -> None:
    assert [(line["step"], line["network"]) for line in log_of(trained[0])] == [
        (step, "subnet" if step % 2 else "full") for step in range(60)
    ]


def test_no_step_is_longer_than_asked_and_steps_are_well_filled(trained: tuple[Path, SupernetManifest]) -> None:
    tokens = [line["tokens"] for line in log_of(trained[0])]
    assert max(tokens) <= 256
    assert mean(tokens) > 0.7 * 256


def test_every_step_is_reported_with_both_losses_once_seen(tmp_path: Path) -> None:
    reports: list[StepReport] = []
    train_in(tmp_path / "run", tiny_plan(tmp_path, steps=4), reports.append)
    assert [(report.step, report.steps) for report in reports] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert reports[0].subnet_loss is None and reports[0].full_loss == log_of(tmp_path)[0]["loss"]
    assert reports[1].subnet_loss == log_of(tmp_path)[1]["loss"]


def test_the_super_network_is_a_checkpoint_that_transformers_loads_with_the_same_logits(
    trained: tuple[Path, SupernetManifest],
) -> None:
    directory = trained[0] / "run" / "supernet"
    model, report = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values()), report
    sequences = random_sequences(9, 20)
    reference = model.eval()
    checkpoint = Checkpoint.open(directory)
    for architecture in (None, Architecture(layers=(0, 2, 4), mlp_widths=(WIDTH, WIDTH // 2, 7))):
        if architecture is not None:
            reference = copied_subnet(model, architecture)
        network = checkpoint.cut(architecture)
        packed = pack([Tree.plain(tokens) for tokens in sequences])
        ours = network.logits(network.hidden(packed))
        for tokens, start, logits in zip(
            sequences, packed.starts, logits_one_by_one(reference, sequences), strict=True
        ):
            torch.testing.assert_close(ours[start : start + len(tokens)], logits, atol=2e-5, rtol=2e-5)


def test_the_super_network_s_manifest_survives_being_written(trained: tuple[Path, SupernetManifest]) -> None:
    directory, manifest = trained
    read = SupernetManifest.read(directory / "run" / "supernet")
    assert read == manifest
    assert read.digest == manifest.digest
    assert read.files == content_of(directory / "run" / "supernet")
    assert set(read.files) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert read.influence is not None and len(read.influence) == LAYERS
    assert read.drop_order == tuple(sorted(range(1, LAYERS - 1), key=lambda layer: read.influence[layer]))  # type: ignore[index]
    assert set(read.losses) == {"full", "subnet"}


MARKED = "{# marked #}"


@pytest.mark.parametrize("templates", [CHATML + MARKED, {"default": CHATML, "rag": MARKED}], ids=["one", "several"])
@pytest.mark.parametrize("in_files", [True, False])
def test_the_super_network_has_the_chat_templates_of_its_base_and_its_digest_tells_them(
    tmp_path: Path, templates: str | dict[str, str], in_files: bool
) -> None:
    tokenizer = tokenizer_with_chat(templates)
    write_checkpoint(tmp_path / "base", "llama", vocab_size=len(tokenizer))
    tokenizer.save_pretrained(tmp_path / "base", save_jinja_files=in_files)
    manifest = run(tmp_path, steps=0)
    supernet = tmp_path / "run" / "supernet"
    assert load_tokenizer(supernet).chat_template == templates
    assert manifest.digest == digest_of(supernet)
    texts = [path for pattern in ("*.json", "*.jinja") for path in supernet.rglob(pattern)]
    (holder,) = [path for path in texts if MARKED in path.read_text("utf-8")]
    holder.write_text(holder.read_text("utf-8").replace(MARKED, "{# other #}"), "utf-8")
    assert digest_of(supernet) != manifest.digest


def test_every_user_may_read_the_super_network(trained: tuple[Path, SupernetManifest]) -> None:
    files = [path for path in (trained[0] / "run" / "supernet").iterdir() if not path.stat().st_mode & 0o004]
    assert files == []


def test_a_manifest_names_no_setting_that_earlier_releases_lack_unless_they_could_not_make_the_same(
    trained: tuple[Path, SupernetManifest], tmp_path: Path
) -> None:
    directory, manifest = trained
    values = json.loads((directory / "run" / "supernet" / "supernet.json").read_text(encoding="utf-8"))
    assert not values["training"].keys() & TRAINING.later.keys()
    other = manifest.training.model_copy(update={"subnets_per_step": 2})
    manifest.model_copy(update={"training": other}).write(tmp_path)
    assert SupernetManifest.read(tmp_path).training.subnets_per_step == 2


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"version": "new"}', '{"version": 1, "base": "x"}'],
    ids=["empty", "torn", "list", "strange", "partial"],
)
def test_a_damaged_manifest_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "supernet.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"supernet\.json: .*run `nasfarm train` again") as refusal:
        SupernetManifest.read(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_manifest_of_a_newer_release_is_refused_without_advice_to_remove_it(tmp_path: Path) -> None:
    (tmp_path / "supernet.json").write_text('{"version": 3, "what": "ever"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"supernet\.json: written by a newer release of nasfarm; use that") as refusal:
        SupernetManifest.read(tmp_path)
    assert "remove" not in str(refusal.value)


def test_a_missing_manifest_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"supernet\.json: can't be read; `nasfarm train` makes a super-network"):
        SupernetManifest.read(tmp_path)


def test_without_steps_the_super_network_is_the_ordered_base_model(tmp_path: Path) -> None:
    run(tmp_path, steps=0)
    plain, ordered = (Checkpoint.open(path).cut() for path in (tmp_path / "base", tmp_path / "run" / "supernet"))
    assert not torch.equal(plain.layers[0].mlp.gate.weight, ordered.layers[0].mlp.gate.weight)
    packed = pack([Tree.plain(tokens) for tokens in random_sequences(30)])
    torch.testing.assert_close(
        plain.logits(plain.hidden(packed)), ordered.logits(ordered.hidden(packed)), atol=1e-4, rtol=1e-4
    )


def test_the_paper_s_order_leaves_the_neurons_where_they_are(tmp_path: Path) -> None:
    run(tmp_path, steps=0, neuron_order="none")
    base = load_file(tmp_path / "base" / "model.safetensors")
    supernet = load_file(tmp_path / "run" / "supernet" / "model.safetensors")
    assert base.keys() == supernet.keys()
    assert all(torch.equal(base[name], supernet[name]) for name in base)


def test_without_steps_and_by_the_paper_s_rules_nothing_is_computed_and_no_weight_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 7 billion parameters, copies in float32 take 27 GB, and the importance of neurons a quarter of an hour."""
    plan = tiny_plan(tmp_path, steps=0, neuron_order="none", space={"depth_rule": "first"})
    monkeypatch.setattr(ordering, "measure_importance", None)
    written: dict[str, int] = {}
    monkeypatch.setattr(
        make_supernet, "save_weights", lambda weights, _: written.update({n: w.data_ptr() for n, w in weights.items()})
    )
    manifest = train_in(tmp_path / "run", plan)
    assert written == {name: tensor.data_ptr() for name, tensor in plan.base.weights.items()}
    assert manifest.influence is None and manifest.drop_order == tuple(range(LAYERS - 1, 0, -1))


def test_without_steps_layers_are_still_ordered_where_that_is_asked_for(tmp_path: Path) -> None:
    manifest = run(tmp_path, steps=0, neuron_order="none")
    assert manifest.influence is not None and len(manifest.influence) == LAYERS


def test_a_tied_checkpoint_that_repeats_its_head_stays_consistent(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", "llama-grouped-tied")
    file = tmp_path / "base" / "model.safetensors"
    weights = load_file(file)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, file, metadata={"format": "pt"})
    run(tmp_path, steps=4)
    supernet = tmp_path / "run" / "supernet"
    model = AutoModelForCausalLM.from_pretrained(supernet, dtype=torch.float32)
    (tokens,) = random_sequences(12)
    network = Checkpoint.open(supernet).cut()
    ours = network.logits(network.hidden(pack([Tree.plain(tokens)])))
    torch.testing.assert_close(ours, logits_one_by_one(model, [tokens])[0], atol=2e-5, rtol=2e-5)


def test_the_loss_of_a_batch_is_that_of_its_examples_weighted_by_their_response_tokens(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "mistral-window")
    network = Checkpoint.open(tmp_path).cut()
    examples = tokenize(ROWS[:7], tiny_tokenizer(), 200)

    def loss(batch: list[Example]) -> float:
        packed = pack([Tree.plain(example.tokens) for example in batch])
        return response_loss(network, packed, batch).item()

    weights = [len(example.tokens) - example.response for example in examples]
    alone = [loss([example]) for example in examples]
    expected = sum(weight * value for weight, value in zip(weights, alone, strict=True)) / sum(weights)
    assert loss(examples) == pytest.approx(expected, rel=1e-5)
    assert len(set(weights)) > 1, "all examples weigh the same"


def test_the_loss_is_transformers_loss_with_the_prompt_masked(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path, "qwen2")
    network = Checkpoint.open(tmp_path).cut()
    (example,) = tokenize(ROWS[:1], tiny_tokenizer(), 200)
    tokens = torch.tensor([example.tokens])
    labels = tokens.clone()
    labels[0, : example.response] = -100
    packed = pack([Tree.plain(example.tokens)])
    ours = response_loss(network, packed, [example])
    with torch.inference_mode():
        assert ours.item() == pytest.approx(model(tokens, labels=labels).loss.item(), rel=1e-5)


def test_an_example_is_alpaca_s_prompt_and_the_response_that_ends() -> None:
    tokenizer = tiny_tokenizer()
    plain, paired = tokenize(
        [{"instruction": "Add.", "input": "", "output": "3"}, {"instruction": "Add.", "input": "1 2", "output": "3"}],
        tokenizer,
        200,
    )
    assert tokenizer.decode(plain.tokens[: plain.response]) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Response:\n"
    )
    assert tokenizer.decode(paired.tokens[: paired.response]) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n"
    )
    assert tokenizer.decode(plain.tokens[plain.response :]) == "3</s>"


def test_a_long_response_is_cut_and_a_prompt_that_leaves_no_room_is_left_out() -> None:
    tokenizer = tiny_tokenizer()
    (whole,) = tokenize(ROWS[:1], tokenizer, 1000)
    (cut,) = tokenize(ROWS[:1], tokenizer, whole.response + 1)
    assert cut.tokens == whole.tokens[: whole.response + 1]
    assert tokenize(ROWS[:1], tokenizer, whole.response) == []


def test_every_epoch_holds_every_example_once_in_a_new_order() -> None:
    rng = random.Random(0)
    examples = [Example((number,) * rng.randint(1, 60), 0) for number in range(30)]
    total = sum(len(example.tokens) for example in examples)
    stream = list(itertools.islice(batches(examples, 100, seed=5), 4 * total // 100))
    assert all(0 < sum(len(example.tokens) for example in batch) <= 100 for batch in stream)
    numbers = [example.tokens[0] for batch in stream for example in batch]
    first, second = numbers[:30], numbers[30:60]
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second
    assert stream == list(itertools.islice(batches(examples, 100, seed=5), len(stream)))
    assert stream != list(itertools.islice(batches(examples, 100, seed=6), len(stream)))


def test_the_learning_rate_warms_up_and_falls_to_a_tenth() -> None:
    settings = TrainingSettings(steps=100, warmup_steps=10, learning_rate=1e-3)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([1e-4 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(1e-3)
    assert all(above > below for above, below in itertools.pairwise(rates[10:]))
    assert rates[55] == pytest.approx(1e-3 * 0.55)
    assert learning_rate(100, settings) == pytest.approx(1e-4)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (5, 5), (3, 10)])
def test_the_learning_rate_is_defined_however_short_the_fine_tuning(steps: int, warmup: int) -> None:
    settings = TrainingSettings(steps=steps, warmup_steps=warmup, learning_rate=1e-3)
    assert all(0 < learning_rate(step, settings) <= 1e-3 for step in range(steps))


def test_a_disk_that_is_too_full_for_the_super_network_says_so_and_nothing_is_lost(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, steps=2)
    size = (tmp_path / "base" / "model.safetensors").stat().st_size
    with nearly_full_disk(room=size // 2), pytest.raises(UserError, match="supernet: can't be written") as refusal:
        train_in(tmp_path / "run", plan)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run" / "supernet").exists()
    assert train_in(tmp_path / "run", plan).losses.keys() == {"full", "subnet"}


def test_a_run_directory_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match=r"unfinished: can't be written \(Not a directory\)"):
        train_in(tmp_path / "file" / "run", tiny_plan(tmp_path, steps=1))


def prepare_with(directory: Path, **training: Any) -> None:
    write_checkpoint(directory / "base", "llama")
    plan_training(tiny_settings(directory, **training), directory / "base", NOWHERE)


def test_data_that_are_not_there_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"training\.data: 'nothing\.jsonl' is neither 'alpaca', 'plain_facts', a file nor"
    ):
        prepare_with(tmp_path, data="nothing.jsonl")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", r"data\.jsonl: has no rows"),
        ("\n\n", r"data\.jsonl: has no rows"),
        ('{"instruction": "a", "input": "", "output": ""}\n', "has no row with an instruction and an output"),
        ('{"instruction": "a", "input": "", "output": "b"}\n{torn', r"data\.jsonl:2: not JSON"),
        ("[1]\n", r"data\.jsonl row 1: not a JSON object"),
    ],
)
def test_data_that_are_empty_or_damaged_are_refused_with_file_and_line(
    tmp_path: Path, content: str, complaint: str
) -> None:
    (tmp_path / "data.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=complaint) as refusal:
        prepare_with(tmp_path, data=str(tmp_path / "data.jsonl"))
    assert "\n" not in str(refusal.value)


def test_data_of_which_no_row_fits_into_a_step_are_refused(tmp_path: Path) -> None:
    long = {"instruction": "word " * 200, "input": "", "output": "x"}
    (tmp_path / "data.jsonl").write_text(json.dumps(long) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"training\.data: no row of .* fits into training\.tokens_per_step"):
        prepare_with(tmp_path, data=str(tmp_path / "data.jsonl"), tokens_per_step=64)


@pytest.mark.parametrize("token", ["eos_token", "bos_token"])
def test_a_token_beyond_the_embeddings_is_refused_before_anything_is_computed(tmp_path: Path, token: str) -> None:
    write_checkpoint(tmp_path / "base", "llama")
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_special_tokens({token: "<|added|>"})
    if token == "bos_token":
        single = "<|added|> $A"
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=single, special_tokens=[("<|added|>", tokenizer.bos_token_id)]
        )
    tokenizer.save_pretrained(tmp_path / "base")
    complaint = r"base: its tokenizer has the token '<\|added\|>' \(800\), the network has embeddings of 0 to 799 only"
    with pytest.raises(UserError, match=complaint):
        plan_training(tiny_settings(tmp_path), tmp_path / "base", NOWHERE)


def test_rows_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    rows = [{"instruction": text, "output": text} for text in ("word " * 200, "word", None, "word " * 300)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_checkpoint(tmp_path / "base", "llama")
    settings = tiny_settings(tmp_path, data=str(tmp_path / "data.jsonl"), tokens_per_step=100)
    plan = plan_training(settings, tmp_path / "base", NOWHERE)
    assert len(plan.data.examples) == 1
    assert plan.data.left_out == [
        f"1 row left out: 1 without an instruction; first: {tmp_path / 'data.jsonl'}:3",
        "2 rows left out: prompts that fill training.tokens_per_step",
    ]


def test_a_damaged_archive_of_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl.gz").write_bytes(b"\x1f\x8b torn")
    with pytest.raises(UserError, match=r"data\.jsonl\.gz: can't be read"):
        prepare_with(tmp_path, data=str(tmp_path / "data.jsonl.gz"))


def test_impossible_spaces_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", "llama")
    settings = tiny_settings(tmp_path)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"depths": (LAYERS + 1,)}, r"space\.depths: 6 is impossible, the model has 5 layers"),
        ({"mlp_widths": (WIDTH + 1,)}, r"space\.mlp_widths: 25 is impossible, the model has 24 neurons"),
        ({"depths": (1,)}, r"space\.depths: 1 layer is impossible with depth_rule importance"),
        (
            {"depths": (1,), "depth_rule": "divergence"},
            r"space\.depths: 1 layer is impossible with depth_rule divergence",
        ),
        (
            {"depths": (1,), "depth_rule": ["first", "importance"]},
            r"space\.depths: 1 layer is impossible with depth_rule importance",
        ),
    ]
    for space, complaint in refused:
        changed = settings.model_copy(update={"space": settings.space.model_copy(update=space)})
        with pytest.raises(UserError, match=complaint):
            plan_training(changed, tmp_path / "base", NOWHERE)


def test_a_checkpoint_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", "llama")
    for file in (tmp_path / "base").glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match=r"base: no readable tokenizer \(.*\); copy") as refusal:
        plan_training(tiny_settings(tmp_path), tmp_path / "base", NOWHERE)
    assert "\n" not in str(refusal.value)
