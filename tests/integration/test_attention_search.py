"""A search in which layers may lack their attention, from the fine-tuning to exports, as a person runs it."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.evaluator.evaluator import Evaluator
from shared.architecture import Architecture, dense, derive
from shared.checkpoint_files import FileDigests, content_digest
from shared.environment import Environment
from shared.manifest import SupernetManifest, read_network
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationSpec, Measurement, TaskItems
from shared.network.sizes import cache_bytes
from tests.support.checkpoints import LAYERS, WIDTH
from tests.support.command import Run, quick_search_file, refused

SPACE = {"depths": [LAYERS, LAYERS - 1], "mlp_widths": [WIDTH, WIDTH // 2], "attention": ["keep", "skip"]}
SERVING = {"batch": 2, "prompt_tokens": 12, "generated_tokens": 3, "repeats": 2}
SEARCH: dict[str, Any] = {
    "space": SPACE,
    "tasks": [{"name": "plain_facts", "search": {"items": 40}, "report": {"items": 40}}],
    "search": {"strategy": "bayesian", "evaluations": 16, "population": 8},
    "objectives": ["kv_cache_bytes", "bytes"],
    "serving": SERVING,
    "reporting": {"networks": 3, "random": True, "margin": 20},
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NASFARM_DATA", raising=False)
    monkeypatch.setenv("NASFARM_THREADS", "1")
    return quick_search_file(tmp_path, **SEARCH)


def test_attention_is_searched_reported_and_exported(file: Path, run: Run, tmp_path: Path) -> None:
    ended = run("search", file)
    assert ended.code == 0, ended
    assert "with or without attention" in ended.output
    front = json.loads(Path("runs/tiny/front.json").read_text())
    network = read_network(Path("runs/tiny/supernet"))
    networks = {row["name"]: Architecture.model_validate(row["architecture"]) for row in front["front"]}
    for row in front["front"]:
        cached = cache_bytes(derive(network, networks[row["name"]]), "float32")
        assert row["kv_cache_bytes"] == 2 * 15 * cached and row["cache_bytes_per_token"] == cached
    assert front["dense"]["kv_cache_bytes"] == 2 * 15 * cache_bytes(network, "float32")
    for row in front["random"]:
        original = networks[row["name"].removesuffix(" random")]
        drawn = Architecture.model_validate(row["architecture"])
        assert len(drawn.without_attention) == len(original.without_attention)
    page = Path("runs/tiny/report.html").read_text()
    assert "no attention in layers" in page and 'class="skip"' in page and "KV cache" in page
    assert "Every layer that is kept has its whole attention" not in page
    # The fine-tuning drew them too, and says so in the super-network's recipe.
    manifest = SupernetManifest.read(Path("runs/tiny/supernet"))
    assert manifest.space.attention == ("keep", "skip")
    assert manifest.recipe["space"]["attention"] == ["keep", "skip"]
    _check_exports(run, tmp_path)


def _check_exports(run: Run, tmp_path: Path) -> None:
    """What can hold a network whose layers lack attention does, and the rest says why it can't."""
    middle = Architecture(layers=tuple(range(LAYERS)), mlp_widths=(WIDTH,) * LAYERS, without_attention=(1, 3))
    named = tmp_path / "middle.json"
    named.write_text(middle.model_dump_json())
    ended = run("export", "runs/tiny", "--architecture", named, "--to", "hf")
    assert ended.code == 0, ended
    assert "Verified" in ended.output
    (directory,) = Path("exports").iterdir()
    exported = read_network(directory)
    assert exported == derive(read_network(Path("runs/tiny/supernet")), middle)
    assert "2 without attention" in (directory / "README.md").read_text()
    assert "no attention in layers 1, 3" in (directory / "layers.svg").read_text()
    measured = [_measured(Path("runs/tiny/supernet").resolve(), middle), _measured(directory, dense(exported))]
    assert measured[0].scores[0].margins == pytest.approx(measured[1].scores[0].margins, abs=1e-4)
    for target in ("vllm", "gguf"):
        ended = run("export", "runs/tiny", "--architecture", named, "--to", target, "--no-verify")
        assert ended.code == 0, ended
    first = tmp_path / "first.json"
    first.write_text(middle.model_copy(update={"without_attention": (0,)}).model_dump_json())
    refused(run("export", "runs/tiny", "--architecture", first, "--to", "vllm"), "a first layer without attention")
    refused(run("export", "runs/tiny", "--architecture", first, "--to", "gguf"), "its first layer has no attention")


def test_a_super_network_that_was_trained_with_all_attention_can_be_searched_without_some(
    file: Path, run: Run, tmp_path: Path
) -> None:
    trained = quick_search_file(tmp_path, **{**SEARCH, "space": {**SPACE, "attention": ["keep"]}})
    ended = run("train", trained)
    assert ended.code == 0, ended
    (manifest,) = Path("supernets").glob("*/supernet.json")
    assert "attention" not in json.loads(manifest.read_text())["space"]
    searched = quick_search_file(tmp_path, **{**SEARCH, "name": "skipping", "supernet": str(manifest.parent)})
    ended = run("search", searched)
    assert ended.code == 0, ended.error[-500:]
    front = json.loads(Path("runs/skipping/front.json").read_text())["front"]
    assert any(row["architecture"].get("without_attention") for row in front)


def _measured(directory: Path, architecture: Architecture) -> Measurement:
    environment = Environment.read()
    digest = content_digest(FileDigests(environment.cache).content(directory))
    request = EvaluationRequest(
        search="by-hand",
        checkpoint=CheckpointRef(location=str(directory), digest=digest),
        architecture=architecture,
        spec=EvaluationSpec(dtype="float32", tasks=(TaskItems(task="plain_facts", stop=12),)),
    )
    outcome = Evaluator(environment).evaluate(request).outcome
    assert isinstance(outcome, Measurement), outcome
    return outcome
