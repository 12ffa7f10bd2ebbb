"""Tags of words: aligned with tokens, scored and shown, compared with what is counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    EvalPrediction,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
)

from fourierft.errors import ConfigError, DataError
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.columns import Columns
from fourierft.training.families.registry import find_families
from fourierft.training.families.spans import find_spans
from fourierft.training.families.tokens import TokenClasses
from fourierft.training.reading import read_rows

COLUMNS = Columns(("tokens",), "ner_tags")
NAMES = TokenClasses(("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))


def make_rows(*pairs: tuple[Any, Any]) -> Dataset:
    return Dataset.from_dict({"tokens": [words for words, _ in pairs], "ner_tags": [tags for _, tags in pairs]})


@pytest.fixture
def pieces(tmp_path: Path) -> Any:
    """A tokenizer that cuts words into pieces: films is film ##s, goodly is good ##l ##y."""
    words = ["[UNK]", "[PAD]", "film", "##s", "good", "##l", "##y", "is"]
    tokenizer = Tokenizer(models.WordPiece({word: k for k, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")


def test_the_first_piece_of_a_word_has_its_tag(pieces: Any) -> None:
    rows = make_rows((["films", "is", "goodly"], ["B-PER", "O", "B-LOC"]), (["is"], ["O"]))
    labels = NAMES.encode_labels(rows["ner_tags"][:])
    assert labels == [[1, 0, 3], [0]]
    encoded = NAMES.encode_rows(rows, COLUMNS, labels, pieces, None)
    assert pieces.convert_ids_to_tokens(encoded[0]["input_ids"]) == ["film", "##s", "is", "good", "##l", "##y"]
    assert encoded["labels"][:] == [[1, -100, 0, 3, -100, -100], [0]]
    batch = NAMES.collator(pieces)([encoded[0], encoded[1]])
    assert batch["labels"].tolist() == [[1, -100, 0, 3, -100, -100], [0, -100, -100, -100, -100, -100]]


def test_rows_that_are_cut_are_told_and_keep_the_tags_of_whole_words(
    pieces: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_rows((["films", "is", "goodly"], ["O", "O", "O"]), (["is"], ["O"]))
    encoded = NAMES.encode_rows(rows, COLUMNS, [[0, 0, 0], [0]], pieces, 3)
    assert encoded["labels"][:] == [[0, -100, 0], [0]]
    assert "longer than max_length=3 tokens, and cut there: 1 of 2 rows, first row 1" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["is", "   ", "film"], ["film", "is", "   "], ["   "]])
@pytest.mark.parametrize("limit", [None, 64, 1])
def test_a_word_that_the_tokenizer_leaves_out_is_told(pieces: Any, words: list[str], limit: int | None) -> None:
    rows = make_rows((words, ["O"] * len(words)))
    with pytest.raises(
        DataError, match=r"the tokenizer has no token for the word '   ' in row 1; replace or remove it"
    ):
        NAMES.encode_rows(rows, COLUMNS, [[0] * len(words)], pieces, limit)


def test_a_row_of_which_no_word_is_left_is_told(pieces: Any) -> None:
    pieces.add_special_tokens({"cls_token": "[CLS]"})
    pieces.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", pieces.convert_tokens_to_ids("[CLS]"))]
    )
    rows = make_rows((["films", "is"], ["O", "O"]))
    assert NAMES.encode_rows(rows, COLUMNS, [[0, 1]], pieces, 2)["labels"][:] == [[-100, 0]]
    with pytest.raises(
        DataError, match=r"no word of row 1 is left within max_length=1 tokens; raise --max_length, or "
    ):
        NAMES.encode_rows(rows, COLUMNS, [[0, 1]], pieces, 1)


def test_a_tag_that_keeps_names_from_being_scored_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert TokenClasses(("B-PER", "I-PER", "O", "o")).metrics == ("accuracy",)
    TokenClasses(("B-PER", "I-PER", "O", "o")).start(None, DataArguments(), 0)
    assert capsys.readouterr().out == (
        "some tags begin with B- or I-, as in names, but o does not, so names are not scored; write O for words "
        "outside names\n"
    )
    for tags in (("B-PER", "I-PER", "O"), ("NOUN", "VERB")):
        TokenClasses(tags).start(None, DataArguments(), 0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O B-PER I-PER O B-LOC", [("PER", 1, 3), ("LOC", 4, 5)]),
        ("B-PER B-PER I-LOC", [("PER", 0, 1), ("PER", 1, 2), ("LOC", 2, 3)]),
        ("I-PER I-PER O I-PER", [("PER", 0, 2), ("PER", 3, 4)]),  # as CoNLL 2003 came
        ("B-PER I-PER E-PER E-PER S-LOC S-LOC", [("PER", 0, 3), ("PER", 3, 4), ("LOC", 4, 5), ("LOC", 5, 6)]),
        ("B-PER L-PER U-LOC I-LOC", [("PER", 0, 2), ("LOC", 2, 3), ("LOC", 3, 4)]),
        ("B-org-x I-org-x", [("org-x", 0, 2)]),
        ("O O", []),
        ("NOUN VERB", []),
    ],
)
def test_names_are_those_that_the_tags_tell(tags: str, spans: list[tuple[str, int, int]]) -> None:
    assert find_spans(tags.split()) == spans


