"""The versions that the files pin, and what deploy/README.md says of them."""

import re
import subprocess
import sys
import tomllib
from datetime import date
from functools import cache
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.data import ROOT

DEPLOY = ROOT / "deploy"
IMAGE = re.compile(r"docker\.io/(?:library/)?([\w./-]+):([\w.-]+)")


@cache
def section() -> str:
    """What deploy/README.md says under "Versions"."""
    _, _, found = (DEPLOY / "README.md").read_text().partition("\n## Versions\n")
    return found.partition("\n## ")[0]


@cache
def listed(kind: str) -> dict[str, str]:
    """The versions in that table of the section whose first column has this head; for packages also those that the text
    names as `name==version`."""
    lines = section().splitlines()
    rows = lines[next(number for number, line in enumerate(lines) if line.startswith(f"| {kind} |")) + 2 :]
    found = dict(re.findall(r"`([\w-]+)==([\w.!]+)`", section())) if kind == "package" else {}
    for row in rows:
        if not row.startswith("|"):
            break
        name, version, *others = (cell.strip() for cell in row.strip("|").split("|"))
        assert len(others) == 3 and all(others), f"{name}: something isn't said"
        assert name not in found, f"{name} is listed twice"
        found[name] = version
    return found


@cache
def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines if line[0] != "#"}


def images() -> set[tuple[str, str]]:
    """Every image that a file of the deployment takes from a registry, and its tag."""
    files = [DEPLOY / "Dockerfile", *DEPLOY.glob("*.yml"), *(DEPLOY / "kubernetes").rglob("*.yaml")]
    return {(name, tag) for file in files for name, tag in IMAGE.findall(file.read_text())}


def variables(file: Path, assigned: str) -> dict[str, set[str]]:
    """The values that a Makefile's or Dockerfile's variables are given, by name."""
    found: dict[str, set[str]] = {}
    for name, value in re.findall(rf"^{assigned}([^#\n]*)", file.read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(value.strip())
    return found


def test_every_image_that_is_deployed_is_listed_with_the_tag_that_the_files_have() -> None:
    assert len(images()) >= 5
    assert sorted(images()) == sorted(listed("image").items())


def test_every_package_that_is_listed_has_the_version_that_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [Requirement(line) for extra in project["optional-dependencies"].values() for line in extra]
    exact = {each.name: version for each in extras if (version := str(each.specifier)).startswith("==")}
    pinned = {**{name: version.removeprefix("==") for name, version in exact.items()}, **constraints()}
    assert listed("package") == {name: pinned[canonicalize_name(name)] for name in listed("package")}


def test_what_the_coordinator_and_the_models_ask_for_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    asked = [*project["dependencies"], *optional["models"], *optional["cloud"], *optional["vllm"]]
    names = {canonicalize_name(Requirement(line).name) for line in asked} - {"nasfarm"}
    assert names - {canonicalize_name(name) for name in listed("package")} == set()


def test_the_list_says_of_which_day_it_is() -> None:
    (day,) = re.findall(r"^As of (\d{4}-\d\d-\d\d)", section(), re.MULTILINE)
    assert date(2026, 11, 1) < date.fromisoformat(day)


def test_makefile_and_dockerfile_install_the_same() -> None:
    make = variables(ROOT / "Makefile", r"(TORCH|VLLM|SETUPTOOLS|SOURCE_ONLY|UNUSED) := ")
    docker = variables(DEPLOY / "Dockerfile", r"ARG (TORCH|SETUPTOOLS|SOURCE_ONLY|UNUSED)=")
    assert make.keys() - docker.keys() == {"VLLM"}
    assert {name: {value.removesuffix("+cpu") for value in values} for name, values in docker.items()} == {
        name: make[name] for name in docker
    }
    assert make["TORCH"] == {constraints()["torch"]} and make["SETUPTOOLS"] == {constraints()["setuptools"]}
    assert {f"v{version}" for version in make["VLLM"]} == {tag for name, tag in images() if name == "vllm/vllm-openai"}


def test_the_unpickler_that_is_removed_after_the_installation_is_never_imported(tmp_path: Path) -> None:
    assert variables(ROOT / "Makefile", "(UNUSED) := ") == {"UNUSED": {"sqlitedict"}}
    program = f"""
import sys
from pathlib import Path

class Refused:
    @staticmethod
    def find_spec(name, path=None, target=None):
        assert name != 'sqlitedict', 'imported'

sys.meta_path.insert(0, Refused)

import services.cli.main
from services.evaluator.evaluator import Evaluator
from shared.architecture import Architecture
from shared.environment import Environment
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationSpec, Measurement, TaskItems
from tests.support.checkpoints import WIDTH, write_checkpoint
from tests.support.content import digest_of

directory = Path({str(tmp_path / "model")!r})
write_checkpoint(directory, 'llama')
result = Evaluator(Environment(data=None, cache=directory.parent / 'cache', threads=1)).evaluate(
    EvaluationRequest(
        search='test',
        checkpoint=CheckpointRef(location=str(directory), digest=digest_of(directory)),
        architecture=Architecture(layers=(0, 2), mlp_widths=(WIDTH, WIDTH)),
        spec=EvaluationSpec(tasks=(TaskItems(task='plain_facts', split='test', stop=4),), dtype='float32'),
    )
)
assert isinstance(result.outcome, Measurement), result.outcome

from lm_eval.api.model import CachingLM
try:
    CachingLM(None, str(directory.parent / 'cache.db'))
except AssertionError as error:
    print(error, 'where lm-eval opens a cache of answers')
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "imported where lm-eval opens a cache of answers"
