"""E2E from its csv files to five metrics on a tiny GPT-2: the recipe's settings, several references, resuming."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from fourierft.errors import CheckpointError, ConfigError, DataError, OutputExistsError
from fourierft.training.arguments import DataArguments
from fourierft.training.generation import run
from fourierft.training.generation.decoding import Decoding
from fourierft.training.generation.metrics import score_texts
from fourierft.training.generation.wordnet import WordNet
from fourierft.training.run import train
from fourierft.training.settings import build_arguments, read_config

RECIPE = Path(__file__).parents[3] / "recipes" / "e2e" / "gpt2-medium.yaml"
SHORT = Decoding(num_beams=3, max_new_tokens=12)


@pytest.fixture(scope="module")
def trained(e2e: Path, tiny_gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipe makes of a tiny GPT-2 in 80 steps, from zeros, at a scaling and a learning rate for its size."""
    out = tmp_path_factory.mktemp("trained") / "out"
    small: dict[str, Any] = {
        "model_name_or_path": str(tiny_gpt2),
        "train_file": str(e2e / "trainset.csv"),
        "validation_file": str(e2e / "devset.csv"),
        "output_dir": str(out),
        "max_steps": 80,
        "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 1,
        "n_frequency": 1000,
        "scaling": "auto",
        "init_weights": True,
        "learning_rate": 1e-1,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    train(build_arguments({**read_config(RECIPE), **small}))
    return out


@pytest.fixture
def write(trained: Path, e2e: Path, tmp_path: Path, wordnet_folder: Path) -> Callable[..., dict[str, Any]]:
    """Generates for the test set into `tmp_path / "texts"`, any argument changed."""

    def write(decoding: Decoding = SHORT, directory: Path = trained, **changes: Any) -> dict[str, Any]:
        data = DataArguments(test_file=str(e2e / "testset_w_refs.csv"))
        arguments = {"data": data, "folder": tmp_path / "texts", "wordnet": str(wordnet_folder), "quiet": True}
        return run.generate(directory, decoding=decoding, **{**arguments, "use_cpu": True, **changes})

    return write


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_recipe_smooths_labels_decays_weights_and_adapts_conv1d(trained: Path, tiny_gpt2: Path) -> None:
    record = json.loads((trained / "fourierft.json").read_text())
    assert (record["inputs"], record["text_columns"], record["label_column"]) == ("prompt", ["mr"], "ref")
    assert record["settings"]["target_modules"] == ["c_attn"]
    settings = build_arguments({**read_config(RECIPE), "output_dir": "out"}).training
    assert (settings.label_smoothing_factor, settings.weight_decay, settings.num_train_epochs) == (0.1, 0.01, 5)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's use of it
def test_loss_is_smoothed_over_all_words_on_the_answer_alone(trained: Path, tiny_gpt2: Path, e2e: Path) -> None:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_gpt2), trained).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2)
    total, count = 0.0, 0
    with (e2e / "devset.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            prompt, answer = (tokenizer(text).input_ids for text in (f"<|endoftext|>{row['mr']}\n", row["ref"]))
            answer = [*answer, tokenizer.eos_token_id]
            with torch.no_grad():
                chances = -model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            for place, token in enumerate(answer, start=len(prompt) - 1):
                total += float(0.9 * chances[place, token] + 0.1 * chances[place].mean())
                count += 1
    metrics = json.loads((trained / "metrics.json").read_text())["eval"]
    assert metrics["loss"] == pytest.approx(total / count, rel=1e-4)
    assert metrics["answer_loss"] < metrics["loss"]


def test_texts_are_scored_against_all_references_of_their_prompt(
    write: Callable[..., dict[str, Any]], tmp_path: Path, e2e: Path, wordnet_folder: Path
) -> None:
    metrics = write()
    rows = lines(tmp_path / "texts" / "predictions.jsonl")
    given = (e2e / "testset_w_refs.csv").read_text().splitlines()[1:]
    assert (metrics["items"], metrics["references"]) == (4, 8)
    assert [f'"{row["prompt"]}","{text}"' for row in rows for text in row["references"]] == given
    expected = score_texts(
        [row["prediction"] for row in rows], [row["references"] for row in rows], WordNet(wordnet_folder)
    )
    assert {name: metrics[name] for name in expected} == expected
    assert json.loads((tmp_path / "texts" / "metrics.json").read_text()) == metrics
    assert metrics["meteor_synonyms"] is True


def test_training_teaches_to_put_data_into_words(write: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    after = write()
    before = write(without_adapter=True, folder=tmp_path / "before")
    assert after["rouge_l"] > before["rouge_l"] + 20
    assert after["nist"] > before["nist"] + 1


def test_texts_without_the_adapter_are_the_base_model_s(
    write: Callable[..., dict[str, Any]], tmp_path: Path, tiny_gpt2: Path
) -> None:
    write(Decoding(1, no_repeat_ngram_size=0, max_new_tokens=6), without_adapter=True)
    model = AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2)
    for row in lines(tmp_path / "texts" / "predictions.jsonl"):
        tokens = tokenizer(f"<|endoftext|>{row['prompt']}\n", return_tensors="pt").input_ids
        start = tokens.shape[1]
        while tokens.shape[1] < start + 6 and (tokens.shape[1] == start or tokens[0, -1] != 0):
            with torch.no_grad():
                tokens = torch.cat([tokens, model(tokens).logits[:, -1:].argmax(-1)], dim=1)
        assert row["prediction"] == tokenizer.decode(tokens[0, start:], skip_special_tokens=True).strip()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's use of it
def test_greedy_texts_are_those_of_stock_generation(
    write: Callable[..., dict[str, Any]], tmp_path: Path, tiny_gpt2: Path, trained: Path
) -> None:
    write(Decoding(1, no_repeat_ngram_size=0, max_new_tokens=8))
    base = AutoModelForCausalLM.from_pretrained(tiny_gpt2)
    model = PeftModel.from_pretrained(base, trained).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2)
    row = lines(tmp_path / "texts" / "predictions.jsonl")[0]
    tokens = tokenizer(f"<|endoftext|>{row['prompt']}\n", return_tensors="pt").input_ids
    with torch.no_grad():
        out = model.generate(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=8, pad_token_id=0, do_sample=False
        )
    assert row["prediction"] == tokenizer.decode(out[0, tokens.shape[1] :], skip_special_tokens=True).strip()


