"""A hub on this disk, in which the names that pages use stand for small random models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

REVISION = "0" * 40
TEMPLATE = (
    "{% for m in messages %}[BOS] {{ m['content'] }} [EOS]\n{% endfor %}{% if add_generation_prompt %}[BOS] {% endif %}"
)


@pytest.fixture
def hub_folder(tiny_bert: Path, tiny_llama: Path, tmp_path: Path) -> Path:
    """A folder for HF_HUB_CACHE: RoBERTa base is tiny_bert, SmolLM2 is tiny_llama with a chat template."""
    folder = tmp_path / "hub"
    put = _putter(folder)
    put("FacebookAI/roberta-base", tiny_bert)
    talking = put("HuggingFaceTB/SmolLM2-135M-Instruct", tiny_llama)
    (talking / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def _putter(folder: Path) -> Callable[[str, Path], Path]:
    """Puts the files of a model where a download would have put them: (name, model) -> their folder."""

    def put(name: str, model: Path) -> Path:
        place = folder / f"models--{name.replace('/', '--')}"
        snapshot = place / "snapshots" / REVISION
        snapshot.mkdir(parents=True)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(REVISION)
        for file in model.iterdir():
            (snapshot / file.name).symlink_to(file)
        return snapshot

    return put
