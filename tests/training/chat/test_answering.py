"""Files of prompts: every form is read, every answer is kept, nothing that was there is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fourierft.errors import DataError, OutputExistsError
from fourierft.training.chat.answering import answer_file, read_prompts
from fourierft.training.chat.conversation import Conversation
from fourierft.training.chat.speaker import Sampling, Speaker, load_speaker

GREEDY = Sampling(max_new_tokens=4)


@pytest.fixture
def speaker(chat_llama: Path) -> Speaker:
    return load_speaker(str(chat_llama), use_cpu=True)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    (tmp_path / "prompts.txt").write_text("the film\na book is\n\nvery good\nso\nthe book\n")
    return tmp_path / "prompts.txt"


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_prompt_gets_the_answer_it_gets_alone(speaker: Speaker, prompts: Path, tmp_path: Path) -> None:
    assert answer_file(speaker, prompts, tmp_path / "new" / "answers.jsonl", GREEDY, batch_size=2, quiet=True) == 5
    rows = read(tmp_path / "new" / "answers.jsonl")
    assert [row["messages"][0]["content"] for row in rows] == ["the film", "a book is", "very good", "so", "the book"]
    for row in rows:
        assert row["answer"] == speaker.answer([speaker.encode(Conversation(row["messages"]), "a prompt")], GREEDY)[0]


def test_interrupted_file_goes_on_after_its_last_whole_line(
    speaker: Speaker, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    answer_file(speaker, prompts, whole, GREEDY, 2, quiet=True)
    calls = []
    answer = Speaker.answer

    def answer_twice(self: Speaker, *arguments: Any) -> list[str]:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answer(self, *arguments)

    monkeypatch.setattr(Speaker, "answer", answer_twice)
    with pytest.raises(KeyboardInterrupt):
        answer_file(speaker, prompts, part, GREEDY, 2, quiet=True)
    assert len(read(part)) == 2
    with part.open("a") as file:
        file.write('{"messages": [{"ro')
    assert answer_file(speaker, prompts, part, GREEDY, 2, quiet=True) == 3
    assert part.read_text() == whole.read_text()
    assert answer_file(speaker, prompts, part, GREEDY, 2, quiet=True) == 0


def test_file_of_other_answers_is_left_alone(speaker: Speaker, prompts: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"messages": [], "answer": "years of work"}\n')
    with pytest.raises(OutputExistsError, match="has other content"):
        answer_file(speaker, prompts, tmp_path / "mine.jsonl", GREEDY, quiet=True)
    assert "years of work" in (tmp_path / "mine.jsonl").read_text()
    answer_file(speaker, prompts, tmp_path / "mine.jsonl", GREEDY, overwrite=True, quiet=True)
    assert len(read(tmp_path / "mine.jsonl")) == 5
    for other, sampling in ((replace(speaker, origin="another"), GREEDY), (speaker, replace(GREEDY, seed=1))):
        with pytest.raises(OutputExistsError, match="answers of another model or other settings"):
            answer_file(other, prompts, tmp_path / "mine.jsonl", sampling, quiet=True)


def test_prompt_that_does_not_fit_costs_nothing(speaker: Speaker, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("so\n" + "very " * 50)
    with pytest.raises(DataError, match=r"prompt 2 of .*long.txt has 5\d tokens"):
        answer_file(speaker, tmp_path / "long.txt", tmp_path / "answers.jsonl", GREEDY, quiet=True)
    assert not (tmp_path / "answers.jsonl").exists()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a"}, [("user", "a")]),
        ({"instruction": "a", "input": "b", "output": "c"}, [("user", "a|b")]),
        ({"instruction": "a", "input": ""}, [("user", "a")]),
        (
            {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]},
            [("system", "s"), ("user", "a")],
        ),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, [("user", "a")]),
        (
            {"instruction": "c", "system": "s", "history": [["a", "b"]]},
            [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")],
        ),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]},
            [("user", "a"), ("tool", "b")],
        ),
    ],
)
def test_every_form_of_prompt_is_read(row: dict[str, Any], expected: list[tuple[str, str]], tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text(json.dumps(row) + "\n")
    (talk,) = read_prompts(tmp_path / "prompts.jsonl", "|")
    assert [(message["role"], message["content"]) for message in talk.messages] == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"mood": "good"}, "has the columns mood; it needs messages, conversations, prompt or instruction"),
        ({"messages": [{"role": "assistant", "content": "b"}]}, "does not end with a message of the user"),
        ({"prompt": ""}, r"row 1 of .*prompts\.jsonl has the prompt '', which is not a text"),
    ],
)
def test_what_is_no_prompt_is_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=message):
        read_prompts(tmp_path / "prompts.jsonl", "\n")


def test_a_file_of_lines_is_read_without_its_mark(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes("\ufeffthe film\r\na\u2028book\r\n".encode())
    talks = read_prompts(tmp_path / "prompts.txt", "|")
    assert [talk.messages[0]["content"] for talk in talks] == ["the film", "a\u2028book"]


def test_tools_are_kept_beside_the_answer(chat_llama: Path, tmp_path: Path) -> None:
    template = (chat_llama / "chat_template.jinja").read_text()
    (chat_llama / "chat_template.jinja").write_text("{% if tools %}{{ tools[0].function.name }} {% endif %}" + template)
    speaker = load_speaker(str(chat_llama), use_cpu=True)
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": "the film", "tools": [{"name": "quite"}]}) + "\n")
    assert answer_file(speaker, tmp_path / "prompts.jsonl", tmp_path / "out.jsonl", GREEDY, quiet=True) == 1
    (row,) = read(tmp_path / "out.jsonl")
    tools = [{"type": "function", "function": {"name": "quite"}}]
    assert row["tools"] == tools
    tokens = speaker.encode(Conversation(row["messages"], tools), "a prompt")
    assert speaker.tokenizer.decode(tokens) == "quite [BOS] the film [EOS] [BOS]"
    assert row["answer"] == speaker.answer([tokens], GREEDY)[0]
    assert answer_file(speaker, tmp_path / "prompts.jsonl", tmp_path / "out.jsonl", GREEDY, quiet=True) == 0


def test_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt can't be read"):
        read_prompts(tmp_path / "none.txt", "\n")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no prompts"):
        read_prompts(tmp_path / "empty.txt", "\n")
