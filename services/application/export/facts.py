"""What a model card says of an exported network, gathered from where it comes from and its export."""

import re
from collections.abc import Iterator
from pathlib import Path

from services.application.export.remeasurement import Remeasurement, Requantization
from services.application.export.source import ExportSource, OpenedSource
from services.exporter.card.facts import CardFacts, License, TaskAccuracy
from services.exporter.names import FormatName, GgufType
from services.exporter.network import ExportedNetwork
from services.reporting.report_data import Comparison, TaskRow
from services.trainer.data import hub_dataset
from shared.architecture import Architecture
from shared.messages import Dtype
from shared.network.sizes import parameters, weight_bytes
from shared.text import printable

SNAPSHOT = re.compile(r"/models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/[^/]+/?$")
"""A directory of the hub's cache: models--OWNER--NAME/snapshots/COMMIT."""


def card_facts(
    source: ExportSource,
    network: ExportedNetwork,
    opened: OpenedSource,
    license_of_base: License | None,
    written: FormatName,
    gguf_type: GgufType | None,
    bytes_on_disk: int,
    requantized: Requantization | None,
    measured: Remeasurement | None,
    verified: str | None,
    repository: str | None,
) -> CardFacts:
    """All of it; accuracies where they are known, or the network was measured again as it is written."""
    whole, shape, architecture, dtype = source.whole, network.shape, network.architecture, source.dtype
    datasets = dict.fromkeys(hub_dataset(*data) for data in opened.data)
    stored: Dtype = "float32" if str(network.checkpoint.config.dtype) == "torch.float32" else "bfloat16"
    return CardFacts(
        name=source.title,
        base_model=base_name(opened.manifest.base),
        base_license=license_of_base,
        family=shape.family,
        datasets=tuple(dataset for dataset in datasets if dataset is not None),
        fine_tuning_steps=opened.manifest.training.steps,
        tasks=tuple(_tasks(source, measured)),
        search=source.search,
        finished=source.finished,
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
        kept=source.searched.layers,
        mlp_widths=source.searched.mlp_widths,
        base_mlp_widths=whole.mlp_widths,
        without_attention=source.searched.without_attention,
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


def _tasks(source: ExportSource, measured: Remeasurement | None) -> Iterator[TaskAccuracy]:
    for task in source.settings.tasks:
        row = (source.rows if measured is None else measured.by_task).get(task.name)
        if row is not None:
            yield TaskAccuracy(
                task=task.name,
                metric=task.metric,
                accuracy=row.accuracy,
                interval=row.interval,
                items=task.report.items,
                examples=task.num_fewshot,
                dense=_accuracy(source.dense.get(task.name)),
                base=_accuracy(source.base.get(task.name)),
                against_dense=_interval(row.versus_dense),
                against_base=_interval(row.versus_base),
                before=None if measured is None else measured.before.get(task.name),
            )


def _accuracy(row: TaskRow | None) -> float | None:
    return None if row is None else row.accuracy


def _interval(comparison: Comparison | None) -> tuple[float, float] | None:
    return None if comparison is None else comparison.interval


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
