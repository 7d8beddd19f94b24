"""Search and study files as JSON Schemas (draft 2020-12), for editors that check and complete them as they are written.

They refuse what the settings refuse as far as JSON Schema can say it. It can't say that a task is listed twice, that a
name is one of those listed elsewhere, that there are items for all slices, nor how large a number is that is written as
text; and JSON has no infinity and no NaN.
"""

from collections.abc import Iterable
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from shared.settings.search_file import OF_SERVING, OF_SHAPE, SearchSettings
from shared.settings.sections import StrategySettings
from shared.settings.study_file import TOGETHER, StudiedSupernet, StudySettings
from shared.settings.tasks import SPLITS, TaskSettings
from shared.settings.values import REAL_TEXT, WHOLE_TEXT, Section

SEARCH_TITLE, STUDY_TITLE = "Search file of nasfarm", "Study file of nasfarm"
TITLES = (SEARCH_TITLE, STUDY_TITLE)
DIALECT = "https://json-schema.org/draft/2020-12/schema"
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
ACRONYMS = {"mlp": "MLP", "int8": "INT8"}

Schema = dict[str, Any]


def search_file_schema() -> Schema:
    """The schema of a search file."""
    return _schema(SearchSettings, SEARCH_TITLE, SEARCH_RULES)


def study_file_schema() -> Schema:
    """The schema of a study file."""
    schema = _schema(StudySettings, STUDY_TITLE, STUDY_RULES)
    schemas = schema["$defs"]
    schemas[StudiedSupernet.__name__]["allOf"] = SUPERNET_RULES
    for baseline in StudySettings.alternatives("baselines"):
        schemas[baseline.__name__] |= {
            "description": " ".join((baseline.__doc__ or "").split()),
            "required": ["baseline"],  # by which one is told from another
        }
    return schema


def _schema(settings: type[Section], title: str, rules: list[Schema]) -> Schema:
    schema = settings.model_json_schema(schema_generator=_Generator)
    schemas = {settings.__name__: schema, **schema["$defs"]}
    sections: tuple[type[Section], ...] = (settings, *settings.sections())
    for section in sections:
        ours = schemas[section.__name__]
        ours["title"] = section.__name__.removesuffix("Settings").removesuffix("Options")
        del ours["description"]  # each of its keys has one, and so has the key that holds it
        for key, value in ours["properties"].items():
            value["description"] = section.described(key)
    schema |= {"title": title, "allOf": rules}
    task = schemas[TaskSettings.__name__]
    task["properties"]["name"]["pattern"] = NAMES
    task["properties"]["apply_chat_template"] |= {"anyOf": [TRUE_OR_FALSE, {"type": "string", "pattern": r"\S"}]}
    task["allOf"] = TASK_RULES
    schemas[StrategySettings.__name__]["allOf"] = STRATEGY_RULES
    return {"$schema": DIALECT, **schema}


class _Generator(GenerateJsonSchema):
    """pydantic's own schema, and what pydantic takes besides: numbers and booleans that are written as text (as `1_000`
    and `yes` are in YAML 1.2), and 1 and 0 for booleans. Of several types, each keyword looks at those that it is for.
    """

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return {**super().int_schema(schema), "type": ["integer", "string"], "pattern": f"^({WHOLE_TEXT})$"}

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {**super().float_schema(schema), "type": ["number", "string"], "pattern": f"^({REAL_TEXT})$"}

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        return dict(TRUE_OR_FALSE)

    def generate_inner(self, schema: Any) -> JsonSchemaValue:
        """The bounds of a number that a validator sees first have pydantic's names for them."""
        made = super().generate_inner(schema)
        return made | {BOUNDS[key]: made.pop(key) for key in BOUNDS if key in made}

    def get_title_from_name(self, name: str) -> str:
        words = " ".join(ACRONYMS.get(word, word) for word in name.split("_"))
        return words[:1].upper() + words[1:]


def _any_case(words: Iterable[str]) -> str:
    """A pattern for words in capital and small letters."""
    spelt = ("".join(f"[{each.upper()}{each}]" if each.isalpha() else each for each in word) for word in words)
    return f"^({'|'.join(spelt)})$"


