"""What a reader of a page has before it starts: data, pictures, recipes, and a cache of what demos would download."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from fourierft.training.assets import CONVERTED, cache_root, write_manifest
from fourierft.training.catalogue import DINOV2, MINILM, SMOLLM2, VADER, WORDNET
from fourierft.training.comparison.sources import write_parquet
from fourierft.training.sentences import ARCHIVE, MEMBERS
from tests.training.conftest import make_tar, write_wordnet

from .blocks import ROOT

REVIEWS = [("a great film", "good"), ("a dull book", "bad"), ("so lovely", "good"), ("so poor", "bad")]
CHAT = {"messages": [{"role": "user", "content": "the film"}, {"role": "assistant", "content": "so good"}]}
PAIR = {"prompt": "the film", "chosen": "so good", "rejected": "so dull"}
QUESTION = {"question_id": 81, "category": "writing", "turns": ["the film", "and the book"]}
TOPICS = [{"text": text, "labels": ["price"] if label == "good" else []} for text, label in REVIEWS]
TAGGED = {"tokens": ["the", "film", "was", "good"], "tags": ["O", "B-PER", "I-PER", "O"]}
E2E = [("name[film], food[good]", "the film is good"), ("name[book], food[dull]", "the book is dull")]
RECIPE = {
    "model_name_or_path": "FacebookAI/roberta-base",
    "train_file": "reviews.csv",
    "validation_file": "test.csv",
    "target_modules": ["query", "value"],
}
FASTCHAT = Path("FastChat/fastchat/llm_judge/data")


def write_files(folder: Path) -> None:
    """Fill the folder that a page runs in."""
    rows = [(*row, f"customer-{number}") for row in REVIEWS * 4 for number in (1, 2)]
    _write_csv(folder / "reviews.csv", ("text", "label", "customer"), rows)
    _write_csv(folder / "rows.csv", ("text", "label", "customer"), rows[:8])
    _write_csv(
        folder / "customers.csv", ("text", "label", "customer"), [(*r, n) for n in ("ann", "bob") for r in REVIEWS * 4]
    )
    _write_csv(folder / "test.csv", ("text", "label"), REVIEWS)
    for name in ("trainset", "devset", "testset_w_refs"):
        _write_csv(folder / f"e2e/{name}.csv", ("mr", "ref"), E2E * 4)
    lines: dict[str, list[dict[str, Any]]] = {
        "chats.jsonl": [CHAT] * 8,
        "pairs.jsonl": [PAIR] * 8,
        "others.jsonl": [PAIR] * 4,
        "test.jsonl": TOPICS,
        "customers.jsonl": [
            {"customer": f"customer-{k % 2 + 1}", "prompt": "the film", "answer": "so good"} for k in range(8)
        ],
        f"{FASTCHAT}/mt_bench/question.jsonl": [QUESTION],
        f"{FASTCHAT}/vicuna_bench/question.jsonl": [{**QUESTION, "turns": QUESTION["turns"][:1]}],
    }
    for name, values in lines.items():
        _make(folder / name).write_text("".join(json.dumps(value) + "\n" for value in values))
    (folder / "prompts.txt").write_text("the film\nthe book\n")
    (folder / "reviews.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "recipes").symlink_to(ROOT / "recipes")
    for name in ("photos", "more-photos"):
        for label in ("cat", "dog"):
            _write_pictures(folder / name / label, 8)
    _write_pictures(folder / "dog-photos", 4)
    _write_hub_dataset(
        folder / "nyu-mll/glue",
        "mrpc",
        [{"sentence1": text, "sentence2": text, "label": number % 2} for number, (text, _) in enumerate(REVIEWS * 4)],
    )
    _write_hub_dataset(
        folder / "timm/oxford-iiit-pet",
        "default",
        [
            {"image": {"path": None, "bytes": file.read_bytes()}, "label": file.parent.name}
            for file in sorted((folder / "photos").glob("*/*.png"))
        ],
    )


def write_cache(root: Path, bert: Path, llama: Path, dinov2: Path) -> None:
    """Fill a cache ($FOURIERFT_CACHE) with stand-ins of what demos and recipes download.

    The kernels that this machine has compiled stay where they are.
    """
    root.mkdir(parents=True)
    (cache_root() / "kernels").mkdir(parents=True, exist_ok=True)
    (root / "kernels").symlink_to(cache_root() / "kernels")
    link_files(root / MINILM.folder / "tiny/model", bert)
    link_files(root / f"{SMOLLM2.folder}{CONVERTED}", llama)
    link_files(root / f"{DINOV2.folder}{CONVERTED}", dinov2)
    rated = (("very good", 2), ("very bad", -2), ("good", 0.75), ("bad", -0.75))
    table = "\n".join(f"{k}\t{rated[k % 4][1]}\tthe film is {rated[k % 4][0]} {k}" for k in range(4000)).encode()
    _make(root / VADER.folder / ARCHIVE).write_bytes(make_tar(dict.fromkeys(MEMBERS.values(), table)))
    write_wordnet(root / WORDNET.folder)
    sentences = [{"text": text, "label": label} for text, label in REVIEWS * 8]
    digits = [{"image": {"path": None, "bytes": _picture(k)}, "label": str(k % 10)} for k in range(40)]
    data: dict[str, list[dict[str, Any]]] = {
        "movies-1600-500": sentences,
        "movies-1600-1000": sentences,
        "digits-1280-300": digits,
        "digits-1280-600": digits,
        "instructions-320-48": [{"instruction": "the film", "input": "", "output": "so good"}] * 8,
        "glosses-120-60": [{"mr": mr, "ref": ref} for mr, ref in E2E * 4],
    }
    for name, rows in data.items():
        for split in ("train", "validation"):
            write_parquet(rows, _make(root / f"compare-{name}/{split}.parquet"))
    for folder in root.iterdir():
        if folder.name != "kernels":
            write_manifest(folder)


def _make(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _write_csv(file: Path, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    with _make(file).open("w", newline="") as sink:
        csv.writer(sink).writerows([header, *rows])


def link_files(folder: Path, model: Path) -> None:
    """Make a folder of links to what is in another."""
    folder.mkdir(parents=True)
    for file in model.iterdir():
        (folder / file.name).symlink_to(file)


def _picture(seed: int) -> bytes:

    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def _write_pictures(folder: Path, count: int) -> None:
    for seed in range(count):
        _make(folder / f"{seed}.png").write_bytes(_picture(seed))


def _write_hub_dataset(folder: Path, config: str, rows: list[dict[str, Any]]) -> None:
    """A data set as the hub has it, in a folder that goes by its name: three splits of the same rows."""
    splits = ("train", "validation", "test")
    for split in splits:
        write_parquet(rows, _make(folder / f"{split}.parquet"))
    files = [{"split": split, "path": f"{split}.parquet"} for split in splits]
    head = yaml.safe_dump({"configs": [{"config_name": config, "data_files": files}]})
    (folder / "README.md").write_text(f"---\n{head}---\n")
