"""Images without a registry: a base image made by debootstrap, the farm's own on top of it, and stand-ins from Debian.

Nothing here knows where packages come from: apt's and pip's own settings on this machine say so.
"""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.data import ROOT

BASE = "localhost/nasfarm-test-base:bookworm"
PREFIX = "localhost/nasfarm-test-"
RELEASE = "bookworm"  # whose Python is 3.11
CERTIFICATES = Path("/etc/ssl/certs")

STAND_INS = {
    "rabbitmq": """
        FROM {base}
        RUN apt-get update && apt-get install --yes --no-install-recommends rabbitmq-server \\
            && rm -rf /var/lib/apt/lists/*
        ENV PATH=/usr/lib/rabbitmq/bin:$PATH HOME=/var/lib/rabbitmq
        USER rabbitmq
        """,
    "prometheus": """
        FROM {base}
        RUN apt-get update && apt-get install --yes --no-install-recommends prometheus wget \\
            && rm -rf /var/lib/apt/lists/*
        USER nobody
        ENTRYPOINT ["/usr/bin/prometheus"]
        """,
    "grafana": """
        FROM {base}
        USER nobody
        WORKDIR /etc/grafana
        STOPSIGNAL SIGINT
        ENTRYPOINT ["python3", "-m", "http.server", "3000"]
        """,
}
"""In the place of the images that the compose file names: Debian's packages. There is none of Grafana: that one only
hands out the files that Grafana would be given."""


def run(*command: object, environment: Mapping[str, str] | None = None, **options: object) -> str:
    """Run a command to its end and hand back what it printed; its errors are the exception's."""
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **(environment or {})},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout[-6000:]}")
    output: str = done.stdout
    return output


def exists(image: str) -> bool:
    """Whether an image is there already."""
    return subprocess.run(["podman", "image", "exists", image], check=False).returncode == 0


def make_base(directory: Path) -> None:
    """Import a minimal Debian with Python, and certificates as this machine has them, under the name `BASE`."""
    if exists(BASE):
        return
    root = directory / "root"
    packages = "--include=ca-certificates,python3,python3-venv"
    run("debootstrap", "--variant=minbase", packages, RELEASE, root)
    archive = directory / "root.tar"
    run("tar", "--directory", root, "--create", "--file", archive, ".")
    shutil.rmtree(root)
    run("podman", "import", archive, BASE)
    archive.unlink()


def build(name: str, directory: Path) -> str:
    """Build a stage of the farm's Dockerfile; its image."""
    configuration, folders = pip_settings()
    (directory / "pip.conf").write_text(configuration)
    mounts = {
        CERTIFICATES: CERTIFICATES,
        directory / "pip.conf": Path("/etc/pip.conf"),
        **{each: each for each in folders},
    }
    image = f"{PREFIX}{name}:latest"
    run(
        *("podman", "build", "--format", "docker", "--network", "host", "--build-arg", f"BASE={BASE}"),
        *(word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}:ro")),
        *("--file", ROOT / "deploy" / "Dockerfile", "--target", name, "--tag", image, ROOT),
    )
    return image


def build_stand_in(name: str, directory: Path) -> str:
    """Build an image that does what the one of this name would; its image."""
    file = directory / f"{name}.Dockerfile"
    file.write_text("\n".join(line.strip() for line in STAND_INS[name].format(base=BASE).splitlines()))
    image = f"{PREFIX}{name}:latest"
    mounts = ("--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro")
    run(
        "podman", "build", "--format", "docker", "--network", "host", *mounts, "--file", file, "--tag", image, directory
    )
    return image


def pip_settings() -> tuple[str, list[Path]]:
    """What pip is told on this machine, as one pip.conf, and the local files and folders that it names."""
    settings: dict[str, str] = {}
    for line in run(sys.executable, "-m", "pip", "config", "list").splitlines():
        key, _, value = line.partition("=")  # by rising precedence: files, then the environment
        section, _, option = key.rpartition(".")
        if section in {"global", "install", ":env:"} and option not in {"cert", "cache-dir", "no-cache-dir"}:
            settings[option] = str(ast.literal_eval(value))
    words = {word.removeprefix("file://") for value in settings.values() for word in value.split()}
    named = {Path(word) for word in words if word.startswith("/") and Path(word).exists()}
    # The index's folder may link to files beside it.
    folders = sorted({path.parent if path.name == "simple" else path for path in named})
    lines = ["[global]", f"cert = {CERTIFICATES / 'ca-certificates.crt'}"]
    return "\n".join([*lines, *(f"{key} = {value}" for key, value in settings.items())]) + "\n", folders
