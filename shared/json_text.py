"""JSON that others wrote."""

import json
import sys
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, and nothing else, for whatever is none: also for one that is nested
    too deeply or has a number of thousands of digits."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not in UTF-8") from error
    except ValueError as error:
        raise ValueError(f"a number of more than {sys.get_int_max_str_digits()} digits") from error
