"""`nasfarm schema`: the JSON Schema of search or study files, for editors."""

import json
import sys
from pathlib import Path

from services.cli.console import console
from shared.errors import UserError
from shared.files import write_atomically
from shared.json_text import parse_json
from shared.settings.schema import TITLES, search_file_schema, study_file_schema


def write_schema(output: Path | None, study: bool = False) -> None:
    """Write the schema of search files, or of study files, into a file, or as it is to the standard output."""
    text = json.dumps(study_file_schema() if study else search_file_schema(), indent=2) + "\n"
    if output is None:
        sys.stdout.write(text)
        return
    if output.exists() and not _is_schema(output):
        raise UserError(f"{output}: exists already and is no schema of nasfarm; give another --output")
    write_atomically(output, text)
    console.print(f"Schema         {output}")
    console.print(
        f"Next           begin a {'study' if study else 'search'} file with: # yaml-language-server: $schema={output}"
    )


def _is_schema(path: Path) -> bool:
    """Whether an earlier schema is there, which may be replaced."""
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("title") in TITLES
