"""PostgreSQL servers of our own, each in a folder, reached by a socket there."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian puts it
_SETTINGS = (  # no vacuum of its own: VACUUM FULL keeps a row that another transaction, such as that one, may still see
    "-c listen_addresses='' -c autovacuum=off -c fsync=off"  # no loss of power is tried
)


def can_mount() -> bool:
    """Whether a disk in memory can be mounted here; containers often forbid it."""
    if shutil.which("mount") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return done.returncode == 0


class Server:
    """A server that is started, stopped and killed; it is gone with its folder when closed.

    Args:
        room: bytes of the disk that it has for itself; 0 for that of the folder. It needs root's rights.
        settings: further ones, as of its command line.

    Attributes:
        folder: of its data, socket and log.
        address: of its database.
    """

    def __init__(self, room: int = 0, settings: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.address = f"postgresql://fleet@/postgres?host={self.folder}"
        self._settings = f"{_SETTINGS} {settings} -k {self.folder}"
        name = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # it refuses to run as root
        self._account: dict[str, Any] = (
            {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        )
        self._has_disk = room > 0
        self.data = self.folder / "disk" / "data"
        self.data.parent.mkdir()
        if room:
            command = ["mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(self.data.parent)]
            subprocess.run(command, check=True)
        if self._account:
            shutil.chown(self.folder, name)
            shutil.chown(self.data.parent, name)
        self._call("initdb", "-A", "trust", "-U", "fleet", "-E", "UTF8", "--locale=C", "--no-sync")
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._call("pg_ctl", "-w", "-t", "600", "-l", str(self.folder / "log"), "-o", self._settings, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it, if it runs: `immediate` as after a loss of power, `fast` in order."""
        self._call("pg_ctl", "-w", "-t", "600", "-m", mode, "stop", check=False)

    def kill(self) -> None:
        """SIGKILL to the server and all of its processes."""
        own = self.processes()
        for pid in own:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(_runs(pid) for pid in own):
            time.sleep(0.001)
        self._call("pg_ctl", "stop", check=False)  # takes its stale file away
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def processes(self) -> list[int]:
        """The server, and then those that serve connections or write."""
        head = int((self.data / "postmaster.pid").read_text().split()[0])
        return [head, *map(int, Path(f"/proc/{head}/task/{head}/children").read_text().split())]

    def close(self) -> None:
        """Stop it, and remove its folder."""
        self.stop()
        if self._has_disk:
            subprocess.run(["umount", "-l", str(self.data.parent)], check=True)
        shutil.rmtree(self.folder)

    def _call(self, program: str, *arguments: str, check: bool = True) -> None:
        command = [str(PROGRAMS[-1] / program), "-D", str(self.data), *arguments]
        subprocess.run(
            command,
            check=check,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=None if check else subprocess.DEVNULL,
            **self._account,
        )


def _runs(pid: int) -> bool:
    """Whether a process is there, and more than its name."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
