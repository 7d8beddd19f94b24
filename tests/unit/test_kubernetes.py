"""The farm on Kubernetes: what can be said about it without a cluster."""

import copy
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from shared.broker.topology import VHOST, server_configuration
from shared.environment import Environment
from shared.settings import parse_settings, read_search_file
from tests.support.custom_resources import CUSTOM_RESOURCE
from tests.support.data import ROOT
from tests.support.kubernetes import KUBERNETES, OVERLAYS, Manifest, containers, of_kind, one, overlay, pods, rendered
from tests.support.shipped import SHIPPED, run_name

CUSTOM = {"ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule", "RabbitmqCluster"}
SECRETS = {
    "broker-definitions": "definitions.json",
    "broker-coordinator": "credentials",
    "broker-evaluator": "credentials",
    "broker-operator": "credentials",
    "broker-monitoring": "management",
}

each_overlay = pytest.mark.parametrize("name", OVERLAYS)


def validate(manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def values(tree: Any, key: str) -> list[Any]:
    """What stands under a key, wherever that occurs."""
    if isinstance(tree, list):
        return [found for each in tree for found in values(each, key)]
    if isinstance(tree, dict):
        here = [tree[key]] if key in tree else []
        return here + [found for each in tree.values() for found in values(each, key)]
    return []


@each_overlay
def test_kubernetes_knows_every_field_of_every_object(name: str) -> None:
    for manifest in overlay(name):
        if manifest["kind"] in CUSTOM:
            CUSTOM_RESOURCE.validate_python(manifest)
        else:
            validate(manifest)
    broker = one(overlay(name), "RabbitmqCluster")["spec"]["override"]["statefulSet"]["spec"]["template"]["spec"]
    pod = copy.deepcopy(broker)
    pod["containers"][0]["image"] = "the operator's"
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "rabbitmq"}, "spec": pod})


def test_the_check_finds_a_field_that_is_misspelt() -> None:
    job = copy.deepcopy(one(overlay("cpu"), "Job", "coordinator"))
    job["spec"]["template"]["spec"]["restartpolicy"] = "Never"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartpolicy"):
        validate(job)
    scaled = copy.deepcopy(one(overlay("cpu"), "ScaledObject"))
    scaled["spec"]["cooldownperiod"] = 1
    with pytest.raises(ValidationError, match="cooldownperiod"):
        CUSTOM_RESOURCE.validate_python(scaled)


@each_overlay
def test_every_container_is_confined(name: str) -> None:
    for _, pod in pods(overlay(name)):
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


@each_overlay
def test_what_is_mounted_is_there(name: str) -> None:
    objects = overlay(name)
    claims = {each["metadata"]["name"] for each in of_kind(objects, "PersistentVolumeClaim")}
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap")}
    for _, pod in pods(objects):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounted = {mount["name"] for container in containers(pod) for mount in container["volumeMounts"]}
        assert mounted == volumes.keys()
        assert set(values(pod, "claimName")) <= claims
        assert set(values(pod, "secretName")) <= SECRETS.keys()
        assert {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume} <= maps.keys()
        for reference in values(pod, "configMapKeyRef"):
            assert reference["key"] in maps[reference["name"]]


@each_overlay
def test_super_networks_are_written_by_the_trainer_alone(name: str) -> None:
    for owner, pod in pods(overlay(name)):
        mounts = [mount for each in containers(pod) for mount in each["volumeMounts"] if mount["name"] == "weights"]
        assert mounts
        assert all(mount.get("readOnly", False) != owner.startswith("trainer") for mount in mounts)


@each_overlay
def test_nobody_but_the_container_that_adds_queues_holds_the_operators_password(name: str) -> None:
    holders = {
        (volume["secret"]["secretName"], container["name"])
        for _, pod in pods(overlay(name))
        for volume in pod["volumes"]
        for container in containers(pod)
        for mount in container["volumeMounts"]
        if "secret" in volume and mount["name"] == volume["name"]
    }
    assert holders == {
        ("broker-operator", "queues"),
        ("broker-coordinator", "coordinator"),
        ("broker-evaluator", "evaluator"),
    }


