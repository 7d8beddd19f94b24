"""Names of repositories at the hub."""

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id


def is_repository(name: str) -> bool:
    """Whether a name may be that of a repository, `USER/NAME`."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name
