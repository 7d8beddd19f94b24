"""A super-network in S3 and evaluators that start together, as processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.s3 import BUCKET, S3, running_s3
from tests.support.supernets import write_supernet

REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECONDS = 60
WEIGHTS = "model.safetensors"

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with running_s3() as s3:
        yield s3


@pytest.fixture
def s3(server: S3) -> Iterator[S3]:
    server.gets.clear()
    server.released.clear()
    yield server
    server.released.set()
    server.hanging.clear()


@pytest.fixture
def start(s3: S3, tmp_path: Path) -> Iterator[Start]:
    """Starts processes that fetch into one cache; what they say is written to a file, of which none outlives the
    test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        location, *digest = arguments
        kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        with (tmp_path / f"output-{len(started)}").open("w") as output:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.support.fetching", location, tmp_path / "cache", *digest],
                    cwd=REPOSITORY,
                    env={**kept, "HOME": str(tmp_path), **s3.environment, **environment},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def said(directory: Path) -> str:
    return "".join(path.read_text() for path in sorted(directory.glob("output-*")))


def wait_for(condition: Callable[[], bool], directory: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, said(directory)
        time.sleep(0.05)


def test_however_many_processes_start_together_one_fetches_and_the_others_wait(
    s3: S3, start: Start, tmp_path: Path
) -> None:
    digest = write_supernet(tmp_path / "there", weight_bytes=2_000_000)
    url = s3.put(tmp_path / "there", "together")
    s3.hanging = {WEIGHTS}
    processes = [start(url) for _ in range(4)]
    wait_for(lambda: said(tmp_path).count("waiting for the process that fetches it") == 3, tmp_path)
    wait_for(lambda: s3.gets[WEIGHTS] == 1, tmp_path)
    assert not (tmp_path / "cache" / "checkpoints" / digest).exists()  # not before it is whole
    s3.released.set()
    assert [process.wait(PATIENCE_SECONDS) for process in processes] == [0] * 4, said(tmp_path)

    assert said(tmp_path).count(str(tmp_path / "cache" / "checkpoints" / digest)) == 4
    assert s3.gets[WEIGHTS] == s3.gets["tokenizer.json"] == 1
    fetched = tmp_path / "cache" / "checkpoints" / digest / WEIGHTS
    assert fetched.read_bytes() == (tmp_path / "there" / WEIGHTS).read_bytes()
    offline = start(url, digest, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert offline.wait(PATIENCE_SECONDS) == 0, said(tmp_path)


def test_killed_while_it_fetches_nothing_half_stays_and_the_one_that_waits_fetches_it(
    s3: S3, start: Start, tmp_path: Path
) -> None:
    digest = write_supernet(tmp_path / "there", weight_bytes=2_000_000)
    url = s3.put(tmp_path / "there", "killed")
    s3.hanging = {WEIGHTS}
    checkpoints = tmp_path / "cache" / "checkpoints"
    victim = start(url)
    wait_for(lambda: any(path.stat().st_size for path in checkpoints.glob(f".*.part/{WEIGHTS}")), tmp_path)
    waiting = start(url)
    wait_for(lambda: "waiting for the process that fetches it" in said(tmp_path), tmp_path)
    victim.kill()
    s3.hanging = set()
    assert waiting.wait(PATIENCE_SECONDS) == 0, said(tmp_path)
    assert s3.gets[WEIGHTS] == 2
    assert sorted(path.name for path in checkpoints.iterdir()) == [f".{digest}.lock", digest]
    assert (checkpoints / digest / WEIGHTS).read_bytes() == (tmp_path / "there" / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("url", "environment", "message"),
    [
        ("s3://no-such-bucket/net", {}, "s3://no-such-bucket/net: not there ("),
        (f"s3://{BUCKET}/no-such-key", {}, f"s3://{BUCKET}/no-such-key: not there ("),
        (f"s3://{BUCKET}/net", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "Unable to locate credentials"),
        (f"s3://{BUCKET}/net", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "check the URL, the credentials and the "),
    ],
    ids=["bucket", "key", "credentials", "server"],
)
def test_what_is_wrong_with_a_url_is_said_in_one_line(
    start: Start, s3: S3, tmp_path: Path, url: str, environment: dict[str, str], message: str
) -> None:
    write_supernet(tmp_path / "there")
    s3.put(tmp_path / "there", "net")
    assert start(url, **environment).wait(PATIENCE_SECONDS) == 1
    assert said(tmp_path).startswith("UserError: ") and message in said(tmp_path)
    assert said(tmp_path).count("\n") == 1
