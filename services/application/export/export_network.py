"""From a network of a run, or one that was finished, to a directory that others load: written, verified, described, and
put in its place whole."""

import importlib.metadata
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from services.application.export.facts import base_name, card_facts
from services.application.export.place import Place
from services.application.export.push import push, require_pushable
from services.application.export.remeasurement import (
    Requantization,
    measured_again,
    remeasured_tasks,
    requantization,
)
from services.application.export.request import ExportRequest
from services.application.export.source import ExportSource
from services.application.export.verification.protocol import Verification, Verifier
from services.application.export.verification.verified_items import VerifiedItems, verified_items
from services.application.export.verification.verifiers import (
    LEAST_SECONDS,
    make_verifier,
    verification_bytes,
    verification_seconds,
)
from services.exporter.card.facts import CardFacts
from services.exporter.card.license import license_of
from services.exporter.card.model_card import write_card
from services.exporter.formats import make_format
from services.exporter.names import GgufType
from services.exporter.network import ExportedNetwork, Origin
from services.exporter.protocol import ExportFormat
from services.reporting.wording import size
from shared.architecture import Architecture
from shared.checkpoint_files import WEIGHTS, matching
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.machine_memory import host_memory
from shared.manifest import EXPORT
from shared.messages import Dtype
from shared.settings import SearchSettings
from shared.supernet.checkpoint import Checkpoint, writing_checkpoint

CARD_BYTES = 2**20
"""Room for what is written beside weights and tokenizer: a configuration, a modelling file, a card."""


def export_network(
    source: ExportSource,
    asked: ExportRequest,
    place: Place,
    environment: Environment,
    events: Events,
) -> Verification | None:
    """Write a network to its place; what verifying it showed, None if it wasn't verified.

    Raises UserError where the network can't be had, can't be held by the format, doesn't fit on the disk, can't be
    written, or isn't the same afterwards; nothing is left then. Where only the hub refuses it, it stays in its place.
    """
    if asked.push is not None:
        with events.step("Hub", note="asking"):
            require_pushable(asked.push, place.force)
    gguf_type = _gguf_type(asked, source.architecture, source.dtype)
    verifier = _verifier(asked, gguf_type, events)
    requantized = _requantized(asked, source.architecture, gguf_type)
    torch.set_num_threads(environment.threads)
    opened = source.opened(asked.supernet, environment, events)
    base = base_name(opened.manifest.base)
    terms = license_of(opened.directory, base)
    origin = Origin(source.title, base, None if terms is None else terms.identifier)
    writer = make_format(asked.format, gguf_type, origin)
    checkpoint = Checkpoint.open(opened.directory)
    network = ExportedNetwork(checkpoint, source.architecture)
    writer.require_possible(network)
    bytes_on_disk = writer.bytes(network)
    place.require_space(bytes_on_disk + _companion_bytes(opened.directory) + CARD_BYTES)
    verification = (
        None if verifier is None else _planned(verifier, asked, network, source.settings, environment, events)
    )
    remeasured = None
    if requantized is not None and asked.measure is not False:
        remeasured = remeasured_tasks(requantized, asked.measure, network, source.settings, environment, events)
    with place.written() as scratch:
        _write(writer, network, bytes_on_disk, scratch, place, events)
        found = None if verification is None else _verified(*verification, network, scratch, events)
        words = None if found is None else found.in_words()
        measured = None
        if requantized is not None and remeasured is not None:
            measured = measured_again(requantized, remeasured, network, source, events)
        facts = card_facts(
            source,
            network,
            opened,
            terms,
            asked.format,
            gguf_type,
            bytes_on_disk,
            requantized,
            measured,
            words,
            asked.push,
        )
        if measured is not None:
            sizes = f"{size(facts.bytes_on_disk)} on disk, {size(facts.bytes_in_memory)} in memory as it was searched"
            events.note("Measured", f"{measured.in_words()}; {sizes}")
        with writing_checkpoint(place.target):
            write_card(facts, scratch)
            record = _record(source, facts, asked, gguf_type, scratch)
            (scratch / EXPORT).write_text(record, encoding="utf-8")
    if asked.push is not None:
        with events.step("Hub", note="uploading"):
            pushed = push(place.target, asked.push, place.force)
        events.note("Hub", f"{pushed.url}, {'which only you see' if pushed.private else 'which everybody may see'}")
    return found


def _gguf_type(asked: ExportRequest, architecture: Architecture, dtype: Dtype) -> GgufType | None:
    """What is asked for, or else the type in which a network answers most as it did when it was measured."""
    if asked.format != "gguf":
        if asked.gguf_type is not None:
            raise UserError(
                f"--type {asked.gguf_type}: means nothing without --to gguf; give that too, or leave it out"
            )
        return None
    if asked.gguf_type is not None:
        return asked.gguf_type
    if architecture.quantization == "int8":
        return "q8_0"
    return "f32" if dtype == "float32" else "bf16"