def _given(key: str, value: Schema) -> Schema:
    """Where a section has a key with such a value."""
    return {"properties": {key: value}, "required": [key]}


YES, NO = ("1", "on", "t", "true", "y", "yes"), ("0", "off", "f", "false", "n", "no")
TRUE: Schema = {"anyOf": [{"enum": [True, 1]}, {"type": "string", "pattern": _any_case(YES)}]}
FALSE: Schema = {"anyOf": [{"enum": [False, 0]}, {"type": "string", "pattern": _any_case(NO)}]}
TRUE_OR_FALSE: Schema = {
    "type": ["boolean", "string", "integer"],
    "pattern": _any_case((*YES, *NO)),
    "minimum": 0,
    "maximum": 1,
}

NAMES = r"^[^,]*[^,\s][^,]*(,[^,]*[^,\s][^,]*)*$"
_HAVE_SPLITS = f"({'|'.join(SPLITS)})"
HAVE_SPLITS = rf"^({_HAVE_SPLITS}|\s*{_HAVE_SPLITS}\s*(,\s*{_HAVE_SPLITS}\s*)+)$"
SPLIT = _given("split", {"type": "string"})

TASK_RULES: list[Schema] = [
    {  # fewshot_as_multiturn: false means nothing without apply_chat_template
        "if": _given("fewshot_as_multiturn", FALSE),
        "then": _given("apply_chat_template", {"not": FALSE}),
    },
    {  # the splits of both parts or of neither
        "if": _given("name", {"not": {"pattern": HAVE_SPLITS}}),
        "then": {
            "if": _given("search", SPLIT),
            "then": _given("report", SPLIT),
            "else": {"not": _given("report", SPLIT)},
        },
    },
]
SEVERAL: Schema = {"type": "integer", "minimum": 2}
STRATEGY_RULES: list[Schema] = [
    {  # only `bayesian` compares networks that were measured on different items
        "if": _given("slices", SEVERAL),
        "then": _given("strategy", {"const": "bayesian"}),
    },
    {  # an asynchronous search has no generations to overlap
        "if": _given("asynchronous", TRUE),
        "then": {"properties": {"overlap": {"not": TRUE}}},
    },
]
SEARCH_RULES: list[Schema] = [
    {  # seconds and the KV cache need `serving`
        "if": _given("objectives", {"contains": {"enum": list(OF_SERVING)}}),
        "then": _given("serving", {"type": "object"}),
    },
    {  # several quantizations need an objective that sees them
        "if": _given("space", _given("quantization", {"minItems": 2})),
        "then": _given("objectives", {"contains": {"not": {"enum": list(OF_SHAPE)}}}),
    },
    {  # and several widths
        "if": _given("space", _given("mlp_widths", {"minItems": 2})),
        "then": {"properties": {"objectives": {"contains": {"not": {"const": "kv_cache_bytes"}}}}},
    },
    {  # what engine vllm doesn't run
        "if": _given("space", _given("attention", {"contains": {"const": "skip"}})),
        "then": {"properties": {"serving": {"properties": {"engine": {"not": {"const": "vllm"}}}}}},
    },
    {  # nothing is measured again in INT8 that is in INT8
        "if": _given("remeasure_int8", TRUE),
        "then": {"properties": {"space": {"properties": {"quantization": {"not": {"contains": {"const": "int8"}}}}}}},
    },
]
SUPERNET_RULES: list[Schema] = [
    {  # a study searches without INT8
        "properties": {"space": {"properties": {"quantization": {"not": {"contains": {"const": "int8"}}}}}},
    },
]
NOT_TOGETHER: Schema = {"not": {"pattern": rf"(^|,)\s*{TOGETHER}\s*(,|$)"}}
STUDY_RULES: list[Schema] = [
    {  # which task is timed says nothing without `serving`
        "if": _given("timed_task", {"type": "string"}),
        "then": _given("serving", {"type": "object"}),
    },
    {"properties": {"tasks": {"items": {"properties": {"name": NOT_TOGETHER}}}}},
    {"properties": {"search": {"properties": {"slices": {"not": SEVERAL}}}}},
]
