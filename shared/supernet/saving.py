"""Networks on disk: each is a checkpoint directory like any other."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from shared.checkpoint_files import CHAT_TEMPLATES
from shared.errors import UserError
from shared.json_text import parse_json
from shared.manifest import EXPORT, FINISHED, FINISHED_ANSWERS, LOSSES, MANIFEST, RECIPE, read_config
from shared.network.config import AUTO_MAP, config_of
from shared.supernet.checkpoint import WEIGHT_SUFFIXES, WEIGHTS, Checkpoint, writing_checkpoint
from shared.supernet.decoder import Decoder

DESCRIPTIONS = (EXPORT, FINISHED, FINISHED_ANSWERS, LOSSES, MANIFEST, RECIPE)
"""What says how a checkpoint was made, and not what it computes."""


def save_network(
    network: Decoder,
    source: Checkpoint,
    kept: Sequence[int],
    directory: Path,
    describe: Callable[[Path], None] = lambda _: None,
) -> None:
    """Write a network that was made of a checkpoint as one of its own, whole or not at all; `kept` are the places that
    its layers have in the source, whose tokenizer goes along. `describe` is given the written checkpoint before it is
    in its place, to put there what says how it was made.

    Raises UserError where something lies there already, where it can't be written, and for a network in INT8, which
    is quantised again when it is cut.
    """
    if directory.exists():
        raise UserError(f"{directory}: exists already; name another directory")
    if any(projection.needs_batch_invariance for layer in network.layers for projection in layer.projections):
        raise UserError(f"{directory}: a network in INT8 has no checkpoint; write it as it was before")
    with writing_checkpoint(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as scratch:
            whole = Path(scratch) / "checkpoint"
            whole.mkdir()
            copy_companions(source.directory, whole)
            config = config_of(network.shape, read_config(source.directory), kept)
            config = {key: value for key, value in config.items() if key != "torch_dtype"}
            config["dtype"] = str(network.embeddings.dtype).removeprefix("torch.")
            (whole / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            save_weights(dict(network.weights()), whole)
            describe(whole)
            whole.rename(directory)


def save_weights(weights: Mapping[str, Tensor], directory: Path) -> None:
    """Write a checkpoint's weights, each with the numbers that its tensor shows and no more."""
    contiguous = {name: tensor.detach().to("cpu").contiguous() for name, tensor in weights.items()}
    save_file(contiguous, directory / WEIGHTS, metadata={"format": "pt"})
    # safetensors keeps its files to their owner, but evaluators may run as another user.
    (directory / WEIGHTS).chmod(0o644)


def copy_companions(source: Path, target: Path, code: bool = False) -> None:
    """Copy what goes along with a network that is made of a checkpoint: all but weights, their index, and what says
    how the checkpoint itself was made. Its `config.json` comes along to be replaced by the network's own, which names
    no code; `code`: it stays as it is, and the modules go along that it names."""
    for file in source.iterdir():
        weights = file.suffix in WEIGHT_SUFFIXES or "index" in file.name
        left = weights or file.name in DESCRIPTIONS or (file.suffix == ".py" and not code)
        if file.is_file() and not left:
            shutil.copyfile(file, target / file.name)
    for template in source.glob(f"{CHAT_TEMPLATES}/*.jinja"):
        (target / CHAT_TEMPLATES).mkdir(exist_ok=True)
        shutil.copyfile(template, target / CHAT_TEMPLATES / template.name)
    if not code:
        _forget_code(target / "tokenizer_config.json")


def _forget_code(file: Path) -> None:
    """Have a tokenizer's settings name no module: nasfarm runs none, and has read the tokenizer without."""
    try:
        settings = parse_json(file.read_bytes())
    except (FileNotFoundError, ValueError):  # what can't be read is for whoever needs the tokenizer to say
        return
    if isinstance(settings, dict) and settings.pop(AUTO_MAP, None) is not None:
        file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
