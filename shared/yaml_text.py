"""YAML as people mean it: the core schema of YAML 1.2, and no key twice.

PyYAML follows YAML 1.1, in which `010` is 8, `1:30` is 90 and `no` is false, and lets the last of two equal keys win.
Here (YAML 1.2.2, 10.3.2) they are 10 and texts; `0o10` and `0x8` are 8; dates are texts. Anchors and merge keys (`<<`)
work as in PyYAML.
"""

import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, ScalarNode

from shared.errors import first_line

PREFIX = "tag:yaml.org,2002:"
NULL, BOOL, INT, FLOAT, MERGE = (f"{PREFIX}{name}" for name in ("null", "bool", "int", "float", "merge"))
CORE: dict[str, tuple[str, list[str]]] = {
    NULL: (r"null|Null|NULL|~|", [*"nN~", ""]),
    BOOL: (r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    INT: (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    FLOAT: (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        [*"-+.0123456789"],
    ),
    MERGE: (r"<<", ["<"]),
}
"""Of each kind of unquoted value: what it looks like, and which characters it begins with."""


class NotYamlError(Exception):
    """A text that is no YAML; says where and why, to go on after "not valid YAML"."""


def parse_yaml(text: str) -> Any:
    """The value of a YAML text. Raises NotYamlError."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a subclass of SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f"in line {error.problem_mark.line + 1} " if error.problem_mark else ""
        raise NotYamlError(f"{line}({', '.join(filter(None, (error.context, error.problem)))})") from error
    except yaml.YAMLError as error:
        raise NotYamlError(f"({first_line(error)})") from error
    except RecursionError as error:
        raise NotYamlError("(it is nested too deeply)") from error


def format_yaml(value: Any) -> str:
    """A value as YAML that reads as the same here and in YAML 1.1; the keys of mappings keep their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


class _Loader(yaml.SafeLoader):
    """What tags a value has by its looks, what it then is, and that keys differ."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's way)

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Looked at here, before merge keys put other mappings' keys among these."""
        node = super().compose_mapping_node(anchor)
        seen: dict[object, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag == MERGE:
                continue
            key, line = self.construct_object(key_node), key_node.start_mark.line + 1
            if key in seen:
                problem = f"the key {key_node.value!r} is given twice, first in line {seen[key]}"
                raise ConstructorError(None, None, problem, key_node.start_mark)
            seen[key] = line
        return node

    def _core(self, node: ScalarNode) -> str:
        """The text of a value that was tagged by its looks, or is said to look so (`!!int`)."""
        if not _pattern(node.tag).match(node.value):
            kind = node.tag.removeprefix(PREFIX)
            raise ConstructorError(None, None, f"{node.value!r} is no {kind}", node.start_mark)
        return str(node.value)

    def _bool(self, node: ScalarNode) -> bool:
        return self._core(node).lower() == "true"

    def _int(self, node: ScalarNode) -> int:
        text = self._core(node)
        try:
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        except ValueError as error:  # thousands of digits
            raise ConstructorError(None, None, first_line(error), node.start_mark) from error

    def _float(self, node: ScalarNode) -> float:
        return float(self._core(node).lower().replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """Quotes what would be something else than a text in either version of YAML."""


def _pattern(tag: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{CORE[tag][0]})\Z")


for _tag, (_, _first) in CORE.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, _pattern(_tag), _first)
_Loader.add_constructor(BOOL, _Loader._bool)
_Loader.add_constructor(INT, _Loader._int)
_Loader.add_constructor(FLOAT, _Loader._float)
