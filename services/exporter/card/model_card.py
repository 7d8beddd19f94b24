"""The model card of an exported network: `README.md` with the hub's front matter, and a picture of its layers."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from services.exporter.card import words
from services.exporter.card.commands import commands, engines_of_other_formats
from services.exporter.card.facts import CardFacts, License
from services.exporter.card.layers_picture import layers_picture, summary
from services.exporter.card.license import CARD
from services.exporter.card.repository import is_repository

PICTURE = "layers.svg"
LIBRARIES = {"hf": "transformers", "vllm": "vllm", "gguf": "gguf"}
"""What the hub calls those that load a format."""
FEW_ITEMS = 2000
"""Fewer than so many items leave an interval of more than four points."""


def write_card(facts: CardFacts, directory: Path) -> None:
    """Write `README.md` and `layers.svg` into the directory of an export, whose other files must be there: what the
    card says of loading depends on them. A card that came from the base model's directory is replaced.

    Raises OSError where they can't be written.
    """
    picture = layers_picture(facts.kept, facts.mlp_widths, facts.base_mlp_widths, facts.without_attention)
    (directory / PICTURE).write_text(picture, encoding="utf-8")
    text = f"---\n{_front_matter(facts).to_yaml()}\n---\n\n{_body(facts, directory)}"
    (directory / CARD).write_text(text, encoding="utf-8")


def _front_matter(facts: CardFacts) -> ModelCardData:
    """What the hub reads, by its schema (https://huggingface.co/docs/hub/model-cards)."""
    terms = facts.base_license or License("unknown")
    known = is_repository(facts.base_model)
    return ModelCardData(
        base_model=facts.base_model if known else None,
        # The hub would take a GGUF file for the base itself, quantised.
        base_model_relation="finetune" if known else None,
        license=terms.identifier,
        license_name=terms.name,
        license_link=_link(terms, facts.base_model if known else None),
        datasets=list(facts.datasets) or None,
        library_name=LIBRARIES[facts.format],
        pipeline_tag="text-generation",
        tags=["nasfarm", "neural-architecture-search", "pruned", facts.family],
        model_name=facts.name if facts.tasks else None,
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=task.title,
                dataset_name=task.title,
                metric_type=task.metric,
                metric_name=f"{task.metric}, 95 % interval {words.interval(task.interval)}, {task.items} items",
                metric_value=round(100 * task.accuracy, 2),
                dataset_args=None if task.examples is None else {"num_few_shot": task.examples},
            )
            for task in facts.tasks
        ]
        or None,
    )


def _body(facts: CardFacts, directory: Path) -> str:
    environment = Environment(  # noqa: S701 (Markdown: what others made up goes through `plain`)
        loader=PackageLoader("services.exporter.card", package_path=""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = words.plain
    environment.globals |= {
        function.__name__: function
        for function in (
            words.millions,
            words.megabytes,
            words.percent,
            words.interval,
            words.against,
            words.examples,
        )
    }
    return environment.get_template("card.md.j2").render(
        facts=facts,
        narrow=sum(
            width < facts.base_mlp_widths[layer] for layer, width in zip(facts.kept, facts.mlp_widths, strict=True)
        ),
        searched="INT8 (LLM.int8())" if facts.quantization == "int8" else facts.dtype,
        before=any(task.before is not None for task in facts.tasks),
        whole=facts.mlp_widths == facts.base_mlp_widths and not facts.without_attention,
        layers=summary(facts.kept, facts.mlp_widths, facts.base_mlp_widths, facts.without_attention),
        picture=PICTURE,
        commands=commands(facts, directory),
        others=engines_of_other_formats(facts, directory),
        limits=tuple(_limits(facts)),
    )


def _limits(facts: CardFacts) -> Iterator[str]:
    """What whoever uses the network should know, as Markdown."""
    if facts.tasks:
        yield "It was measured on the tasks above alone. On others it may have lost more: measure it on yours."
    else:
        yield "Its accuracy was not measured: measure it on your tasks before you use it."
    if any(task.items < FEW_ITEMS for task in facts.tasks):
        few = min(task.items for task in facts.tasks)
        yield f"{few} items show differences of a few points at best, which is why each number has an interval."
    if facts.tasks and facts.quantization == "int8" and facts.format != "hf":
        differ = "answers differ between the two" if facts.otherwise is None else _differ(*facts.otherwise)
        yield (
            f"{facts.weights} is another quantisation than LLM.int8(), in which the search measured networks: {differ}."
        )
    elif facts.otherwise is not None:
        measured = "It was measured" if facts.finished else "The search measured the network"
        yield f"{measured} in {facts.dtype}, before it was rounded: {_differ(*facts.otherwise)}."
    elif facts.tasks and not facts.measured_as_written:
        yield f"Accuracy was measured before the weights became {facts.weights}, which may change some answers."
    if facts.quantization == "int8" and facts.format == "hf":
        yield (
            "It is to be run as it is: transformers can't save it again (`save_pretrained` fails on bitsandbytes' "
            "INT8, in 5.24 too). To train it further, take the network without INT8."
        )
    yield (
        "Nothing was done, or measured, to make it safe: whatever the base model says that it shouldn't, this one may "
        "say too, or more. Nobody has looked at bias, toxicity or what it makes up."
    )
    yield "The base model's license and its terms of use hold for this network too."


def _differ(different: int, items: int) -> str:
    return f"{different} of the {items} items above are answered otherwise"


def _link(terms: License, base_model: str | None) -> str | None:
    """A license's link, which may be a file of the base model's."""
    if terms.link is None or urlsplit(terms.link).scheme or base_model is None:
        return terms.link
    return f"https://huggingface.co/{base_model}/blob/main/{terms.link.removeprefix('./')}"
