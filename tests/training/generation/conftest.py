"""E2E in small: files in its layout, a random GPT-2 that knows their words, and a folder of WordNet's files."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import pytest
import torch

NAMES, KINDS, PRICES = ("Aromi", "Strada", "Zizzi", "Vaults"), ("pub", "restaurant", "bar"), ("cheap", "high")
WORDS = (*NAMES, *KINDS, *PRICES, *("name", "eatType", "price", "is", "a", "has", "prices", "The", "the", "There"))
MARKS = ("[", "]", ",", ".")


def e2e_rows() -> list[tuple[str, str]]:
    """Two references of each of 24 meaning representations."""
    rows = []
    for name, kind, price in itertools.product(NAMES, KINDS, PRICES):
        mr = f"name [ {name} ] , eatType [ {kind} ] , price [ {price} ]"
        rows += [(mr, f"{name} is a {price} {kind} ."), (mr, f"The {kind} {name} has {price} prices .")]
    return rows


@pytest.fixture(scope="session")
def e2e(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with trainset.csv, devset.csv and testset_w_refs.csv: columns mr and ref."""
    folder = tmp_path_factory.mktemp("e2e")
    rows = e2e_rows()
    parts = {"trainset": rows[:36], "devset": rows[36:40], "testset_w_refs": rows[40:]}
    for name, part in parts.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerow(["mr", "ref"])
            writer.writerows(part)
    return folder


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random GPT-2, 2 layers x 32, with a tokenizer of those words and GPT-2's one special token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_gpt2")
    end = "<|endoftext|>"
    vocabulary = {word: index for index, word in enumerate([end, *WORDS, *MARKS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=end))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=end, bos_token=end, eos_token=end, model_max_length=64
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.2,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def write_wordnet(folder: Path) -> None:
    """Files of a WordNet of six meanings, in the format of wndb(5WN)."""
    lines = {
        "noun": [
            ("03 n 01 entity 0 000", "that which is"),
            ("05 n 02 dog 0 domestic_dog 0 001 @ {0} n 0000", 'a tame animal; often a pet; "the dog barked"'),
            ("05 n 02 man 0 adult_male 0 001 @ {0} n 0000", "a grown male"),
        ],
        "verb": [("30 v 02 run 0 sprint 0 000 01 + 02 00", "move fast")],
        "adj": [("00 s 02 big(p) 0 large 0 000", "of great size")],
        "adv": [("02 r 01 fast 0 000", "quickly")],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, entries in lines.items():
        text, offsets = "  1 a licence of one line  \n", []
        for fields, gloss in entries:
            offsets.append(len(text))
            text += f"{offsets[-1]:08d} {fields.format(f'{offsets[0]:08d}')} | {gloss}  \n"
        (folder / f"data.{name}").write_text(text)
        words: dict[str, list[int]] = {}
        for (fields, _), offset in zip(entries, offsets, strict=True):
            for word in fields.split()[3 : 3 + 2 * int(fields.split()[2]) : 2]:
                words.setdefault(word.partition("(")[0], []).append(offset)
        index = "".join(
            f"{word} {name[0]} {len(found)} 0 {len(found)} 0 {' '.join(f'{o:08d}' for o in found)}  \n"
            for word, found in words.items()
        )
        (folder / f"index.{name}").write_text("  1 a licence of one line  \n" + index)
    (folder / "verb.exc").write_text("ran run\n")


@pytest.fixture(scope="session")
def wordnet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `write_wordnet` makes."""
    folder = tmp_path_factory.mktemp("wordnet")
    write_wordnet(folder)
    return folder
