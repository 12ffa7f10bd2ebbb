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

CASES = {  # release -> digest and bytes of its source, and how many cases name FourierFT and pass on PEFT's own tuner
    "0.18.1": ("2dd0d6bfce936d1850e48aaddbd250941c5c02fc8ef3237cd8fd5aac35e0bae2", 635_030, 207),
    "0.19.1": ("0d97542fe96dcdaa20d3b81c06f26f988618f416a73544ab23c3618ccb674a40", 763_738, 273),
    "0.20.0": ("4769c8093a4ca145fd6fb3fd4dd50449675f5fe46434ad1e98b285a132d4b1d0", 880_503, 297),
    "0.21.2": ("b803ccfb3f3f316004d850284306687833a2235ea278fb56abc856203456142e", 983_614, 349),
}


def test_the_cases_of_peft_that_name_fourierft_pass(tmp_path):
    installed = importlib.metadata.version("peft")
    assert installed in CASES, f"PEFT is {installed}: pin the tests of that release here"
    digest, size, expected = CASES[installed]
    source = Asset("peft", installed, f"peft-{installed}.tar.gz", digest, size)
    shutil.copytree(obtain(source) / f"peft-{installed}" / "tests", tmp_path / "tests")
    cases = tmp_path / "tests" / "test_custom_models.py"  # two of them name parameters, and ours go by LoRA's pattern
    text = re.sub(r"fourierft_spectrum\.(\w+)", r"fourierft_coefficients.\1.weight", cases.read_text())
    cases.write_text(text.replace("0layers..lin0", "layers.0.lin0"))  # a slip: before 0.21 PEFT lets it pass
    (tmp_path / "tests" / "__init__.py").touch()  # its files import each other relatively
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "peft_with_fourierft", "-p", "no:cacheprovider", "-q"]
    command += ["-k", "FourierFT", "--junitxml", "report.xml", "tests/test_custom_models.py"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800)
    suite = ElementTree.parse(tmp_path / "report.xml").getroot()[0]
    count = {key: int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped")}
    assert run.returncode == 0, run.stdout[-5000:]
    assert "tuner behind FOURIERFT: fourierft.tuner.model.FourierFTModel" in run.stdout
    assert count["failures"] == count["errors"] == 0
    assert count["tests"] - count["skipped"] >= expected
