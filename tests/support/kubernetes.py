"""What Kustomize makes of deploy/kubernetes."""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.data import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu")

Manifest = dict[str, Any]


def rendered(directory: Path) -> list[Manifest]:
    """All objects of a kustomization."""
    kubectl = Path(sys.executable).parent / "kubectl"  # the pinned one; another one's Kustomize may be ten years old
    done = subprocess.run([kubectl, "kustomize", directory], check=False, capture_output=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr.decode()
    return list(yaml.safe_load_all(done.stdout))


@cache
def overlay(name: str) -> list[Manifest]:
    """All objects of an overlay, to be read only."""
    return rendered(KUBERNETES / "overlays" / name)


def of_kind(objects: list[Manifest], kind: str) -> list[Manifest]:
    """Those of a kind."""
    return [each for each in objects if each["kind"] == kind]


def one(objects: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The only one of a kind whose name begins so."""
    (found,) = (each for each in of_kind(objects, kind) if each["metadata"]["name"].startswith(name))
    return found


def pods(objects: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name and specification of the pods that are ours to specify."""
    for each in of_kind(objects, "Deployment") + of_kind(objects, "Job"):
        yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def containers(pod: Manifest) -> list[Manifest]:
    """All containers of a pod's specification, those included that only prepare it."""
    return [*pod.get("initContainers", []), *pod["containers"]]
