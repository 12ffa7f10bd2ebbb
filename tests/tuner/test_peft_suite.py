"""PEFT's own tests of FourierFT pass with this package's tuner in place of PEFT's."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from fourierft.training.assets import Asset, obtain

PEFT = Asset(
    project="peft",
    version="0.21.2",
    filename="peft-0.21.2.tar.gz",
    sha256="b803ccfb3f3f316004d850284306687833a2235ea278fb56abc856203456142e",
    size=983_614,
)
CASES = 349  # that name FourierFT and pass on PEFT's own tuner; 9 more skip themselves there too


def test_the_cases_of_peft_that_name_fourierft_pass(tmp_path):
    installed = importlib.metadata.version("peft")
    assert installed == PEFT.version, f"PEFT is {installed}: pin the tests of that release here"
    shutil.copytree(obtain(PEFT) / f"peft-{PEFT.version}" / "tests", tmp_path / "tests")
    cases = tmp_path / "tests" / "test_custom_models.py"  # two of them name parameters, and ours go by LoRA's pattern
    cases.write_text(re.sub(r"fourierft_spectrum\.(\w+)", r"fourierft_coefficients.\1.weight", cases.read_text()))
    (tmp_path / "tests" / "__init__.py").touch()  # its files import each other relatively
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "peft_with_fourierft", "-p", "no:cacheprovider", "-q"]
    command += ["-k", "FourierFT", "--junitxml", "report.xml", "tests/test_custom_models.py"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    suite = ElementTree.parse(tmp_path / "report.xml").getroot()[0]
    count = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
    assert run.returncode == 0, run.stdout[-5000:]
    assert "tuner behind FOURIERFT: fourierft.tuner.model.FourierFTModel" in run.stdout
    assert count["failures"] == count["errors"] == 0
    assert count["tests"] - count["skipped"] >= CASES
