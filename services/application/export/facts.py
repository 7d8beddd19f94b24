"""What a model card says of an exported network, gathered from its run, its super-network and its export."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.application.export.choice import ChosenNetwork
from services.application.export.remeasurement import Remeasurement, Requantization
from services.application.export.searched_run import SearchedRun
from services.exporter.card.facts import CardFacts, License, SearchFacts, TaskAccuracy
from services.exporter.names import FormatName, GgufType
from services.exporter.network import ExportedNetwork
from services.reporting.report_data import Comparison, TaskRow
from services.trainer.data import hub_dataset
from shared.architecture import Architecture
from shared.manifest import SupernetManifest
from shared.messages import Dtype
from shared.network.sizes import parameters, weight_bytes
from shared.space import SearchSpace
from shared.text import printable

SNAPSHOT = re.compile(r"/models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/[^/]+/?$")
"""A directory of the hub's cache: models--OWNER--NAME/snapshots/COMMIT."""


def title_of(run: SearchedRun, chosen: ChosenNetwork) -> str:
    """What an exported network is called: `smollm2-arc-easy-N5`."""
    return printable(f"{run.name}-{chosen.name.replace(' ', '-')}")


def card_facts(
    run: SearchedRun,
    chosen: ChosenNetwork,
    network: ExportedNetwork,
    manifest: SupernetManifest,
    license_of_base: License | None,
    written: FormatName,
    gguf_type: GgufType | None,
    bytes_on_disk: int,
    requantized: Requantization | None,
    measured: Remeasurement | None,
    verified: str | None,
    repository: str | None,
) -> CardFacts:
    """All of it; accuracies where the run's report has them, or the network was measured again as it is written."""
    whole, shape, architecture = network.checkpoint.network, network.shape, network.architecture
    dtype, dataset = run.plan.dtype, hub_dataset(manifest.training.data, manifest.data["origin"])
    stored: Dtype = "float32" if str(network.checkpoint.config.dtype) == "torch.float32" else "bfloat16"
    return CardFacts(
        name=title_of(run, chosen),
        base_model=base_name(manifest.base),
        base_license=license_of_base,
        family=shape.family,
        datasets=() if dataset is None else (dataset,),
        fine_tuning_steps=manifest.training.steps,
        tasks=tuple(_tasks(run, chosen, measured)),
        search=_search(run, chosen),
        parameters=parameters(shape),
        base_parameters=parameters(whole),
        bytes_in_memory=weight_bytes(shape, dtype, architecture.quantization),
        base_bytes_in_memory=weight_bytes(whole, dtype, "none"),
        bytes_on_disk=bytes_on_disk,
        quantization=architecture.quantization,
        dtype=dtype,
        weights=requantized.name if requantized else _weights(architecture, stored, gguf_type),
        measured_as_written=measured is not None or _measured_as_written(architecture, requantized, dtype, gguf_type),
        measured_again=measured is not None,
        otherwise=None if measured is None or measured.otherwise is None else (measured.otherwise, measured.items),
        kept=architecture.layers,
        mlp_widths=architecture.mlp_widths,
        base_mlp_widths=whole.mlp_widths,
        without_attention=architecture.without_attention,
        format=written,
        verified=verified,
        repository=repository,
    )


def base_name(base: str) -> str:
    """The base's id at the hub, or its directory's name; of a snapshot in the hub's cache the id."""
    snapshot = SNAPSHOT.search(base)
    if snapshot is not None:
        return f"{snapshot['owner']}/{snapshot['name']}"
    return printable(Path(base).name) if Path(base).is_absolute() else base


def _tasks(run: SearchedRun, chosen: ChosenNetwork, measured: Remeasurement | None) -> Iterator[TaskAccuracy]:
    content = run.content
    found = {} if chosen.row is None else chosen.row.by_task
    dense, base = ({}, {}) if content is None else (content.dense.by_task, content.base.by_task)
    for task in run.plan.settings.tasks:
        row = (found if measured is None else measured.by_task).get(task.name)
        if row is not None:
            yield TaskAccuracy(
                task=task.name,
                metric=task.metric,
                accuracy=row.accuracy,
                interval=row.interval,
                items=task.report.items,
                examples=task.num_fewshot,
                dense=_accuracy(dense.get(task.name)),
                base=_accuracy(base.get(task.name)),
                against_dense=_interval(row.versus_dense),
                against_base=_interval(row.versus_base),
                before=None if measured is None else measured.before.get(task.name),
            )


def _accuracy(row: TaskRow | None) -> float | None:
    return None if row is None else row.accuracy


def _interval(comparison: Comparison | None) -> tuple[float, float] | None:
    return None if comparison is None else comparison.interval


def _search(run: SearchedRun, chosen: ChosenNetwork) -> SearchFacts | None:
    """None for a network that isn't on the front, in INT8 or not."""
    content = run.content
    if content is None or chosen.row is None:
        return None
    quantized = {row.architecture.quantized("none") for row in content.front}
    if chosen.row.name == content.dense.name or chosen.architecture.quantized("none") not in quantized:
        return None
    return SearchFacts(run.plan.settings.search.strategy, len(content.evaluated), _space(run.plan.space))


def _space(space: SearchSpace) -> str:
    """`28 to 30 layers, each MLP 768, 1152 or 1536 wide`."""
    depths = sorted(space.depths)
    gapless = len(depths) > 2 and depths == list(range(depths[0], depths[-1] + 1))
    layers = f"{depths[0]} to {depths[-1]}" if gapless else _or(depths)
    attention = ", with or without attention" if len(space.attentions) > 1 else ""
    held = ", in INT8 or not" if len(space.quantizations) > 1 else ""
    return f"{layers} layers, each MLP {_or(sorted(space.mlp_widths))} wide{attention}{held}"


def _or(numbers: Sequence[int]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} or {last}" if most else last


def _weights(architecture: Architecture, stored: Dtype, gguf_type: GgufType | None) -> str:
    if gguf_type is not None:
        return gguf_type.upper()
    return "INT8 (LLM.int8())" if architecture.quantization == "int8" else stored


def _measured_as_written(
    architecture: Architecture, requantized: Requantization | None, dtype: Dtype, gguf_type: GgufType | None
) -> bool:
    """What is written as it is stored becomes in `dtype` what was measured; LLM.int8() is quantised in the same way."""
    if requantized is not None or (architecture.quantization == "int8" and gguf_type is not None):
        return False
    return gguf_type in (None, "f32") or (gguf_type == "bf16" and dtype == "bfloat16")
