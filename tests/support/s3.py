"""A stand-in for S3 on loopback: moto's server, with what was asked of it counted, and made to hang at will."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "checkpoints"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


class S3:
    """`gets`: how often each object was asked for; `released`: unless set, of `hanging` objects only half comes."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # takes a second

        self.gets: Counter[str] = Counter()
        self.hanging: set[str] = set()
        self.released = threading.Event()
        self._counting = threading.Lock()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What lets a process find it, and no other."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.endpoint, "AWS_EC2_METADATA_DISABLED": "true"}

    def put(self, directory: Path, key: str) -> str:
        """Store a directory's files; their URL."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="anybody",
            aws_secret_access_key="any",
        )
        client.create_bucket(Bucket=BUCKET)
        for file in directory.iterdir():
            client.put_object(Bucket=BUCKET, Key=f"{key}/{file.name}", Body=file.read_bytes())
        client.close()
        return f"s3://{BUCKET}/{key}"

    def end(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        answer: Iterable[bytes] = self._moto(environ, start_response)
        name = environ["PATH_INFO"].rsplit("/", 1)[-1]
        if environ["REQUEST_METHOD"] == "GET":
            with self._counting:
                self.gets[name] += 1
            if name in self.hanging:
                return self._hanging(b"".join(answer))
        return answer

    def _hanging(self, body: bytes) -> Iterator[bytes]:
        sent = len(body) // 2
        yield body[:sent]
        while not self.released.wait(1):  # a byte now and then, lest whoever fetches thinks that the server is dead
            yield body[sent : sent + 1]
            sent += 1
        yield body[sent:]


@contextmanager
def running_s3() -> Iterator[S3]:
    s3 = S3()
    try:
        yield s3
    finally:
        s3.end()