def test_metrics_are_those_counted_by_hand() -> None:
    expected = np.array([[1, 2, 0, 3], [0, 1, -100, -100], [-100, 3, 4, 0]])
    predicted = np.array([[1, 2, 0, 1], [0, 1, -100, -100], [-100, 3, 0, 0]], dtype=np.float32)
    # names there: PER 0-2, LOC 3-4; PER 1-2; LOC 0-2. Found: PER 0-2, PER 3-4; PER 1-2; LOC 0-1. Right: two.
    scores = NAMES.score(EvalPrediction(predicted, expected))
    assert scores == pytest.approx({"f1": 0.5, "precision": 2 / 4, "recall": 2 / 4, "accuracy": 7 / 9})
    assert tuple(scores) == NAMES.metrics
    none = NAMES.score(EvalPrediction(np.zeros((1, 2)), np.array([[0, 0]])))
    assert none == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": 1.0}
    parts = TokenClasses(("NOUN", "VERB"))
    assert parts.score(EvalPrediction(np.array([[0, 1, 1]]), np.array([[0, 0, 1]]))) == {"accuracy": 2 / 3}


def test_predictions_are_tags_and_the_names_they_make() -> None:
    logits = torch.eye(5)[[1, 2, 0, 3]][None] * 9
    kept = NAMES.reduce((logits,), torch.tensor([[1, -100, 0, 0]]))
    assert kept.tolist() == [[1, -100, 0, 3]]
    (row,) = NAMES.decode(kept.numpy())
    assert row == {
        "prediction": ["B-PER", "O", "B-LOC"],
        "spans": [{"label": "PER", "start": 0, "end": 1}, {"label": "LOC", "start": 2, "end": 3}],
    }
    assert TokenClasses(("NOUN", "VERB")).decode(np.array([[1, 0]])) == [{"prediction": ["VERB", "NOUN"]}]


def test_losses_of_rows_are_those_of_transformers(tiny_bert: Path) -> None:
    model = AutoModelForTokenClassification.from_pretrained(tiny_bert, **NAMES.model_settings()).eval()
    labels = torch.tensor([[0, 1, -100, 2], [-100, 3, -100, -100], [4, 4, 4, 4]])
    with torch.no_grad():
        out = model(input_ids=torch.randint(4, 20, (3, 4)), labels=labels)
    losses, counts = NAMES.row_losses(out.logits, labels), NAMES.row_counts(labels)
    assert counts.tolist() == [3, 1, 4]
    torch.testing.assert_close(losses.sum() / counts.sum(), out.loss)


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        (["Ann", "sings"], ["B-PER"], "row 2 has 2 words in tokens, but 1 tags in ner_tags; give each word one tag"),
        ([], [], "column tokens is empty in row 2, which is not a list of words"),
        (
            ["Ann", " "],
            ["O", "O"],
            r"column tokens holds \['Ann', ' '\] in row 2, which is not a list of words; write one",
        ),
        (["Ann"], [None], r"column ner_tags holds \[None\] in row 2, .* name another --label_column"),
    ],
)
def test_what_is_no_sentence_of_tagged_words_is_told_with_its_row(words: Any, tags: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        NAMES.check_rows(make_rows((["Bob"], ["O"]), (words, tags)), COLUMNS)


def test_usual_columns_of_words_and_tags_call_for_it() -> None:
    rows = make_rows((["a"], ["O"]))
    assert find_families(rows, DataArguments()) == [TokenClasses()]
    assert TokenClasses().find_columns(rows, None, None) == COLUMNS
    with_text = rows.add_column("text", ["a"])
    assert find_families(with_text, DataArguments()) == [TokenClasses()]
    with_text = with_text.add_column("label", ["b"])
    assert find_families(with_text, DataArguments())[0].kind == "text"
    assert find_families(rows, DataArguments(text_column=["tokens"]))[0].kind == "text"
    assert find_families(with_text, DataArguments(task="token_classification")) == [TokenClasses()]
    with pytest.raises(
        DataError,
        match=r"no column among text, tags is named tokens.*; name it with --text_column",
    ):
        NAMES.find_columns(Dataset.from_dict({"text": ["a b"], "tags": [["O", "O"]]}), None, None)
    with pytest.raises(DataError, match="no column looks like the label among tokens; name it with --label_column"):
        TokenClasses().find_columns(rows.select_columns("tokens"), None, None)


def test_tags_are_those_that_the_data_set_names() -> None:
    names = ["O", "B-PER", "I-PER"]
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))})
    rows = Dataset.from_dict({"tokens": [["Ann", "sings"]], "ner_tags": [[1, 0]]}, features=features)
    reading = read_rows({"train": rows}, DataArguments())
    assert (reading.family, reading.labels) == (TokenClasses(tuple(names)), {"train": [[1, 0]]})
    with pytest.raises(DataError, match="column ner_tags has only the tag O; training needs at least two"):
        read_rows({"train": make_rows((["a"], ["O"]))}, DataArguments())


def test_a_tokenizer_of_bytes_is_told_that_words_have_a_blank_before_them(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "Ġ", "Ġa", "Ġb"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges: Any = [("Ġ", "a"), ("Ġ", "b")]
    RobertaTokenizer(vocabulary, merges, add_prefix_space=False).save_pretrained(tmp_path)
    tokenizer = NAMES.load_processor(ModelArguments(model_name_or_path=str(tmp_path)), DataArguments())
    encoded = tokenizer(["a", "b"], is_split_into_words=True)
    assert encoded.word_ids() == [None, 0, 1, None]
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"])[1:-1] == ["Ġa", "Ġb"]
    plain = AutoTokenizer.from_pretrained(tiny_bert)
    monkeypatch.setattr(type(plain), "is_fast", property(lambda self: False))
    with pytest.raises(ConfigError, match="does not tell which word a token is of; use a model with a tokenizer"):
        NAMES.load_processor(ModelArguments(model_name_or_path=str(tiny_bert)), DataArguments())
