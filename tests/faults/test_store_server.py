"""PostgreSQL under attack: servers that are killed, stopped or started, connections that end."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fourierft.errors import FourierFTError
from fourierft.store import AdapterStore, import_folder
from tests.store.servers import Server

from .conftest import Campaign
from .damage import layout, numbers
from .processes import Child, check_acknowledged, noted, write

# SQLAlchemy leaves the cursor of a statement during which its connection ended to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:<psycopg.ServerCursor:ResourceWarning")


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that may be killed."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def address(own_server: Server) -> Iterator[str]:
    """Of an empty store on it."""
    yield own_server.address
    own_server.stop()
    own_server.start()
    clear(own_server)


def run_sql(server: Server, statement: str) -> None:
    import psycopg

    with psycopg.connect(host=str(server.folder), user="fleet", dbname="postgres", autocommit=True) as connection:
        connection.execute(statement)


def clear(server: Server) -> None:
    """Leave no store there."""
    run_sql(server, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")


def interrupt(server: Server, how: str, chance: random.Random) -> None:
    """End connections, or the server, which is up again afterwards."""
    if how == "connections end":
        run_sql(
            server,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
    elif how == "a process is killed":
        pid = chance.choice(server.processes()[1:])
        with suppress(ProcessLookupError):  # it ended by itself meanwhile
            os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():  # the server has yet to notice
            time.sleep(0.001)
        await_server(server)
    elif how == "all are killed":
        server.kill()
        server.start()
    else:
        server.stop(how)
        server.start()


INTERRUPTIONS = ("connections end", "a process is killed", "all are killed", "immediate", "fast")


def await_server(server: Server) -> None:
    """Wait until a server that recovers takes connections."""
    for _ in range(600):
        try:
            return run_sql(server, "SELECT 1")
        except Exception:
            time.sleep(0.1)
    raise TimeoutError("the server does not come back")


def refusals(lines: list[str]) -> tuple[list[str], str | None]:
    """What was acknowledged, and what was told that is no one sentence of ours."""
    told = [line for line in lines if not line.startswith("refused")]
    for line in lines:
        if line.startswith("raised") or "\\n" in line or "Traceback" in line:
            return told, line
    return told, None


def test_interrupted_writers(campaign: Campaign, own_server: Server, address: str) -> None:
    """Two write while their server is; a store that was open before reads on at once, and the log stays quiet."""
    with AdapterStore(address) as open_all_along:
        open_all_along.put("first", layout(), numbers(0))
        for k in range(campaign.count(5, 60)):
            children = [Child(write(address, f"{name}{k}")) for name in "ab"]
            time.sleep(campaign.chance.random() * 0.3)
            how = INTERRUPTIONS[k] if k < len(INTERRUPTIONS) else campaign.chance.choice(INTERRUPTIONS)
            interrupt(own_server, how, campaign.chance)
            fault = noted(lambda: None if open_all_along.get("first").version == 1 else "another version")
            for child in children:
                child.kill()
            lines = [line for child in children for line in child.lines()]
            told, strange = refusals(lines)
            fault = fault or strange or noted(lambda told=told: check_acknowledged(address, told))
            campaign.note(fault and f"{how}: {fault}")


def test_interrupted_changes_of_many(campaign: Campaign, own_server: Server, address: str, tmp_path: Path) -> None:
    """A restore or an erasure is done or not, an import adapter by adapter; made again, it is done."""
    with AdapterStore(tmp_path / "made.db") as made:
        made.add_many(layout(), [(f"r{k}", numbers(k)) for k in range(300)])
        for k in range(30):
            made.export(f"r{k}", tmp_path / "folder" / f"i{k}")
    for k in range(campaign.count(4, 60)):
        act = ("import", "restore", "erase")[k % 3]
        how = campaign.chance.choice(INTERRUPTIONS)
        clear(own_server)
        with AdapterStore(address) as store:
            store.put("kept", layout(), numbers(1))
            store.add_many(layout(), [(f"e{number}", numbers(number)) for number in range(20)])
            before = set(store.names())

        def change(tell: Callable[[str], object], act: str = act) -> None:
            with AdapterStore(address) as own:
                if act == "restore":
                    own.restore(tmp_path / "made.db")
                elif act == "erase":
                    own.remove("e3", erase=True)
                else:
                    told: list[str] = []
                    import_folder(own, tmp_path / "folder", tell=told.append)
                    if any("\n" in line for line in told):
                        raise AssertionError(told)
                    if told:
                        return
            tell("done")

        after = {
            "restore": {f"r{number}" for number in range(300)},
            "erase": before - {"e3"},
            "import": before | {f"i{number}" for number in range(30)},
        }[act]
        child = Child(change)
        time.sleep(campaign.chance.random() * 0.3)
        interrupt(own_server, how, campaign.chance)
        lines = child.lines()

        def check(
            lines: list[str] = lines,
            after: set[str] = after,
            before: set[str] = before,
            act: str = act,
            change: Callable[[Callable[[str], object]], None] = change,
        ) -> str | None:
            told, strange = refusals(lines)
            if strange:
                return strange
            with AdapterStore(address) as store:
                found, faults = set(store.names()), store.verify()
                if faults:
                    return faults[0]
                if told == ["done"] and found != after:
                    return f"done, but {len(found ^ after)} differ"
                if not (found in (before, after) or (act == "import" and before <= found <= after)):
                    return f"{len(found ^ before)} differ from before, {len(found ^ after)} from what was wanted"
                change(told.append)
                return None if set(store.names()) == after else "made again, it was not done"

        fault = noted(check)
        campaign.note(fault and f"{act}, {how}: {fault}")


def test_reads_beside_a_server_that_restarts(campaign: Campaign, own_server: Server, address: str) -> None:
    """Threads of one open store read all along: each answer is right, or one sentence; a second later all are right."""
    with AdapterStore(address) as store:
        store.add_many(layout(), [(f"t{k}", numbers(k)) for k in range(100)])
        for k in range(campaign.count(3, 40)):
            done, answers = threading.Event(), [0]
            faults: list[str] = []

            def read(faults: list[str] = faults, done: threading.Event = done, answers: list[int] = answers) -> None:
                number = 0
                while not done.is_set():
                    number = (number + 1) % 100
                    try:
                        found = store.get(f"t{number}") if number % 10 else list(store)[number]
                        if not found.values.equal(numbers(int(found.name[1:]))):
                            faults.append(f"{found.name} is another")
                        answers[0] += 1
                    except FourierFTError as error:
                        if "\n" in str(error) or "damaged" in str(error):
                            faults.append(str(error))
                    except Exception as error:
                        faults.append(f"{type(error).__name__}: {error}")

            threads = [threading.Thread(target=read) for _ in range(4)]
            for thread in threads:
                thread.start()
            while not (answers[0] or faults):  # however slow the machine
                time.sleep(0.001)
            time.sleep(campaign.chance.random() * 0.2)
            interrupt(own_server, INTERRUPTIONS[(k * 2 + 2) % 5], campaign.chance)
            time.sleep(0.2)
            done.set()
            for thread in threads:
                thread.join()
            faults += [
                fault for fault in [noted(lambda: None if len(list(store)) == 100 else "some are lost")] if fault
            ]
            campaign.note(faults[0] if faults else None)


def test_nothing_is_logged_of_rows_whose_connection_ended(
    own_server: Server, address: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with AdapterStore(address) as store:
        store.add_many(layout(), [(f"t{k}", numbers(k)) for k in range(500)])
        adapters: Any = iter(store)
        next(adapters)
        interrupt(own_server, "connections end", random.Random(0))
        adapters.close()
        assert len(store) == 500
    assert capfd.readouterr().err == ""
