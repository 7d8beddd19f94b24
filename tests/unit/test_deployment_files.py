"""What Dockerfile, compose file and Kubernetes say of the same things."""

import importlib.metadata
import re
import tomllib
from functools import cache
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from shared.broker.topology import RIGHTS
from tests.support.data import ROOT
from tests.support.kubernetes import OVERLAYS, containers, of_kind, one, overlay, pods

DEPLOY = ROOT / "deploy"
MODEL_LIBRARIES = {"torch", "transformers", "accelerate", "bitsandbytes", "lm-eval", "vllm"}
SECRET = re.compile(r"PRIVATE KEY|amqps?://[^/@\s$<{]+:[^/@\s$<{]+@", re.IGNORECASE)


@cache
def compose(name: str = "compose.yml") -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())["services"]
    return services


@cache
def dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text()


def stages() -> set[str]:
    """Stages that are an image of ours, not only a part of others."""
    named = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile(), re.MULTILINE)
    return {stage for stage in named if stage != "service" and not stage.startswith("build")}


def of_ours() -> dict[str, Any]:
    """The compose file's services whose images are built here."""
    return {name: service for name, service in compose().items() if "build" in service}


def seconds(duration: str) -> int:
    """A duration as compose writes it, such as 16m."""
    ((number, unit),) = re.findall(r"^(\d+)([smh])$", duration)
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def drain_limits() -> set[int]:
    """NASFARM_DRAIN_LIMIT, wherever evaluators are given one."""
    evaluators = [one(overlay(name), "Deployment")["spec"]["template"]["spec"]["containers"][0] for name in OVERLAYS]
    variables = [variable for evaluator in evaluators for variable in evaluator["env"]]
    found = {int(variable["value"]) for variable in variables if variable["name"] == "NASFARM_DRAIN_LIMIT"}
    return found | {int(compose()["evaluator"]["environment"]["NASFARM_DRAIN_LIMIT"])}


def test_images_are_the_stages_of_the_dockerfile() -> None:
    profiles = [*of_ours().values(), *compose("compose.gpu.yml").values()]
    built = {service["build"]["target"] for service in profiles}
    assert built == stages() == {"coordinator", "evaluator", "evaluator-gpu"}
    for service in profiles:
        assert service["image"].endswith(f"-{service['build']['target']}")
    run = {
        container["image"].partition(":")[0]
        for name in OVERLAYS
        for _, pod in pods(overlay(name))
        for container in containers(pod)
    }
    assert run == {f"nasfarm-{stage}" for stage in stages()}


def test_images_run_as_the_user_whom_kubernetes_expects() -> None:
    (user,) = set(re.findall(r"^USER (\S+)$", dockerfile(), re.MULTILINE))
    for name in OVERLAYS:
        for _, pod in pods(overlay(name)):
            assert user == f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"


def test_everything_that_may_be_written_is_mounted() -> None:
    caches = set(re.findall(r"XDG_CACHE_HOME=(\S+)", dockerfile()))
    homes = set(re.findall(r"\bHOME=(\S+)", dockerfile()))
    for name in OVERLAYS:
        for _, pod in pods(overlay(name)):
            empty = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
            (container,) = pod["containers"]
            mounted = {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in empty}
            assert caches | homes | {"/tmp"} <= mounted


@pytest.mark.parametrize("name", sorted(compose()))
def test_every_service_of_the_compose_file_is_confined(name: str) -> None:
    service = compose()[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges"]
    assert service["user"] not in {"0", "root", ""}
    assert not service.get("privileged")


@pytest.mark.parametrize("name", sorted(compose()))
def test_every_service_that_lasts_has_a_health_check(name: str) -> None:
    service = compose()[name]
    if "build" not in service:
        assert service["healthcheck"]["test"][0] == "CMD"
    elif service["restart"] != "no":
        assert "healthcheck" not in service  # the image has one
        assert dockerfile().count("HEALTHCHECK") == dockerfile().count("/healthz") >= 1


def test_an_evaluation_has_the_same_time_to_be_finished_everywhere_and_its_container_has_more() -> None:
    (drain,) = drain_limits()
    assert seconds(compose()["evaluator"]["stop_grace_period"]) >= drain + 30


def test_ports_are_published_to_this_machine_only() -> None:
    published = [port for service in compose().values() for port in service.get("ports", [])]
    assert published and all(port.startswith("127.0.0.1:") for port in published)


def test_prometheus_finds_services_by_the_names_that_compose_gives_them() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    asked = {name for job in jobs for place in job.get("dns_sd_configs", []) for name in place["names"]}
    fixed = {
        target.partition(":")[0]
        for job in jobs
        for place in job.get("static_configs", [])
        for target in place["targets"]
    }
    assert asked | fixed <= compose().keys()


def test_one_release_of_rabbitmq_is_deployed() -> None:
    on_kubernetes = one(overlay("cpu"), "RabbitmqCluster")["spec"]["image"]
    assert f":-{on_kubernetes}}}" in compose()["rabbitmq"]["image"]


def test_the_coordinators_image_has_no_library_for_models() -> None:
    _, _, stage = dockerfile().partition(" AS build-coordinator\n")
    installed = re.findall(r"pip install .*", stage.partition("\nFROM ")[0])
    assert installed and not any(".[" in line for line in installed)  # no extra
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed, left = set[str](), [Requirement(line) for line in project["dependencies"]]
    while left:
        requirement = left.pop()
        name = requirement.name.lower().replace("_", "-")
        if name in needed or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        needed.add(name)
        left += [Requirement(line) for line in importlib.metadata.requires(name) or []]
    assert {"pika", "pydantic"} <= needed
    assert not needed & MODEL_LIBRARIES


def test_no_secret_lies_in_the_repository() -> None:
    assert ".farm/" in (ROOT / ".gitignore").read_text().split()
    for name in OVERLAYS:
        assert not of_kind(overlay(name), "Secret")
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and "generated" not in path.parts]
    for path in files:
        assert not SECRET.search(path.read_text(errors="replace")), path
        assert path.name not in RIGHTS or path.suffix, f"{path}: looks like credentials"


def test_services_of_the_compose_file_hold_their_own_users_password_only() -> None:
    held = {name: service.get("secrets", []) for name, service in of_ours().items()}
    assert held == {"trainer": [], "coordinator": ["coordinator"], "evaluator": ["evaluator"]}


def test_the_trainer_takes_the_number_of_processes_and_on_kubernetes_a_gpu_for_each() -> None:
    assert compose()["trainer"]["command"][-2:] == ["--processes", "${PROCESSES:-1}"]
    for name in OVERLAYS:
        (trainer,) = one(overlay(name), "Job", "trainer")["spec"]["template"]["spec"]["containers"]
        assert trainer["command"][-2:] == ["--processes", "$(PROCESSES)"]
        (processes,) = (variable["value"] for variable in trainer["env"] if variable["name"] == "PROCESSES")
        assert processes == trainer["resources"]["limits"].get("nvidia.com/gpu", "1")
    # NCCL's processes talk through shared memory, of which a container has little by itself.
    (trainer,) = one(overlay("gpu"), "Job", "trainer")["spec"]["template"]["spec"]["containers"]
    assert "/dev/shm" in [mount["mountPath"] for mount in trainer["volumeMounts"]]
    assert "shm_size" in compose("compose.gpu.yml")["trainer"]
