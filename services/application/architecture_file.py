"""Architecture files, such as runs/NAME/front/N1.json. Loads no model."""

from pathlib import Path

from pydantic import ValidationError

from shared.architecture import Architecture
from shared.errors import UserError
from shared.settings import explain


def read_architecture(path: Path) -> Architecture:
    """Read an architecture file. Raises UserError that names file and field."""
    try:
        return Architecture.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: can't be read ({error.strerror}); give a file such as runs/NAME/front/N1.json"
        ) from error
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}; it should hold layers and mlp_widths") from error