@each_overlay
def test_an_evaluation_may_be_finished_before_its_pod_is_killed(name: str) -> None:
    pod = one(overlay(name), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    drain = {variable["name"]: variable.get("value") for variable in container["env"]}["NASFARM_DRAIN_LIMIT"]
    assert pod["terminationGracePeriodSeconds"] >= int(drain) + 30


@each_overlay
def test_services_are_probed_and_scraped_where_they_serve(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NASFARM_TELEMETRY_PORT", raising=False)
    objects = overlay(name)
    evaluator = one(objects, "Deployment")["spec"]["template"]
    coordinator = one(objects, "Job", "coordinator")["spec"]["template"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= evaluator["spec"]["containers"][0].keys()
    monitored = one(objects, "PodMonitor", "services")["spec"]
    (selected,) = monitored["selector"]["matchExpressions"]
    for template, job in ((evaluator, "evaluator"), (coordinator, "coordinator")):
        (container,) = template["spec"]["containers"]
        (port,) = container["ports"]
        assert port["containerPort"] == Environment.read().telemetry_port
        assert {probe["path"] for probe in values(container, "httpGet")} <= {"/healthz", "/readyz"}
        assert {probe["port"] for probe in values(container, "httpGet")} == {port["name"]}
        assert [endpoint["port"] for endpoint in monitored["podMetricsEndpoints"]] == [port["name"]]
        assert template["metadata"]["labels"][selected["key"]] == job and job in selected["values"]
        assert monitored["jobLabel"] == selected["key"]


def test_rabbitmq_is_scraped_as_prometheus_does_elsewhere() -> None:
    (endpoint,) = one(overlay("cpu"), "PodMonitor", "rabbitmq")["spec"]["podMetricsEndpoints"]
    jobs = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    elsewhere = {job["job_name"]: job for job in jobs}["rabbitmq"]
    assert (endpoint["path"], endpoint["params"]) == (elsewhere["metrics_path"], elsewhere["params"])


@each_overlay
def test_the_alerts_are_the_tested_ones(name: str) -> None:
    tested = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
    assert one(overlay(name), "PrometheusRule")["spec"] == tested


def test_the_dashboards_are_all_there() -> None:
    dashboards = ROOT / "deploy" / "grafana" / "dashboards"
    shown = one(overlay("cpu"), "ConfigMap", "nasfarm-dashboards")["data"]
    assert shown == {path.name: path.read_text() for path in dashboards.iterdir()}


def test_the_brokers_configuration_is_the_generated_one() -> None:
    spec = one(overlay("cpu"), "RabbitmqCluster")["spec"]
    pod = spec["override"]["statefulSet"]["spec"]["template"]["spec"]
    (mount,) = pod["containers"][0]["volumeMounts"]
    generated = server_configuration(f"{mount['mountPath']}/{SECRETS['broker-definitions']}", "5672").splitlines()
    listening = [line for line in generated if line.startswith("listeners.")]  # the operator's to say
    ours = spec["rabbitmq"]["additionalConfig"].splitlines()
    assert ours[: len(generated) - len(listening)] == [line for line in generated if line not in listening]
    assert all(line.startswith("quorum_queue.") for line in ours[len(generated) - len(listening) :])
    assert spec["image"].startswith("docker.io/library/rabbitmq:4.")


@each_overlay
def test_evaluators_are_counted_by_what_waits_and_what_is_in_work(name: str) -> None:
    objects = overlay(name)
    scaled = one(objects, "ScaledObject")["spec"]
    (trigger,) = scaled["triggers"]
    assert scaled["scaleTargetRef"]["name"] == one(objects, "Deployment")["metadata"]["name"]
    assert "replicas" not in one(objects, "Deployment")["spec"]
    assert trigger["metadata"]["protocol"] == "http"  # over AMQP only what waits could be counted
    authentication = one(objects, "TriggerAuthentication")
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    (target,) = authentication["spec"]["secretTargetRef"]
    assert SECRETS[target["name"]] == target["key"]


@each_overlay
def test_a_searchs_name_is_the_same_wherever_it_stands(name: str) -> None:
    objects = overlay(name)
    search = one(objects, "ConfigMap", "search")
    settings = parse_settings(yaml.safe_load(search["data"]["search.yaml"]), "search.yaml")
    assert search["data"]["name"] == settings.name
    named = [*of_kind(objects, "Job"), search]
    assert len(named) == 3 and all(each["metadata"]["name"].endswith(f"-{settings.name}") for each in named)
    labelled = [each["spec"]["template"] for each in of_kind(objects, "Job")]
    assert {template["metadata"]["labels"]["nasfarm/search"] for template in labelled} == {settings.name}
    (shipped,) = (read_search_file(path) for path in SHIPPED if run_name(path) == settings.name)
    assert settings.model_copy(update={"supernet": None}) == shipped


@each_overlay
def test_a_super_network_lies_at_the_same_place_for_all_who_need_it(name: str) -> None:
    objects = overlay(name)
    search, supernet = (one(objects, "ConfigMap", which)["data"] for which in ("search", "supernet"))
    settings = parse_settings(yaml.safe_load(search["search.yaml"]), "search.yaml")
    assert settings.supernet == search["supernet"] == supernet["directory"]
    claimed = [
        mount["mountPath"]
        for _, pod in pods(objects)
        for container in containers(pod)
        for mount in container["volumeMounts"]
        if mount["name"] == "weights"
    ]
    assert set(claimed) == {str(Path(settings.supernet).parent)}
    evaluator = one(objects, "Deployment")
    suffix = Path(settings.supernet).name
    assert evaluator["metadata"]["name"] == f"evaluator-{suffix}"
    assert evaluator["spec"]["template"]["metadata"]["labels"]["nasfarm/supernet"] == suffix
    assert one(objects, "ScaledObject")["metadata"]["name"] == f"evaluator-{suffix}"


def test_a_second_search_shares_the_farm_and_of_a_super_network_the_evaluators() -> None:
    farm, supernet, other, first, second = (
        rendered(KUBERNETES / path)
        for path in (
            "base",
            "overlays/cpu/supernet",
            "overlays/gpu/supernet",
            "overlays/cpu/search",
            "overlays/gpu/search",
        )
    )

    def names(objects: list[Manifest]) -> set[tuple[str, str]]:
        return {(each["kind"], each["metadata"]["name"]) for each in objects}

    together = [names(each) for each in (farm, supernet, other, first, second)]
    assert sum(map(len, together)) == len(set().union(*together))
    assert {kind for kind, _ in names(first)} == {"ConfigMap", "PersistentVolumeClaim", "Job"}
    assert {kind for kind, _ in names(supernet)} == {"ConfigMap", "Deployment", "PodDisruptionBudget", "ScaledObject"}
    selectors = [one(objects, "Deployment")["spec"]["selector"]["matchLabels"] for objects in (supernet, other)]
    assert not selectors[0].items() <= selectors[1].items()
    shared = {claim for objects in (first, second, supernet) for claim in values(objects, "claimName")}
    assert ("PersistentVolumeClaim", "weights") in names(farm) and "weights" in shared


def test_each_evaluator_on_gpus_claims_one_and_has_shared_memory() -> None:
    for _, pod in pods([one(overlay("gpu"), "Deployment"), one(overlay("gpu"), "Job", "trainer")]):
        (container,) = pod["containers"]
        assert container["image"].startswith("nasfarm-evaluator-gpu")
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    pod = one(overlay("gpu"), "Deployment")["spec"]["template"]["spec"]
    assert {"name": "shm", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]
    assert not values(overlay("cpu"), "nvidia.com/gpu")


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of deploy/kubernetes with secrets generated in it."""
    root = tmp_path_factory.mktemp("repository")
    for directory in ("secrets", "namespace"):
        target = root / "deploy" / "kubernetes" / directory
        target.mkdir(parents=True)
        for path in (KUBERNETES / directory).iterdir():
            if path.is_file():
                (target / path.name).write_bytes(path.read_bytes())
    script = root / "deploy" / "kubernetes" / "secrets" / "generate.sh"
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    subprocess.run(["sh", script], check=True, env=environment, timeout=60)
    return script.parent


def test_secrets_are_generated_where_git_and_others_don_t_look(secrets: Path) -> None:
    assert (secrets / ".gitignore").read_text() == "generated/\n"
    passwords = [*(secrets / "generated" / "credentials").iterdir(), secrets / "generated" / "management"]
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in [*passwords, secrets / "generated"])
    made = {each["metadata"]["name"]: list(each["data"]) for each in rendered(secrets) if each["kind"] == "Secret"}
    assert made == {name: [key] for name, key in SECRETS.items()}
    for manifest in rendered(secrets):
        validate(manifest)


def test_keda_asks_as_the_user_who_may_only_look(secrets: Path) -> None:
    credentials = (secrets / "generated" / "credentials" / "monitoring").read_text().strip()
    broker = one(overlay("cpu"), "RabbitmqCluster")["metadata"]
    place = f"{broker['name']}.{broker['namespace']}.svc:15672/{VHOST}"
    assert (secrets / "generated" / "management").read_text() == f"http://{credentials}@{place}"
    users = json.loads((secrets / "generated" / "definitions.json").read_text())["users"]
    assert {user["name"]: user["tags"] for user in users}["monitoring"] == ["monitoring"]


def test_services_find_the_broker() -> None:
    broker = one(overlay("cpu"), "RabbitmqCluster")["metadata"]
    said = {
        word
        for _, pod in pods(overlay("cpu"))
        for container in containers(pod)
        for word in [*container.get("command", []), *container.get("args", [])]
        if word.startswith("amqp")
    }
    assert said == {f"amqp://{broker['name']}.{broker['namespace']}.svc/{VHOST}"}


def test_every_file_is_used_by_some_kustomization() -> None:
    used: set[Path] = set()
    for path in KUBERNETES.rglob("kustomization.yaml"):
        content = yaml.safe_load(path.read_text())
        listed = [*content.get("resources", []), *content.get("configurations", [])]
        listed += [patch["path"] for patch in content.get("patches", [])]
        listed += [file for generator in content.get("configMapGenerator", []) for file in generator.get("files", [])]
        used |= {path, *(path.parent / name for name in listed)}
    files = {path for path in KUBERNETES.rglob("*.yaml") if "generated" not in path.parts}
    assert files <= used
