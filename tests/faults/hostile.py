"""Requests that no client should send, drawn from random numbers."""

from __future__ import annotations

import json
from random import Random
from typing import Any

METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "PATCH", "CONNECT", "BREW", "post", "G\u00cbT")
PATHS = (
    *("/", "/health", "/ping", "/metrics", "/version", "/v1/models", "/v1/models/shared", "/v1/models/"),
    *(
        "/v1/completions",
        "/v1/chat/completions",
        "/fleet/status",
        "/fleet/adapters",
        "/fleet/adapters/shared",
        "/fleet/",
    ),
    *("/fleet/adapters/base", "/fleet/adapters/broken@1", "//", "/../../etc/passwd", "/v1//completions", "/docs", "*"),
)
ROUTES = (
    *(("POST", path) for path in ("/v1/completions", "/v1/completions", "/v1/chat/completions")),
    *(("GET", path) for path in ("/v1/models?limit=2", "/v1/models/shared@live", "/fleet/status", "/fleet/adapters")),
    *(("PUT", path) for path in ("/fleet/adapters/new", "/fleet/adapters/base")),
    ("DELETE", "/fleet/adapters/shared@1"),
)
PIECES = (
    *(
        "%00",
        "%0d%0a",
        "%ff",
        "%ed%a0%80",
        "%F0%9F%92%A9",
        "%",
        "%zz",
        "..",
        "//",
        "@",
        "@1",
        "@live",
        "@0",
        "@99999999999",
    ),
    *(
        "?limit=%C2%B2",
        "?limit=" + "7" * 5000,
        "?limit=-1",
        "?after=%00",
        "?prefix=%ff",
        "?limit=1&limit=x",
        "x" * 3000,
    ),
)
TEXTS = ("", "shared", "shared@1", "shared@live", "base", "nobody", "\0", "a\nb", "\ud800", "\udfff", "é🙂", "x" * 600)
NUMBERS = (0, -1, 1, 2**63, -(2**63) - 1, 10**400, 1.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), True, False)
FIELDS = (
    "model",
    "prompt",
    "stream",
    "stream_options",
    "include_usage",
    "cache_salt",
    "messages",
    "n",
    "max_tokens",
    "",
)
HEADERS = (
    *(("X-Request-Id", text) for text in ("", "x" * 5000, "a\x1b[31m", "\x9b", "é")),
    *(("Content-Type", text) for text in ("", "text/plain", "application/json; charset=utf-7", "multipart/form-data")),
    *(("Content-Encoding", text) for text in ("gzip", "br", "identity", "")),
    *(("Content-Length", text) for text in ("", "0", "-1", "5", "99999999", "1" * 400, "1e3", "\xb2")),
    *(("Transfer-Encoding", text) for text in ("chunked", "gzip, chunked", "identity")),
    *(("Expect", "100-continue"), ("Upgrade", "websocket"), ("Connection", "keep-alive, upgrade"), ("Host", "")),
    *(("Authorization", text) for text in ("", "Bearer", "Bearer ", "Basic x", "Bearer \xe9", "Bearer " + "k" * 9000)),
    *(("X-Forwarded-For", text) for text in ("1.2.3.4", "\x1b]", "x" * 3000)),
    ("X-Data-Parallel-Rank", "99"),
)


def draw_value(chance: Random, depth: int = 0) -> Any:
    """A value of JSON, or nearly."""
    kind = chance.randrange(7 if depth < 4 else 4)
    if kind == 0:
        return chance.choice(TEXTS)
    if kind == 1:
        return chance.choice(NUMBERS)
    if kind == 2:
        return None
    if kind == 3:
        return "".join(chr(chance.randrange(0x110000)) for _ in range(chance.randrange(5)))
    if kind == 4:
        return [draw_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice(FIELDS): draw_value(chance, depth + 1) for _ in range(chance.randrange(4))}


def draw_body(chance: Random) -> bytes:
    """What stands where a request should."""
    kind = chance.randrange(12)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    if kind == 1:
        return chance.choice((b"[", b'{"a":', b"[[1],")) * chance.choice((100, 201, 968, 50_000))
    if kind == 2:
        return b'{"model": "shared", "n": ' + b"7" * chance.choice((5000, 400)) + b"}"
    fields = {chance.choice(FIELDS): draw_value(chance) for _ in range(chance.randrange(4))}
    body = {"prompt": "w", **fields, "model": chance.choice((*TEXTS, "shared", "shared@live", draw_value(chance)))}
    whole = json.dumps(body, ensure_ascii=chance.random() < 0.8).encode("utf-8", "surrogatepass")
    if kind == 3:
        return whole[: chance.randrange(len(whole))]
    return flip(chance, whole) if kind == 4 else whole


def draw_request(chance: Random, key: str, name: str = "shared") -> bytes:
    """The bytes of a request, with a key or without, for an adapter that is there or another."""
    wild = chance.random()  # how much of it makes no sense
    method, path = chance.choice(ROUTES)
    if chance.random() < wild / 2:
        method = chance.choice(METHODS)
    if chance.random() < wild / 2:
        path = chance.choice(PATHS)
    while chance.random() < wild / 2:
        path += chance.choice(PIECES)
    body = draw_body(chance) if method in ("POST", "PUT") or chance.random() < wild else b""
    body, path = body.replace(b"shared", name.encode()), path.replace("shared", name)
    headers = [("Host", "gate"), ("Connection", "close"), ("Content-Length", str(len(body)))]
    if chance.random() < 0.9:
        headers.append(("Authorization", f"Bearer {key}"))
    while chance.random() < wild / 2:
        headers.append(chance.choice(HEADERS))
    if chance.random() < wild / 4:
        chance.shuffle(headers)
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    data = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body
    return flip(chance, data) if chance.random() < wild / 4 else data


def flip(chance: Random, data: bytes) -> bytes:
    """The same with a few bytes changed."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)
