"""What holds for every format: the exported network is ours, as large as was said."""

from pathlib import Path

import pytest
import torch

from shared.errors import UserError
from tests.support.checkpoints import random_sequences
from tests.support.exports import FORMATS, NETWORKS, Exported, network, own_logits, written

SEQUENCES = random_sequences(1, 12, 23)


@pytest.fixture(params=FORMATS)
def exported(request: pytest.FixtureRequest) -> Exported:
    return FORMATS[request.param]


@pytest.mark.parametrize("name", NETWORKS)
def test_an_export_computes_what_our_decoder_computes_or_is_refused_in_one_line(
    exported: Exported, name: str, tmp_path: Path
) -> None:
    chosen = network(tmp_path / "base", name)
    if name in exported.refused:
        with pytest.raises(UserError) as refusal:
            exported.format.require_possible(chosen)
        assert "\n" not in str(refusal.value)
        return
    directory = written(chosen, exported.format, tmp_path / "export")
    for ours, theirs in zip(own_logits(chosen, SEQUENCES), exported.logits(directory, SEQUENCES), strict=True):
        assert ours.std() > 0.1, "the reference says nothing"
        torch.testing.assert_close(theirs, ours, atol=2e-5, rtol=1e-5)


def test_an_export_is_as_large_as_is_said_before_and_tells_how_far_it_is(exported: Exported, tmp_path: Path) -> None:
    chosen = network(tmp_path / "base", "llama, layered")
    (tmp_path / "export").mkdir()
    steps: list[int] = []
    exported.format.write(chosen, tmp_path / "export", steps.append)
    weights = [file for file in (tmp_path / "export").iterdir() if file.suffix in (".safetensors", ".gguf")]
    assert sum(file.stat().st_size for file in weights) == exported.format.bytes(chosen) == sum(steps)


def test_every_format_is_listed_under_its_own_name() -> None:
    assert all(exported.format.name == name for name, exported in FORMATS.items())
