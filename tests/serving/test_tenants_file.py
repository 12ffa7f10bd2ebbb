"""The file of tenants: what it may say, and how its changes arrive."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fourierft.errors import ConfigError
from fourierft.serving import tenants_file
from fourierft.serving.lines import LOG
from fourierft.serving.tenant import Tenant
from fourierft.serving.tenants import Tenants
from fourierft.serving.tenants_file import TenantsFile, parse_tenants, read_content, read_tenants

from .live import until

LOOKS = 4  # in which a change is taken over, or refused
KEYS = {"KEY": "key", "OTHER": "other", "THIRD": "third", "EMPTY": "", "NEWLINE": "\n"}


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def write(folder: Path, text: str) -> Path:
    path = folder / "tenants.toml"
    for word, key in KEYS.items():
        text = text.replace(word, digest(key))
    path.write_text(text)
    return path


def test_tenants_are_read_by_the_digest_of_each_key(tmp_path: Path) -> None:
    text = """
        [tenants.acme]
        key_sha256 = "KEY"
        adapters = ["acme/*", "shared"]
        base = false
        requests_per_minute = 0.5
        running = 2
        waiting = 3
        [tenants.boss]
        key_sha256 = ["OTHER", "THIRD"]
        admin = true
        """
    boss = Tenant("boss", ("*",), admin=True)
    expected = {digest("key"): Tenant("acme", ("acme/*", "shared"), False, False, 0.5, 2, 3)}
    expected |= {digest(key): boss for key in ("other", "third")}
    assert read_tenants(write(tmp_path, text)) == expected
    assert boss.requests_per_minute == math.inf
    path = write(tmp_path, text)
    path.write_bytes(
        b"\xef\xbb\xbf" + path.read_bytes().replace(digest("key").encode(), digest("key").upper().encode())
    )
    assert read_tenants(path) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "has the tables x; give each tenant"),
        ("[tenants]", "give each tenant a"),
        ("[tenants.a", "cannot be read as TOML"),
        ("a=" + "[" * 5000, "cannot be read as TOML"),
        ("[tenants]\na = 1", "'a' is not a table"),
        ("[tenants.a]", "key_sha256 of 64 hexadecimal digits.*field required"),
        ('[tenants.a]\nkey_sha256 = "EMPTY"', "is the digest of an empty key"),
        ('[tenants.a]\nkey_sha256 = "NEWLINE"', "is the digest of an empty key"),
        ("[tenants.a]\nkey_sha256 = []", "should have at least 1 item"),
        ('[tenants.a]\nkey_sha256 = ["KEY", "OTHER", "THIRD"]', "should have at most 2 items"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nadapter = ["a"]', "has the unknown field adapter; use key_sha256, adapters"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nadapters = "a"', "adapters='a': input should be a valid list"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nadapters = [1]', "has adapters=1: input should be a valid string"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nadmin = 1', "admin=1: input should be a valid boolean"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nrunning = true', "running=True: input should be a valid integer"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nrunning = 0', "running=0: input should be greater than or equal to 1"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nrunning = 2000000', "less than or equal to 1000000"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nwaiting = -1', "waiting=-1: input should be greater than or equal to 0"),
        *(
            (f'[tenants.a]\nkey_sha256 = "KEY"\nrequests_per_minute = {value}', "has requests_per_minute=")
            for value in ("nan", "inf", "-inf", "-1", "0", "1e-300", "true", '"1"', "1" + "0" * 400)
        ),
        ('[tenants.a]\nkey_sha256 = "KEY"\n[tenants.b]\nkey_sha256 = "KEY"', "'a' and 'b' have the same key"),
    ],
)
def test_what_makes_no_sense_is_told_by_tenant_and_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        read_tenants(write(tmp_path, text))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_tenants(tmp_path / "none.toml")


def test_a_key_in_place_of_its_digest_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_tenants(write(tmp_path, '[tenants.a]\nkey_sha256 = "sk-secret"'))
    assert "sk-secret" not in str(caught.value)


def follow(path: Path, *steps: Callable[[Tenants], object]) -> list[dict[str, object]]:
    """The lines of the log while a file is followed through some steps, each with LOOKS looks at the file after it."""
    lines: list[dict[str, object]] = []
    looks = 0

    def look(path: str) -> bytes | str:
        nonlocal looks
        looks += 1
        return read_content(path)

    handler = logging.Handler()
    handler.emit = lambda record: lines.append(json.loads(record.getMessage()))  # type: ignore[method-assign]
    tenants = Tenants(read_tenants(path))

    async def run() -> None:
        async with TenantsFile(str(path), tenants).followed():
            for step in steps:
                step(tenants)
                enough = looks + LOOKS
                await until(lambda enough=enough: looks > enough)  # the last has begun, so what came before is done

    before, LOG.handlers, LOG.propagate = LOG.handlers, [handler], False
    LOG.setLevel(logging.INFO)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tenants_file, "read_content", look)
            patch.setattr(tenants_file, "_PAUSE", 0.01)
            asyncio.run(run())
    finally:
        LOG.handlers, LOG.propagate = before, True
    return lines


def known(tenants: Tenants, key: str) -> bool:
    return tenants.find([f"Bearer {key}".encode()]) is not None


def test_a_revoked_key_is_refused_within_a_second_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    assert LOOKS * tenants_file._PAUSE < 1  # seconds
    path = write(tmp_path, '[tenants.a]\nkey_sha256 = "KEY"\n[tenants.b]\nkey_sha256 = "OTHER"')
    seen: list[tuple[bool, bool, bool]] = []

    def note(tenants: Tenants) -> None:
        seen.append((known(tenants, "key"), known(tenants, "other"), known(tenants, "third")))

    def rotate(tenants: Tenants) -> None:
        note(tenants)
        (tmp_path / "new").write_text(f'[tenants.a]\nkey_sha256 = ["{digest("third")}", "{digest("key")}"]')
        (tmp_path / "new").rename(path)

    def damage(tenants: Tenants) -> None:
        note(tenants)
        path.write_text("[tenants.a]\nkey_sha256 = 'sk-secret'")

    def remove(tenants: Tenants) -> None:
        note(tenants)
        path.unlink()

    lines = follow(path, rotate, damage, remove, note)
    assert seen == [(True, True, False), *[(True, False, True)] * 3]
    assert [line.get("count") for line in lines] == [2, 1, None, None]
    assert [str(line.get("error")).endswith("; the tenants stay as they were") for line in lines[2:]] == [True, True]
    assert "sk-secret" not in json.dumps(lines)


def test_a_signal_reads_the_file_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, '[tenants.a]\nkey_sha256 = "KEY"')

    def hang_up(tenants: Tenants) -> None:
        os.kill(os.getpid(), signal.SIGHUP)

    assert [line["count"] for line in follow(path, hang_up)] == [1, 1]


def test_what_is_no_file_changes_nothing_and_holds_nobody_up(tmp_path: Path) -> None:
    path = write(tmp_path, '[tenants.a]\nkey_sha256 = "KEY"')
    content, seen = path.read_bytes(), []

    def put(make: Callable[[], object]) -> Callable[[Tenants], object]:
        def step(tenants: Tenants) -> None:
            path.unlink()
            make()
            os.kill(os.getpid(), signal.SIGHUP)

        return step

    def note(tenants: Tenants) -> None:
        seen.append(known(tenants, "key"))
        if path.is_dir():
            path.rmdir()
            path.touch()

    def mend(tenants: Tenants) -> None:
        write(tmp_path, '[tenants.b]\nkey_sha256 = "OTHER"')

    steps = (
        put(lambda: os.mkfifo(path)),
        put(lambda: path.symlink_to("/dev/zero")),
        put(lambda: path.write_bytes(b"")),
        put(lambda: path.write_bytes(content[:-9])),
        put(lambda: path.write_bytes(b"# " + b" " * (1 << 26))),
        put(path.mkdir),
    )
    lines = follow(path, *(step for each in steps for step in (each, note)), mend, note)
    assert seen == [True] * 6 + [False]
    errors = [str(line["error"]) for line in lines if "error" in line]
    for error, said in zip(
        errors,
        (
            "it is not a file",
            "it is not a file",
            "has the tables none",
            "as TOML",
            "it is larger than",
            "Is a directory",
        ),
        strict=False,
    ):
        assert said in error
        assert error.endswith("; the tenants stay as they were")
    assert lines[-1]["count"] == 1


def test_a_file_that_is_none_is_told_before_anything_is_served(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("pipe", "it is not a file"), ("", "Is a directory"), ("none", "No such file or directory")):
        with pytest.raises(ConfigError, match=f"cannot be read \\({said}\\)"):
            read_tenants(tmp_path / name)


def test_many_tenants_are_read_beside_the_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, threads = write(tmp_path, '[tenants.a]\nkey_sha256 = "KEY"'), set()

    def note(content: bytes | str, where: str) -> dict[str, Tenant]:
        threads.add(threading.current_thread())
        return parse_tenants(content, where)

    monkeypatch.setattr(tenants_file, "parse_tenants", note)
    follow(path, lambda tenants: os.kill(os.getpid(), signal.SIGHUP))
    threads.remove(threading.main_thread())  # before anything is served
    assert threads
