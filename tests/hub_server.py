"""A Hugging Face Hub on loopback: what the real huggingface_hub asks for, answered from memory.

`FakeHub` is two HTTP servers, as the real one is: the Hub itself, which names commits, refuses and redirects,
and the storage behind it, which holds large files and takes ranges. Both count connections and keep what they
were asked. How a file misbehaves is a `Trouble` beside it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

SMALL = 4096  # bytes up to which a file comes from the Hub itself, as those in git do
PIECE = 1 << 14


@dataclass
class Trouble:
    """What the storage does with a file instead of simply sending it.

    speed          bytes a second.
    cut_after      bytes after which a connection is cut, one number a connection; then no more cuts.
    stall_after    bytes after which nothing more is said.
    status         answered instead, with `headers`.
    body           sent instead; its own length is announced.
    ignore_range   a range is answered with the whole file.
    no_length      the length is not announced.
    """

    speed: float | None = None
    cut_after: list[int] = field(default_factory=list)
    stall_after: int | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    ignore_range: bool = False
    no_length: bool = False


@dataclass
class Repository:
    """commits: name -> files; refs: branch -> commit; token: of who may read it; gated: terms come first."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False
    renamed: str | None = None


@dataclass(frozen=True)
class Asked:
    server: str  # "hub" or "storage"
    method: str
    path: str
    headers: dict[str, str]


