"""Names of files and what is printed, in locales that are not of UTF-8."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fourierft.cli.locales import print_anything
from fourierft.cli.main import main

ASCII = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def test_names_are_utf8_and_what_is_printed_is_in_the_locale_s_encoding(tmp_path: Path) -> None:
    code = (
        "import sys; from fourierft.cli.locales import *; use_utf8(); print_anything(sys.stdout); "
        "open(sys.argv[1], 'x').close(); print(ascii(sys.argv[1][-5:]), sys.argv[1][-5:], sys.stdout.encoding)"
    )
    environment = {**os.environ, **ASCII}
    environment.pop("PYTHONIOENCODING", None)
    name = str(tmp_path / "gäste").encode()
    done = subprocess.run([sys.executable, "-c", code, name], env=environment, capture_output=True, check=True)
    assert done.stdout == b"'g\\xe4ste' g\\xe4ste ascii\n"
    assert [os.fsencode(path.name) for path in tmp_path.iterdir()] == [b"g\xc3\xa4ste"]


def test_a_character_that_an_encoding_lacks_is_printed_as_its_number() -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="iso-8859-1")
    print_anything(stream, None)
    print("größe → 1", file=stream, flush=True)
    assert written.getvalue() == "größe ".encode("iso-8859-1") + rb"\u2192 1" + os.linesep.encode()


def test_a_name_that_is_not_utf8_is_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", os.fsdecode(b"g\xe4ste")]) == 2
    assert "error: g\\udce4ste is not valid UTF-8, which libraries need" in capsys.readouterr().err
