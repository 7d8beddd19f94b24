"""The files of a checkpoint that decide what its network answers, and the digests by which checkpoints are known."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from shared.digest import digest_file, digest_json
from shared.errors import UserError
from shared.files import write_atomically

WEIGHTS = ("*.safetensors", "model.safetensors.index.json")
CHAT_TEMPLATES = "additional_chat_templates"
"""Directory of the chat templates that have names, one file each."""
REFITTED = "refitted"
"""Directory of the down projections that were refitted for narrower MLPs (`shared.supernet.refitted`). A directory, as
serving engines load every safetensors file that lies beside a `config.json`; and earlier releases would count them and
answer as if they weren't there, where they now find that the checkpoint isn't the one that is meant."""
TOKENIZER = (
    f"{CHAT_TEMPLATES}/*.jinja",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "special_tokens_map.json",
    "tekken.json",
    "tokenizer.*.json",
    "tokenizer.json",
    "tokenizer.model.*",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "*.model",
    "*.tiktoken",
)
CONTENT = ("config.json", *WEIGHTS, f"{REFITTED}/*.safetensors", *TOKENIZER)
"""All that transformers reads for a network and its tokenizer, and what we read besides."""

DIRECTORIES = (CHAT_TEMPLATES, REFITTED)
"""Those in which there is content."""

FETCHED = (*CONTENT, "*.json", "*.jinja")
"""What is fetched of a checkpoint that lies elsewhere: `supernet.json` too, and what serving engines may read."""

FORMER_CONTENT = ("config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "*.safetensors")
"""What counted in releases before there was CONTENT. Their digests are still known."""

LARGE_BYTES = 2**20
"""The digest of a file from this size on is remembered."""
SETTLED_NANOSECONDS = 2 * 10**9
"""A file that changed less long ago may change again without its time showing it, where clocks tick slowly."""


class FileDigests:
    """Digests of files; those of large ones are remembered in a directory, under the file's path, size, time of change
    and inode, so that a model of many gigabytes isn't read again at every start."""

    def __init__(self, cache: Path) -> None:
        self._memory = cache / "digests"

    def of(self, file: Path, read: Callable[[int], None] = lambda _: None) -> str:
        """Digest of a file's bytes; `read` is called repeatedly with how many more have been read."""
        if file.stat().st_size < LARGE_BYTES:
            return digest_file(file)
        remembered = self._remembered(file)
        if remembered is not None:
            return remembered
        before, settled = _state(file), time.time_ns() - file.stat().st_mtime_ns > SETTLED_NANOSECONDS
        digest = digest_file(file, read)
        if settled and _state(file) == before:
            self.remember(file, digest)
        return digest

    def remember(self, file: Path, digest: str) -> None:
        """Note a digest that is known; where nothing can be noted, the file is read again the next time."""
        if file.stat().st_size >= LARGE_BYTES:
            with suppress(UserError):
                write_atomically(self._place(file), json.dumps({**_state(file), "digest": digest}) + "\n")

    def _remembered(self, file: Path) -> str | None:
        try:
            noted = json.loads(self._place(file).read_bytes())
            digest: str = noted.pop("digest")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return digest if noted == _state(file) else None

    def _place(self, file: Path) -> Path:
        return self._memory / f"{digest_json(str(file.resolve()))}.json"

    def content(self, directory: Path, read: Callable[[int], None] = lambda _: None) -> dict[str, str]:
        """Digest of every file that decides what a checkpoint's network answers, by its path in the directory; `read`
        as in `of`."""
        return {path.relative_to(directory).as_posix(): self.of(path, read) for path in _content_files(directory)}

    def unread(self, directory: Path) -> int:
        """Bytes that have to be read for `content`: of large files whose digests aren't remembered."""
        files = (path for path in _content_files(directory) if path.stat().st_size >= LARGE_BYTES)
        return sum(path.stat().st_size for path in files if self._remembered(path) is None)


def content_digest(files: Mapping[str, str]) -> str:
    """Identity of a checkpoint, from its files' digests. Never a former one, in which less counted."""
    return digest_json({"content": files})


def former_digest(files: Mapping[str, str]) -> str:
    """What earlier releases called a checkpoint with these files."""
    return digest_json(matching(files, FORMER_CONTENT))


def has_digest(files: Mapping[str, str], digest: str) -> bool:
    """Whether a digest is that of a checkpoint with these files, by what counts today or by what counted before: once
    only FORMER_CONTENT, later no files of CHAT_TEMPLATES."""
    untemplated = {name: known for name, known in files.items() if not name.startswith(f"{CHAT_TEMPLATES}/")}
    return digest in (content_digest(files), content_digest(untemplated), former_digest(files))


def matching(files: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """Those of the files whose names match one of the patterns."""
    return {name: digest for name, digest in files.items() if any(fnmatch(name, pattern) for pattern in patterns)}


def _content_files(directory: Path) -> list[Path]:
    return sorted({path for pattern in CONTENT for path in directory.glob(pattern) if path.is_file()})


def _state(file: Path) -> dict[str, str | int | list[int]]:
    state = file.stat()
    return {
        "file": str(file.resolve()),
        "size": state.st_size,
        "changed": [state.st_mtime_ns, state.st_ctime_ns],  # the first can be set back, as copying programs do
        "inode": state.st_ino,
    }
