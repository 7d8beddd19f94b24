"""A stand-in for the Hugging Face hub on loopback: it takes what the hub's client uploads, and remembers all of it."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_somebody"
COMMIT = "0" * 40


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """`repositories` by name, `large` what came as large files by its SHA-256; `requests` are methods and paths in
    the order in which they came; `refusal` is the status and message with which repositories are not made,
    `wrong_with_card` what is said of a card."""

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    wrong_with_card: tuple[str, ...] = ()

    def environment(self, token: str | None = TOKEN) -> dict[str, str]:
        """What lets a process find it, and no other. Large files come over LFS, which is plain HTTP."""
        found = {"HF_ENDPOINT": self.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        return found if token is None else {**found, "HF_TOKEN": token}

    def answer(self, method: str, path: str, token: str | None, body: bytes) -> tuple[int, dict[str, str], Any]:
        """Status, headers, and what becomes JSON or is a file's content."""
        self.requests.append((method, path))
        if path.startswith("/large/"):
            self.large[path.rpartition("/")[2]] = body
            return 200, {}, {}
        if "/resolve/" in path:
            name, _, file = path.removeprefix("/").partition("/resolve/main/")
            files = self.repositories[name].files if name in self.repositories else {}
            return (200, {}, files[file]) if file in files else (404, {"X-Error-Code": "RepoNotFound"}, {})
        if token != f"Bearer {TOKEN}":
            return 401, {"X-Error-Message": "Invalid username or password."}, {}
        if path == "/api/whoami-v2":
            return 200, {}, {"name": "me", "type": "user"}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [each | {"actions": self._upload(each["oid"])} for each in json.loads(body)["objects"]]
            return 200, {}, {"transfer": "basic", "objects": objects}
        if path == "/api/validate-yaml":
            errors = [{"message": said} for said in self.wrong_with_card]
            return 400 if errors else 200, {}, {"errors": errors, "warnings": []}
        user, name, *rest = path.removeprefix("/api/models/").split("/")
        name, asked = f"{user}/{name}", "".join(rest[:1])
        if name not in self.repositories:
            return 404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, {}
        if asked == "preupload":
            return 200, {}, {"files": [self._mode(file) for file in json.loads(body)["files"]]}
        if asked == "commit":
            self._commit(self.repositories[name], body)
            url = f"{self.endpoint}/{name}/commit/{COMMIT}"
            return 200, {}, {"success": True, "commitOid": COMMIT, "commitUrl": url}
        names = (".gitattributes", *self.repositories[name].files)
        if asked == "tree":
            return 200, {}, [{"type": "file", "path": file, "size": 1, "oid": COMMIT} for file in names]
        files = [{"rfilename": file} for file in names]
        return 200, {}, {"id": name, "private": self.repositories[name].private, "siblings": files}

    def _create(self, asked: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        if self.refusal is not None:
            return self.refusal[0], {"X-Error-Message": self.refusal[1]}, {}
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.repositories:
            return 409, {"X-Error-Message": "You already created this model repo"}, {"url": f"{self.endpoint}/{name}"}
        self.repositories[name] = Repository(
            private=asked.get("visibility") == "private" or asked.get("private", False)
        )
        return 200, {}, {"url": f"{self.endpoint}/{name}"}

    def _upload(self, oid: str) -> dict[str, Any]:
        return {"upload": {"href": f"{self.endpoint}/large/{oid}", "header": {}}}

    @staticmethod
    def _mode(file: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if file["path"].endswith((".safetensors", ".gguf")) else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def _commit(self, repository: Repository, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            match line["key"]:
                case "header":
                    repository.commits.append(value["summary"])
                case "file":
                    repository.files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    repository.files[value["path"]] = self.large[value["oid"]]
                case "deletedFile":
                    del repository.files[value["path"]]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that listens while this lasts."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            status, headers, found = hub.answer(self.command, path, self.headers.get("Authorization"), body)
            content = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_HEAD = _respond  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
