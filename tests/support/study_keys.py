"""A short study file."""

from typing import Any

from tests.support.search_keys import GOOD as SEARCH

GOOD: dict[str, Any] = {
    "name": "example",
    "model": SEARCH["model"],
    "supernets": [{"name": "ours", "space": SEARCH["space"]}],
    "tasks": SEARCH["tasks"],
    "sizes": [1.3],
}
