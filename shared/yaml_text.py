"""YAML as people mean it: the core schema of YAML 1.2, and no key twice.

PyYAML follows YAML 1.1, in which `010` is 8, `1:30` is 90 and `no` is false, and lets the last of two equal keys win.
Here (YAML 1.2.2, 10.3.2) they are 10 and texts; `0o10` and `0x8` are 8; dates are texts. Anchors and merge keys (`<<`)
work as in PyYAML, but for those that make a short text endless: within themselves, or in one another a thousandfold.
"""

import re
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from shared.errors import first_line
from shared.text import shortened, shown

PREFIX = "tag:yaml.org,2002:"
NULL, BOOL, INT, FLOAT, STR, SEQ, MAP, MERGE = (
    f"{PREFIX}{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")
)
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

DEEPEST = 50
"""Values within one another."""
MOST_VALUES = 20_000
"""Values of a text, those that anchors repeat counted each time."""
LONGEST_NUMBER = 100
"""Characters of a whole number; nothing that is counted has so many, and Python writes none of thousands."""
LONGEST_PROBLEM = 200


class NotYamlError(Exception):
    """A text that is not YAML; the message says where and why, and continues "not valid YAML"."""


def parse_yaml(text: str) -> Any:
    """The value of a YAML text. Raises NotYamlError."""
    line = 1
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        except BaseException:
            line = loader.line + 1
            raise
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else line
        raise _not_yaml(line, ", ".join(filter(None, (error.context, error.problem)))) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _not_yaml(line, f"the character U+{error.character:04X}, which is allowed in no YAML") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # such as an escape that stands for no character
        raise _not_yaml(line, first_line(error)) from error


def format_yaml(value: Any) -> str:
    """A value as YAML that reads as the same here and in YAML 1.1; the keys of mappings keep their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


def _not_yaml(line: int, problem: str) -> NotYamlError:
    return NotYamlError(f"in line {line} ({shortened(problem, LONGEST_PROBLEM)})")


class _Loader(yaml.SafeLoader):
    """What tags a value has by its looks, what it then is, that keys differ, and that there is an end to it."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's way)
    yaml_constructors = {  # noqa: RUF012 (PyYAML's way)
        tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (NULL, SEQ, MAP, None)
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values: dict[int, int] = {}  # of each node that is complete, by its id

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Looked at while it is read: what is endless is never made."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark: Any = event.start_mark
        self._depth += 1
        if self._depth > DEEPEST:
            raise ComposerError(None, None, "it is nested too deeply", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if isinstance(event, AliasEvent):
            if id(node) not in self._values:
                problem = f"the anchor {shown(event.anchor)} stands within itself"
                raise ComposerError(None, None, problem, mark)
            return node
        self._values[id(node)] = 1 + sum(self._values[id(inner)] for inner in _within(node))
        if self._values[id(node)] > MOST_VALUES:
            problem = f"there are more than {MOST_VALUES:,} values, those that anchors repeat counted each time"
            raise ComposerError(None, None, problem, mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Looked at here, before merge keys put other mappings' keys among these."""
        node = super().compose_mapping_node(anchor)
        seen: dict[object, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag not in (NULL, BOOL, INT, FLOAT, STR):
                continue
            key, line = self.construct_object(key_node), key_node.start_mark.line + 1
            if key in seen:
                problem = f"the key {shown(key_node.value)} is given twice, first in line {seen[key]}"
                raise ConstructorError(None, None, problem, key_node.start_mark)
            seen[key] = line
        return node

    def _core(self, node: Node) -> str:
        """The text of a value that was tagged by its looks, or is said to look so (`!!int`)."""
        text = str(self.construct_scalar(node))  # type: ignore[arg-type]  # which refuses what is no scalar
        if not _pattern(node.tag).match(text):
            kind = node.tag.removeprefix(PREFIX)
            raise ConstructorError(None, None, f"{shown(text)} is not a valid {kind}", node.start_mark)
        return text

    def _bool(self, node: Node) -> bool:
        return self._core(node).lower() == "true"

    def _int(self, node: Node) -> int:
        text = self._core(node)
        if len(text) > LONGEST_NUMBER:
            raise ConstructorError(None, None, f"a number of {len(text)} characters", node.start_mark)
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))

    def _float(self, node: Node) -> float:
        return float(self._core(node).lower().replace(".inf", "inf").replace(".nan", "nan"))

    def _str(self, node: Node) -> str:
        """A text; two escapes may make one character, as in JSON, but half of one is none."""
        text = str(self.construct_scalar(node))  # type: ignore[arg-type]  # which refuses what is no scalar
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError as error:
            raise ConstructorError(None, None, "an escape is half of a character", node.start_mark) from error


class _Dumper(yaml.SafeDumper):
    """Quotes what would be something else than a text in either version of YAML."""


def _within(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _pattern(tag: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{CORE[tag][0]})\Z")


for _tag, (_, _first) in CORE.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, _pattern(_tag), _first)
_Loader.add_constructor(BOOL, _Loader._bool)
_Loader.add_constructor(INT, _Loader._int)
_Loader.add_constructor(FLOAT, _Loader._float)
_Loader.add_constructor(STR, _Loader._str)
