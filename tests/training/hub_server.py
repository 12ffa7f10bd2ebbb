"""A hub on this machine, as far as huggingface_hub's client asks for it: repositories are made, filled, and read."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "0" * 40
USER, TOKEN = "me", "hf_of_a_test"


class Hub(ThreadingHTTPServer):
    """Its repositories, by id: path -> content; and all that was asked, method and path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[tuple[str, str]] = []
        self.refuses: tuple[str, int] | None = None  # part of a path, and the status that it gets

    @property
    def address(self) -> str:
        """Of the server."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        """Keep the terminal clean."""

    def do_POST(self) -> None:
        """Make a repository, say how files are to be sent, take a commit."""
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._is_refused():
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and "validate-yaml" not in self.path:
            self._answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            given = json.loads(content)
            name = f"{given['organization'] or USER}/{given['name']}"
            is_new = name not in self.server.repositories
            self.server.repositories.setdefault(name, {})
            self.server.private[name] = given.get("visibility") == "private"
            self._answer(200 if is_new else 409, {"url": f"{self.server.address}/{name}"})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", self.path):
            files = [file["path"] for file in json.loads(content)["files"]]
            self._answer(200, {"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in files]})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.server.repositories[found[1]][value["path"]] = base64.b64decode(value["content"])
            address = f"{self.server.address}/{found[1]}/commit/{COMMIT}"
            self._answer(200, {"commitUrl": address, "commitOid": COMMIT})
        else:
            self._answer(200, {"errors": [], "warnings": []})

    def do_HEAD(self) -> None:
        """What `do_GET` would give, without it."""
        self._read(with_content=False)

    def do_GET(self) -> None:
        """A file of a repository, or what the hub says of one."""
        self._read(with_content=True)

    def _read(self, with_content: bool) -> None:
        if self._is_refused():
            return
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            content = self.server.repositories.get(found[1], {}).get(found[2])
            if content is None:
                self._answer(
                    404, {"error": "no such entry"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
                )
                return
            self._send(
                200, content, {"ETag": f'"{len(content)}-{hash(content)}"', "X-Repo-Commit": COMMIT}, with_content
            )
        elif (found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/.*)?", path)) and found[1] in self.server.repositories:
            files = [{"rfilename": name} for name in self.server.repositories[found[1]]]
            is_tree = bool(found[2]) and "tree" in found[2]
            said = [] if is_tree else {"id": found[1], "sha": COMMIT, "siblings": files}
            self._answer(200, said)
        else:
            self._answer(404, {"error": "no such repository"}, {"X-Error-Code": "RepoNotFound"})

    def _is_refused(self) -> bool:
        self.server.asked.append((self.command, self.path))
        refused = self.server.refuses
        if refused is None or refused[0] not in self.path:
            return False
        self._answer(refused[1], {"error": "not today"})
        return True

    def _answer(self, status: int, said: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(said).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str], with_content: bool = True) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_content and self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers while this lasts."""
    hub = Hub()
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
