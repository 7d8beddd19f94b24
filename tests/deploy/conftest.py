"""What the tests of the deployment share: images, and why there may be none."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping

import pytest

from tests.deploy.images import PREFIX, STAND_INS, build, build_stand_in, make_base

PROGRAMS = ("podman", "podman-compose", "debootstrap", "runc")
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]
[engine]
runtime = "runc"
"""
"""So that podman also runs where it isn't on a machine of its own: in a container, without cgroups of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep out of `make test`: images take minutes and gigabytes."""
    if os.environ.get("NASFARM_TEST_DEPLOY") != "1":
        for item in items:
            if item.path.parent.name == "deploy":
                item.add_marker(pytest.mark.skip(reason="takes minutes and gigabytes: make test-deploy"))


def docker_answers() -> bool:
    """Whether there is Docker, with its daemon."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The variables by which `make deploy` finds its images; none where Docker pulls and builds them as for anybody."""
    if docker_answers():
        yield {}
        return
    missing = [program for program in PROGRAMS if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing or os.getuid():
        reason = f"{', '.join(missing)} missing" if missing else "podman and debootstrap need root here"
        if os.environ.get("CI") == "true":
            pytest.fail(f"no containers: Docker doesn't answer, {reason}", pytrace=False)
        pytest.skip(f"no containers: Docker doesn't answer, {reason}")
    directory = tmp_path_factory.mktemp("images")
    configuration = directory / "containers.conf"
    configuration.write_text(CONFIGURATION)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(configuration))
        make_base(directory)
        stand_ins = {f"{name.upper()}_IMAGE": build_stand_in(name, directory) for name in STAND_INS}
        for name in ("coordinator", "evaluator"):
            build(name, directory)
        yield {"NASFARM_IMAGES": PREFIX.removesuffix("-"), **stand_ins}