def test_interrupted_generation_goes_on_with_what_is_missing(
    write: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write(batch_size=1, folder=tmp_path / "whole")
    done: list[int] = []
    generate = run.generate_texts

    def stop_after_two(*arguments: Any) -> list[str]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return generate(*arguments)

    monkeypatch.setattr(run, "generate_texts", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        write(batch_size=1)
    unfinished = tmp_path / "texts" / "unfinished.jsonl"
    assert len(lines(unfinished)) == 2
    unfinished.write_text(unfinished.read_text() + '{"item": 3, "pred')  # a killed process's half a line
    asked: list[int] = []
    monkeypatch.setattr(run, "generate_texts", lambda *given: asked.append(len(given[2])) or generate(*given))
    assert write(batch_size=1) == whole
    assert asked == [1, 1]
    assert not unfinished.exists()
    assert lines(tmp_path / "texts" / "predictions.jsonl") == lines(tmp_path / "whole" / "predictions.jsonl")
    monkeypatch.setattr(run, "generate_texts", None)
    assert write() == whole  # finished: only scored again


def test_folder_of_other_texts_is_left_alone(write: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    write()
    before = (tmp_path / "texts" / "predictions.jsonl").read_text()
    other = Decoding(num_beams=2, max_new_tokens=5)
    with pytest.raises(OutputExistsError, match="holds texts of another num_beams, max_new_tokens; choose another"):
        write(other)
    assert (tmp_path / "texts" / "predictions.jsonl").read_text() == before
    assert write(other, overwrite=True)["decoding"]["num_beams"] == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    with pytest.raises(OutputExistsError, match="holds something else"):
        write(folder=tmp_path / "mine")
    write(folder=tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "mine"


def test_files_of_the_challenge_s_script_hold_a_text_a_line(
    write: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write()
    rows = lines(tmp_path / "texts" / "predictions.jsonl")
    assert (tmp_path / "texts" / "system.txt").read_text().splitlines() == [row["prediction"] for row in rows]
    groups = (tmp_path / "texts" / "references.txt").read_text().rstrip("\n").split("\n\n")
    assert [group.split("\n") for group in groups] == [row["references"] for row in rows]


def test_prompts_are_drawn_with_all_their_references(write: Callable[..., dict[str, Any]], e2e: Path) -> None:
    data = DataArguments(test_file=str(e2e / "testset_w_refs.csv"), max_eval_samples=3)
    metrics = write(data=data)
    assert (metrics["items"], metrics["references"]) == (3, 6)


def test_references_may_stand_in_a_list(write: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    rows = [{"meaning_representation": "name [ Aromi ]", "references": ["Aromi is a pub .", "The pub Aromi ."]}]
    (tmp_path / "gem.json").write_text(json.dumps(rows))
    named: dict[str, Any] = {"text_column": ["meaning_representation"], "label_column": "references"}
    assert write(data=DataArguments(test_file=str(tmp_path / "gem.json"), **named))["references"] == 2


def test_file_without_the_columns_names_what_it_has(write: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("data,text\na,b\n")
    with pytest.raises(DataError, match="there is no column mr; the data has the columns data, text"):
        write(data=DataArguments(test_file=str(tmp_path / "other.csv")))
    with pytest.raises(DataError, match="there is no column ref; the data has the columns data, text"):
        write(data=DataArguments(test_file=str(tmp_path / "other.csv"), text_column=["data"]))


def test_prompt_that_leaves_no_room_is_refused_before_anything_is_written(
    write: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "long.csv").write_text(f"mr,ref\nname,Aromi\n{'name ' * 60},Aromi\n")
    with pytest.raises(DataError, match=r"prompt 2 .* has 61 tokens, .* max_new_tokens=12 in the 64 tokens"):
        write(data=DataArguments(test_file=str(tmp_path / "long.csv")))
    assert not (tmp_path / "texts").exists()


@pytest.mark.parametrize("text", ["", " "])
def test_row_without_a_reference_is_refused(text: str, write: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"mr": "name", "ref": "Aromi"}, {"mr": "name", "ref": text}]))
    with pytest.raises(DataError, match=r"in row 2 of .*rows\.json is not a text; fill or remove it"):
        write(data=DataArguments(test_file=str(tmp_path / "rows.json")))


def test_what_can_t_write_is_refused(write: Callable[..., dict[str, Any]], trained: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(trained, tmp_path / "other"))
    record = json.loads((other / "fourierft.json").read_text())
    (other / "fourierft.json").write_text(json.dumps({**record, "inputs": "text", "task": "classification"}))
    with pytest.raises(ConfigError, match="was trained for classification and cannot generate texts"):
        write(directory=other)
    (other / "fourierft.json").write_text(json.dumps({**record, "is_adapter": False}))
    with pytest.raises(ConfigError, match="is not an adapter, so --without_adapter does not apply"):
        write(directory=other, without_adapter=True)
    with pytest.raises(ConfigError, match="batch_size=0 is too small"):
        write(batch_size=0)
    with pytest.raises(CheckpointError, match="name a directory that `fourierft train` wrote"):
        write(directory=tmp_path)
