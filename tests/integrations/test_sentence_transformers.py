"""sentence-transformers trains, saves and loads this package's adapter by its own `add_adapter` and `load_adapter`."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Run

PROGRAM = """
import sys
import torch
import fourierft
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import CosineSimilarityLoss
from sentence_transformers.models import Pooling, Transformer

fourierft.enable()
words = Transformer(sys.argv[1])
model = SentenceTransformer(modules=[words, Pooling(words.get_word_embedding_dimension())], device="cpu")
sentences = ["the film is good", "the book is dull"]
before = model.encode(sentences)
model.add_adapter(fourierft.FourierFTConfig(n_frequency=50, target_modules=["q_proj", "v_proj"]))
assert (model.encode(sentences) == before).all()
rows = [{"sentence1": a, "sentence2": b, "score": float(a == b)} for a in sentences for b in sentences] * 4
arguments = SentenceTransformerTrainingArguments("run", max_steps=5, learning_rate=1e-2, use_cpu=True, report_to="none")
SentenceTransformerTrainer(model, arguments, Dataset.from_list(rows), loss=CosineSimilarityLoss(model)).train()
after = model.encode(sentences)
assert abs(after - before).max() > 1e-3
model.save_pretrained("saved")
again = SentenceTransformer("saved", device="cpu")
torch.testing.assert_close(torch.tensor(again.encode(sentences)), torch.tensor(after))
"""


def test_an_adapter_is_added_trained_saved_and_loaded(run: Run, base: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    run("python", "program.py", base)
    (config,) = (tmp_path / "saved").rglob("adapter_config.json")
    assert json.loads(config.read_text())["fourierft"]["scaling"] == "auto"
