"""An export's way to the Hugging Face hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from services.exporter.card.repository import is_repository
from shared.errors import UserError, first_line
from shared.text import one_line, shown

ATTRIBUTES = ".gitattributes"
"""A file that the hub itself puts into every repository."""
LOG_IN = "run `hf auth login`, or set HF_TOKEN to a token that may write (https://huggingface.co/settings/tokens)"


@dataclass(frozen=True)
class Pushed:
    """Where an export lies at the hub, and whether only its owner sees it."""

    url: str
    private: bool


def require_pushable(repository: str, force: bool) -> None:
    """Find out whether `push` is going to be let, before anything is written; the hub is asked, and nothing changed.

    Raises UserError for a name that can't be a repository's, without a token or with one that the hub doesn't know,
    where the hub can't be reached, and for a repository that holds files, unless they are to be replaced (`force`).
    """
    if not is_repository(repository):
        raise UserError(
            f"--push {shown(repository)}: not a repository's name; give USER/NAME, letters, digits and . _ -"
        )
    if get_token() is None:
        raise UserError(f"--push {repository}: no token for the hub; {LOG_IN}")
    with _asking(repository):
        api = HfApi()
        api.whoami()
        _existing(api, repository, force)


def push(directory: Path, repository: str, force: bool) -> Pushed:
    """Upload what lies in a directory, as a model; a repository that isn't there yet is made, and is private. What
    an existing one holds is replaced with `force`; whoever sees it still does.

    Raises UserError as `require_pushable` does, and where the hub refuses: what lies in the directory stays.
    """
    with _asking(repository):
        api = HfApi()
        private = _existing(api, repository, force)
        url = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=directory,
            commit_message=f"Upload {directory.name} with nasfarm",
            delete_patterns="*" if force else None,
        )
    return Pushed(str(url), private is not False)


def _existing(api: HfApi, repository: str, force: bool) -> bool | None:
    """Whether the repository is private; None if there is none. Raises UserError if it holds files."""
    try:
        found = api.model_info(repository)
    except RepositoryNotFoundError:
        return None
    files = [file.rfilename for file in found.siblings or () if file.rfilename != ATTRIBUTES]
    if files and not force:
        raise UserError(
            f"--push {repository}: the repository holds {len(files)} file{'' if len(files) == 1 else 's'} already; "
            "name another one, or replace what is there with --force"
        )
    return bool(found.private)


@contextmanager
def _asking(repository: str) -> Iterator[None]:
    """Say in one line what the hub, or the way there, has against it."""
    try:
        yield
    except UserError:
        raise
    except OfflineModeIsEnabled as error:
        raise UserError(f"--push {repository}: HF_HUB_OFFLINE is set; unset it to reach the hub") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = one_line(error.server_message or f"status {status}")
        remedy = LOG_IN if status in (401, 403) else "nothing was lost; try again, or upload the directory by hand"
        raise UserError(f"--push {repository}: the hub refuses ({said}); {remedy}") from error
    except ValueError as error:  # of a card that the hub finds wrong
        raise UserError(f"--push {repository}: {one_line(str(error))}; nothing was lost: upload it by hand") from error
    except Exception as error:  # the hub's client raises many kinds; all mean that it isn't there
        raise UserError(
            f"--push {repository}: the hub can't be reached ({one_line(first_line(error))}); nothing was lost: check "
            "the network and try again"
        ) from error