def _companion_bytes(directory: Path) -> int:
    """Of all that may go along with the weights."""
    files = [file for file in directory.iterdir() if file.is_file()]
    weights = matching({file.name: "" for file in files}, WEIGHTS)
    return sum(file.stat().st_size for file in files if file.name not in weights)


def _verifier(asked: ExportRequest, gguf_type: GgufType | None, events: Events) -> Verifier | None:
    """None where none is asked for, or there is none and it isn't asked for either."""
    if asked.verify is False:
        return None
    try:
        return make_verifier(asked.format, gguf_type)
    except UserError as error:
        if asked.verify:
            raise UserError(f"--verify: {error}") from error
        events.note("Verification", f"none: {error}")
        return None


def _requantized(asked: ExportRequest, architecture: Architecture, gguf_type: GgufType | None) -> Requantization | None:
    """The quantisation of what is written, if no search measured it. Raises UserError where it is to be measured again
    and there is nothing to measure."""
    found = requantization(architecture, asked.format, gguf_type)
    if found is None and asked.measure:
        raise UserError(
            "--measure: the network isn't written in another quantisation than it was measured in; leave it out (it is "
            "for W8A8, which --to vllm writes of networks in INT8, and for Q8_0)"
        )
    return found


def _planned(
    verifier: Verifier,
    asked: ExportRequest,
    network: ExportedNetwork,
    settings: SearchSettings,
    environment: Environment,
    events: Events,
) -> tuple[Verifier, VerifiedItems] | None:
    """The verifier and what it compares on; None where it isn't asked for and takes long, or more memory than there is.

    Raises UserError where it is asked for and takes more memory than there is.
    """
    short = _short_of_memory(network)
    if short is not None:
        if asked.verify:
            raise UserError(f"--verify: {short}; leave it out, or verify where there is more")
        events.note("Verification", f"none: {short}")
        return None
    with events.step("Verification", note="reading report items"):
        items = verified_items(settings, network.checkpoint, environment)
        seconds = verification_seconds(network, verifier, items)
    if items.missing is not None:
        events.note("Verification", f"on a fixed text, as the report items can't be had: {items.missing}")
    if asked.verify is None and seconds >= LEAST_SECONDS:
        events.note("Verification", f"none, as it would take about {seconds / 60:.0f} minutes; --verify does it")
        return None
    return verifier, items


def _short_of_memory(network: ExportedNetwork) -> str | None:
    """Why there is not enough memory to verify a network, or None: who takes more than there is is killed."""
    memory, needed = host_memory(), verification_bytes(network)
    if memory is None or needed <= memory.free:
        return None
    return f"it takes {size(needed)} of memory, and {size(memory.free)} are free"


def _write(
    writer: ExportFormat, network: ExportedNetwork, total: int, scratch: Path, place: Place, events: Events
) -> None:
    done = 0
    with events.step("Writing", total, unit="bytes") as step, writing_checkpoint(place.target):

        def progressed(more: int) -> None:
            nonlocal done
            done += more
            step.reach(done)

        writer.write(network, scratch, progressed)


def _verified(
    verifier: Verifier, items: VerifiedItems, network: ExportedNetwork, scratch: Path, events: Events
) -> Verification:
    with events.step("Verification", verifier.steps(items)) as step:
        return verifier.verify(network, scratch, items, step.advance)


def _record(
    source: ExportSource,
    facts: CardFacts,
    asked: ExportRequest,
    gguf_type: GgufType | None,
    directory: Path,
) -> str:
    """What `export.json` holds, beside the files that lie in the directory."""
    content = {
        "version": 1,
        "network": source.network,
        "architecture": source.searched.model_dump(mode="json"),
        "run": source.run,
        "supernet": source.supernet,
        "finished": None if source.finished is None else asdict(source.finished),
        "format": asked.format,
        "type": gguf_type,
        "bytes_on_disk": facts.bytes_on_disk,
        "bytes_in_memory": facts.bytes_in_memory,
        "verified": facts.verified,
        "measured_again": _accuracies(facts) if facts.measured_again else None,
        "nasfarm": importlib.metadata.version("nasfarm"),
        "files": sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()),
    }
    return json.dumps(content, indent=2) + "\n"


def _accuracies(facts: CardFacts) -> dict[str, Any]:
    """What measuring the network again showed."""
    tasks = [
        {
            "task": task.title,
            "metric": task.metric,
            "items": task.items,
            "accuracy": task.accuracy,
            "interval": task.interval,
            "as_searched": task.before,
        }
        for task in facts.tasks
    ]
    otherwise = None if facts.otherwise is None else facts.otherwise[0]
    return {"quantization": facts.weights, "tasks": tasks, "items_answered_otherwise": otherwise}
