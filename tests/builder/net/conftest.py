"""A registry without sockets: a transport that answers from a table, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from builder.config import Config
from builder.net.agent import Agent
from builder.net.auth import NONE, Credentials
from builder.net.client import RegistryClient
from builder.net.transport import Request, Response, TransportError
from builder.oci.digest import Digest
from builder.oci.reference import Reference
from builder.values import dataclass, field

HOST = "registry.example"
REF = Reference.parse(f"{HOST}/team/app:1")


@dataclass
class Answer:
    """``body`` may be endless. ``fails``: the connection breaks after the body."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Callable[[], Iterator[bytes]] = b""
    fails: bool = False


Rule = Answer | Callable[[Request], Answer]


class FakeTransport:
    """``on("GET", url)`` sets what is answered; with several answers they come one after the other, the last for ever."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self._rules: dict[tuple[str, str], list[Rule | Exception]] = {}

    def on(self, method: str, url: str, *answers: Rule | Exception) -> None:
        self._rules[method, url] = list(answers)

    def send(self, request: Request) -> Response:
        self.asked.append(request)
        rules = self._rules.get((request.method, request.url)) or self._rules.get((request.method, request.url.partition("?")[0]))
        if rules is None:
            return Response(request, 404, {}, iter(()))
        rule = rules.pop(0) if len(rules) > 1 else rules[0]
        if isinstance(rule, Exception):
            raise rule
        answer = rule(request) if callable(rule) else rule
        headers = {k.lower(): v for k, v in answer.headers.items()}
        if isinstance(answer.body, bytes):
            headers.setdefault("content-length", str(len(answer.body)))
        return Response(request, answer.status, headers, _chunks(answer, request.method))

    def hosts_that_saw(self, secret: str) -> set[str]:
        """Hosts that got ``secret`` in a header, address or body."""

        def holds(request: Request) -> bool:
            body = request.body if isinstance(request.body, bytes) else b""
            return secret in " ".join([request.url, *request.headers.values(), body.decode("latin-1")])

        return {urlsplit(r.url).netloc for r in self.asked if holds(r)}


def _chunks(answer: Answer, method: str) -> Iterator[bytes]:
    if method != "HEAD":
        if isinstance(answer.body, bytes):
            yield answer.body
        else:
            yield from answer.body()
    if answer.fails:
        raise TransportError("connection broke", transient=True)


@dataclass
class World:
    transport: FakeTransport
    agent: Agent
    slept: list[float]

    def client(self, config: str = "", credentials: Credentials = NONE, registry: str = HOST) -> RegistryClient:
        return RegistryClient(
            Config.parse(config.encode()),
            agent=self.agent,
            credentials=lambda host, repository: credentials if host == registry else NONE,
        )

    def manifest(self, data: bytes, media_type: str = "application/vnd.oci.image.manifest.v1+json", tag: str = "1") -> Digest:
        """Serve ``data`` under the tag and its digest."""
        digest = Digest.of(data)
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest}
        for name in (tag, digest):
            for method in ("HEAD", "GET"):
                self.transport.on(method, f"https://{HOST}/v2/team/app/manifests/{name}", Answer(200, headers, data))
        return digest

    def blob(self, data: bytes, answer: Answer | None = None) -> Digest:
        digest = Digest.of(data)
        self.transport.on("GET", blob_url(digest), answer or Answer(200, {}, data))
        return digest


def blob_url(digest: Digest) -> str:
    return f"https://{HOST}/v2/team/app/blobs/{digest}"


def image_manifest(config: bytes, layers: list[bytes], /, **changes: object) -> bytes:
    """An OCI manifest over these blobs; ``changes`` replace or add top-level fields."""

    def describe(kind: str, data: bytes) -> dict[str, object]:
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": Digest.of(data), "size": len(data)}

    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("config.v1+json", config),
        "layers": [describe("layer.v1.tar", layer) for layer in layers],
    }
    return json.dumps({**document, **changes}).encode()


@pytest.fixture
def world() -> World:
    transport, slept = FakeTransport(), []
    return World(transport, Agent(transport, sleep=slept.append), slept)
