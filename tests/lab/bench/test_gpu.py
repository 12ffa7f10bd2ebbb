"""The script for a GPU: its stages, what becomes of one that fails, and where a dry run may write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.__main__ import main
from lab.bench.harness import Settings
from lab.bench.limits.command import PAGE
from lab.bench.run import run_suites
from lab.folders import BENCH_RESULTS, ROOT

SCRIPT = ROOT / "lab" / "bench" / "gpu.sh"
STANDIN = """#!{python}
import os, sys
if sys.argv[1] == "-c":
    sys.exit(0)
with open(os.environ["CALLS"], "a") as calls:
    print(*sys.argv[1:], file=calls)
sys.exit(3 if os.environ.get("FAILING", "-") in sys.argv else 0)
"""


def run_script(tmp_path: Path, *words: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The script with an interpreter that only tells how it was called."""
    python, calls = tmp_path / "python", tmp_path / "calls"
    python.write_text(STANDIN.format(python=sys.executable))
    python.chmod(0o755)
    calls.touch()
    own = {name: value for name, value in os.environ.items() if name != "OUT"}
    done = subprocess.run(
        [SCRIPT, *words],
        env={**own, "PYTHON": str(python), "CALLS": str(calls), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, calls.read_text().splitlines()


def test_stages_are_timed_on_the_gpu_and_rows_and_page_go_to_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done, calls = run_script(tmp_path, OUT=str(out))
    assert done.returncode == 0, done.stderr
    assert [tuple(call.split()[3:6]) for call in calls[:-1]] == [
        ("gpu_kernels", "--dtype", "bfloat16"),
        ("gpu_kernels", "--dtype", "float32"),
        ("gpu_kernels", "--dtype", "float16"),
        ("gpu_layer", "--dtype", "bfloat16"),
        ("gpu_rows", "--dtype", "bfloat16"),
    ]
    assert all(f"--device cuda --rounds 5 --fresh --keep-going --output {out}" in call for call in calls[:-1])
    assert calls[-1] == f"-m lab bench limits --results {out} --page {out}/gpu.md"


def test_a_stage_that_fails_is_told_and_the_others_run(tmp_path: Path) -> None:
    done, calls = run_script(tmp_path, OUT=str(tmp_path / "out"), FAILING="float16")
    assert done.returncode == 1
    assert len(calls) == 6
    assert done.stderr == "FAILED: gpu_kernels in float16 (exit status 3)\n"


def test_without_a_folder_rows_go_to_the_ledger_and_tables_to_the_document(tmp_path: Path) -> None:
    _, calls = run_script(tmp_path)
    assert calls[0].endswith("--output lab/bench/results")
    assert calls[-1] == "-m lab bench limits --results lab/bench/results --page docs/gpu.md"


def test_a_dry_run_is_tiny_on_a_cpu_and_far_from_the_ledger(tmp_path: Path) -> None:
    done, calls = run_script(tmp_path, "--dry", OUT=str(tmp_path / "out"))
    assert done.returncode == 0
    assert all("--device cpu --grid smoke" in call for call in calls[:-1])
    assert calls[-1].endswith("gpu.md --smoke")
    assert not any("docs/gpu.md" in call or "lab/bench/results" in call for call in calls)


@pytest.mark.parametrize("folder", [str(BENCH_RESULTS), "lab/bench/../bench/results"])
def test_a_dry_run_into_the_ledger_is_refused(tmp_path: Path, folder: str) -> None:
    done, calls = run_script(tmp_path, "--dry", OUT=folder)
    assert (done.returncode, calls) == (2, [])
    assert "a dry run needs another folder" in done.stderr


def test_wrong_words_and_a_missing_interpreter_are_explained(tmp_path: Path) -> None:
    done, calls = run_script(tmp_path, "--wet")
    assert (done.returncode, calls) == (2, [])
    assert "usage: " in done.stderr
    done, _ = run_script(tmp_path, "--dry", PYTHON="no-such-python")
    assert done.returncode == 2
    assert "name an interpreter by PYTHON" in done.stderr


def test_rows_of_a_dry_run_make_a_page_of_their_own_and_leave_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = PAGE.read_text(encoding="utf-8")
    settings = Settings(rounds=1, threads=1, grid="smoke", dtype="float16", match="row view, dW x")
    run_suites(["gpu_kernels"], settings, tmp_path)
    page = tmp_path / "gpu.md"
    words = ["bench", "limits", "--results", str(tmp_path), "--page", str(page)]
    assert main([*words, "--smoke"]) == 0
    assert "| 48x64, n=20, row view, dW x |" in page.read_text(encoding="utf-8")
    assert main(words) == 0
    assert "48x64" not in page.read_text(encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == before
    assert main(["bench", "limits", "--smoke"]) == 2
    other = tmp_path / "other.md"
    assert main(["bench", "limits", "--results", str(tmp_path / "nowhere"), "--page", str(other)]) == 2
    assert not other.exists()
    assert "name another --page" in capsys.readouterr().err
