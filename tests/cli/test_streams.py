"""A reader that goes away ends a command quietly, and a training not at all."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from fourierft.cli import streams

PROBE = """
import sys, types
from fourierft.cli import main as cli
module = types.ModuleType("fourierft.cli.probe", "Probe.")
module.add_arguments = lambda parser: None
def run(arguments):
    for number in range(20000):
        print("a line", number)
    print("to the end", file=sys.stderr)
    return 0
module.run = run
sys.modules["fourierft.cli.probe"] = module
cli.COMMANDS["probe"] = "probe"
cli.TRAININGS = {trainings}
sys.exit(cli.main(["probe"]))
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("trainings", "status", "told"), [((), 141, ""), (("probe",), 0, "to the end\n")])
def test_a_reader_that_reads_one_line(trainings: tuple[str, ...], status: int, told: str, unbuffered: str) -> None:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", PROBE.replace("{trainings}", repr(trainings))],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writing)
    first = os.read(reading, 6)
    os.close(reading)
    assert process.communicate(timeout=600)[1] == told
    assert (first, process.returncode) == (b"a line", status)


def test_a_pipe_of_another_kind_that_breaks_is_no_end_of_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    assert not streams.drop_unread()


def test_a_stream_passes_on_what_it_does_not_change() -> None:
    below = io.StringIO()
    stream = streams.Stream(below)
    assert stream.write("text") == 4
    assert (below.getvalue(), stream.isatty()) == ("text", False)