class FakeHub:
    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.troubles: dict[str, Trouble] = {}  # by file name
        self.hub_trouble: Trouble | None = None  # of every answer of the Hub itself
        self.writer = "hf_writer"  # the token that may upload
        self.asked: list[Asked] = []
        self.connections = 0
        self.closing = threading.Event()
        self.servers: list[ThreadingHTTPServer] = []

    def __enter__(self) -> FakeHub:
        for handler in (_HubHandler, _StorageHandler):
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            server.daemon_threads = True
            server.hub = self
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            self.servers.append(server)
        return self

    def __exit__(self, *_) -> None:
        self.closing.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.servers[0].server_port}"

    @property
    def storage_url(self) -> str:
        return f"http://127.0.0.1:{self.servers[1].server_port}"

    def add(self, repo_id: str, files: dict[str, bytes], *, branch: str = "main", **options) -> str:
        """A new commit of a repository, at the tip of a branch; returns its name."""
        repository = self.repositories.setdefault(repo_id, Repository(**options))
        facts = [repo_id, branch, len(repository.commits), sorted(files)]
        commit = hashlib.sha1(json.dumps(facts).encode()).hexdigest()
        repository.commits[commit] = dict(files)
        repository.refs[branch] = commit
        self.blobs |= {hashlib.sha256(content).hexdigest(): content for content in files.values()}
        return commit

    def transfers(self) -> int:
        """How often the bytes of a large file were asked for."""
        return sum(asked.server == "storage" for asked in self.asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name = ""

    @property
    def hub(self) -> FakeHub:
        return self.server.hub

    def setup(self) -> None:
        self.hub.connections += 1
        super().setup()

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the other side has gone
            super().handle()

    def log_message(self, *_) -> None:
        pass

    def note(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.hub.asked.append(Asked(self.name, self.command, self.path, headers))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_file(self, content: bytes, trouble: Trouble, **headers: str) -> None:
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and not trouble.ignore_range:
            start, status = int(asked[1]), 206
            if start >= len(content):
                self.answer(416, Content_Range=f"bytes */{len(content)}")
                return
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        if trouble.no_length:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = trouble.cut_after.pop(0) if trouble.cut_after else None
        began, sent = time.monotonic(), 0
        for first in range(start, len(content), PIECE):
            piece = content[first : first + PIECE]
            if cut is not None and sent + len(piece) > cut:
                self.wfile.write(piece[: cut - sent])
                self.close_connection = True
                return
            if trouble.stall_after is not None and sent + len(piece) > trouble.stall_after:
                self.wfile.write(piece[: max(trouble.stall_after - sent, 0)])
                self.hub.closing.wait(60)
                self.close_connection = True
                return
            self.wfile.write(piece)
            sent += len(piece)
            if trouble.speed:
                self.hub.closing.wait(max(0.0, began + sent / trouble.speed - time.monotonic()))


class _HubHandler(_Handler):
    """/OWNER/NAME/resolve/REVISION/FILE, and what huggingface_hub's upload needs."""

    name = "hub"

    def do_GET(self) -> None:
        self.note()
        if (trouble := self.hub.hub_trouble) is not None:
            if trouble.stall_after is not None:
                self.hub.closing.wait(60)
            self.answer(trouble.status or 200, trouble.body or b"", **trouble.headers)
            return
        path = unquote(urlsplit(self.path).path)
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/(.+)", path)
        if not found:
            self.answer(404)
            return
        repo_id, rest = found.groups()
        repository = self.hub.repositories.get(repo_id)
        if repository is not None and repository.renamed:
            self.answer(307, Location=self.path.replace(repo_id, repository.renamed, 1))
            return
        if repository is None or not self._may_read(repository):
            if repository is not None and repository.gated:
                self.answer(403 if self.headers.get("Authorization") else 401, X_Error_Code="GatedRepo")
            else:
                self.answer(401, X_Error_Code="RepoNotFound")
            return
        revisions = {**repository.refs, **{commit: commit for commit in repository.commits}}
        revision = next((r for r in revisions if rest.startswith(r + "/")), None)
        if revision is None:
            self.answer(404, X_Error_Code="RevisionNotFound")
            return
        commit, filename = revisions[revision], rest[len(revision) + 1 :]
        content = repository.commits[commit].get(filename)
        if content is None:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return
        if len(content) <= SMALL:
            etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            trouble = self.hub.troubles.get(filename, Trouble())
            body = content if trouble.body is None else trouble.body
            self.send_file(body, trouble, X_Repo_Commit=commit, ETag=f'"{etag}"', **trouble.headers)
            return
        sha256 = hashlib.sha256(content).hexdigest()
        location = f"{self.hub.storage_url}/{sha256}/{filename}?signature=secret"
        linked = {"X_Linked_Size": str(len(content)), "X_Linked_Etag": f'"{sha256}"'}
        self.answer(302, Location=location, X_Repo_Commit=commit, **linked)

    do_HEAD = do_GET

    def _may_read(self, repository: Repository) -> bool:
        return repository.token in (None, self._token())

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def do_POST(self) -> None:
        """What an upload asks: to make a repository, how to send each file, where, and to commit."""
        self.note()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self._token() != self.hub.writer:
            self.answer(401 if not self._token() else 403)
            return
        if (trouble := self.hub.hub_trouble) is not None:
            self.answer(trouble.status or 500, trouble.body or b"", **trouble.headers)
            return
        path = unquote(urlsplit(self.path).path)
        if path == "/api/repos/create":
            self._create(json.loads(content))
        elif path == "/api/validate-yaml":
            self._say({"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            asked = json.loads(content)["files"]
            modes = [{**file, "uploadMode": "lfs" if file["size"] > SMALL else "regular"} for file in asked]
            self._say({"files": [{**file, "shouldIgnore": False} for file in modes]})
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._say({"transfer": "basic", "objects": [*map(self._place, json.loads(content)["objects"])]})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            self._commit(found[1], [json.loads(line) for line in content.splitlines()])
        else:
            self.answer(404)

    def _say(self, facts: object, status: int = 200) -> None:
        self.answer(status, json.dumps(facts).encode(), Content_Type="application/json")

    def _create(self, asked: dict) -> None:
        repo_id = f"{asked['organization']}/{asked['name']}"
        there = repo_id in self.hub.repositories
        if not there:
            private = asked.get("private") or asked.get("visibility") == "private"  # as old and new ones ask
            self.hub.repositories[repo_id] = Repository(token=self.hub.writer if private else None)
        self._say({"url": f"{self.hub.url}/{repo_id}"}, 409 if there else 200)

    def _place(self, file: dict) -> dict:
        upload = {"href": f"{self.hub.storage_url}/upload/{file['oid']}", "header": {}}
        return {**file, "actions": {"upload": upload}}

    def _commit(self, repo_id: str, lines: list[dict]) -> None:
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        before = self.hub.repositories[repo_id]
        kept = before.commits.get(before.refs.get("main"), {})
        commit = self.hub.add(repo_id, kept | files)
        self._say(
            {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{commit}"}
        )


class _StorageHandler(_Handler):
    """/SHA256/FILE, with ranges."""

    name = "storage"

    def do_GET(self) -> None:
        self.note()
        _, sha256, filename = unquote(urlsplit(self.path).path).split("/", 2)
        trouble = self.hub.troubles.get(filename, Trouble())
        if trouble.status is not None:
            self.answer(trouble.status, trouble.body or b"", **trouble.headers)
            return
        content = self.hub.blobs[sha256] if trouble.body is None else trouble.body
        self.send_file(content, trouble, **{"ETag": '"storage"', **trouble.headers})

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        self.note()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        sha256 = self.path.rpartition("/")[2]
        if hashlib.sha256(content).hexdigest() != sha256:
            self.answer(400)
            return
        self.hub.blobs[sha256] = content
        self.answer(200)
