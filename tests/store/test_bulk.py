"""Many at once: what goes out as folders comes back the same, and one bad adapter costs no other."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fourierft.errors import CheckpointError, OutputExistsError, PlaceError, StoreError
from fourierft.files import written_beside
from fourierft.store import Adapter, AdapterStore, Layout, export_all, import_folder
from fourierft.store.bulk import folder_name

NAMES = ["../../etc", "..", " ", "a/b", "a%2Fb", "Bob", "bob", "names.json", "müller 🎈", "-rf", "n" * 500, "a\nb"]


def test_all_go_out_and_come_back(store: AdapterStore, layout: Layout, row: Any, tmp_path: Path) -> None:
    for k, name in enumerate(NAMES):
        store.put(name, layout, row(k), {"head.weight": torch.full((2, 3), float(k))}, metrics={"k": k})
    assert export_all(store, tmp_path / "out") == (len(NAMES), 0)
    assert len({path.name.lower() for path in (tmp_path / "out").iterdir()}) == len(NAMES) + 1
    with AdapterStore(tmp_path / "again.db") as again:
        assert import_folder(again, tmp_path / "out") == (len(NAMES), 0, 0)
        for k, name in enumerate(NAMES):
            adapter = again.get(name)
            assert torch.equal(adapter.values, row(k))
            assert torch.equal(adapter.heads["head.weight"], torch.full((2, 3), float(k)))
            assert adapter.metrics == {"k": k}


def test_folders_are_named_by_their_path_and_may_lie_deep(store: AdapterStore, adapter: Path, tmp_path: Path) -> None:
    for place in ("movies", "team/tweets", "movies/checkpoint-7", ".unfinished", "team/.cache/old"):
        shutil.copytree(adapter, tmp_path / "runs" / place)
    assert import_folder(store, tmp_path / "runs", "int8") == (2, 0, 0)
    assert list(store.names()) == ["movies", "team/tweets"]
    assert store.get("movies").dtype == "int8"


def test_a_second_call_adds_what_is_missing_or_next_versions(
    store: AdapterStore, adapter: Path, tmp_path: Path
) -> None:
    shutil.copytree(adapter, tmp_path / "runs/a")
    import_folder(store, tmp_path / "runs")
    shutil.copytree(adapter, tmp_path / "runs/b")
    assert import_folder(store, tmp_path / "runs") == (1, 1, 0)
    assert import_folder(store, tmp_path / "runs", update=True) == (2, 0, 0)
    assert [list(store.versions(name)) for name in "ab"] == [[1, 2], [1, 2]]
    before = load_file(adapter / "adapter_model.safetensors")
    after = store.get("a", 2).coefficients
    assert all(torch.equal(before[f"base_model.model.{key}.fourierft_spectrum"], own) for key, own in after.items())


def test_what_cannot_be_added_is_told_and_the_rest_is_added(store: AdapterStore, adapter: Path, tmp_path: Path) -> None:
    for name in ("damaged", "good", "lora"):
        shutil.copytree(adapter, tmp_path / "runs" / name)
    weights = tmp_path / "runs/damaged/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    (tmp_path / "runs/lora/adapter_config.json").write_text('{"peft_type": "LORA"}')
    told: list[str] = []
    assert import_folder(store, tmp_path / "runs", tell=told.append) == (1, 0, 2)
    assert [line.split(": ")[0] for line in told] == ["'damaged' was not added", "'lora' was not added"]
    assert list(store.names()) == ["good"]


def test_nothing_to_do_and_nowhere_to_write_are_refused(
    store: AdapterStore, adapter: Path, layout: Layout, row: Any, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="has no adapters; add some first"):
        export_all(store, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"is an adapter with adapter_config.json"):
        import_folder(store, tmp_path / "empty")
    with pytest.raises(CheckpointError, match="is an adapter itself; add it with `fourierft store add`"):
        import_folder(store, adapter)
    shutil.copytree(adapter, tmp_path / "runs/a")
    (tmp_path / "runs/names.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"names\.json cannot be read as JSON"):
        import_folder(store, tmp_path / "runs")
    store.put("a", layout, row(0))
    with pytest.raises(OutputExistsError):
        export_all(store, tmp_path / "runs")
    assert json.loads((tmp_path / "runs/a/adapter_config.json").read_text())["peft_type"] == "FOURIERFT"


def test_what_is_damaged_is_told_and_the_rest_is_exported(
    store: AdapterStore, layout: Layout, row: Any, tmp_path: Path
) -> None:
    for k in range(3):
        store.put(f"t{k}", layout, row(k))
    with store._tables.writing() as execute:
        execute("UPDATE fourierft_adapters SET seal = :sha WHERE name = 't2'", {"sha": b"other"})
    told: list[str] = []
    assert export_all(store, tmp_path / "out", told.append) == (2, 1)
    assert len(told) == 1
    assert "'t2' was not written: adapter 't2' version 1 is damaged" in told[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["names.json", "t0", "t1"]


def test_an_export_is_whole_or_not_there(
    store: AdapterStore, layout: Layout, row: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(3):
        store.put(f"t{k}", layout, row(k))
    written: list[Path] = []

    def fill(adapter: Adapter, output: Path) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(output)

    monkeypatch.setattr(Adapter, "write", fill)
    with pytest.raises(PlaceError, match="out was not written: no space is left on the disk; make room"):
        export_all(store, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("fleet.db")] == []


def test_killed_exports_leave_nothing_once_another_ends(
    store: AdapterStore, layout: Layout, row: Any, tmp_path: Path
) -> None:
    store.put("a", layout, row(0))
    adapter, folder = store.get("a"), tmp_path / "folder"
    folder.mkdir()
    (folder / ".out-projects").mkdir()
    for _ in range(3):
        child = os.fork()
        if child == 0:
            with written_beside(folder / "out"):
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
    assert len(list(folder.iterdir())) == 2
    with written_beside(folder / "other"), written_beside(folder / "out") as alive:
        adapter.write(folder / "out")
        assert alive.is_dir()
        shutil.rmtree(folder / "out")
    assert sorted(path.name for path in folder.iterdir()) == [".out-projects", "other", "out"]


def test_of_two_imports_at_once_one_adds_each_adapter(
    open_store: Callable[..., AdapterStore], adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        shutil.copytree(adapter, tmp_path / "runs" / name)
    add = AdapterStore.add
    others: list[Any] = []
    told: list[str] = []

    def late(store: AdapterStore, *arguments: Any, **options: Any) -> int:
        if not others:  # the other is done between a look for the name and its addition
            others.append(1)
            others.append(import_folder(open_store(), tmp_path / "runs"))
        return add(store, *arguments, **options)

    monkeypatch.setattr(AdapterStore, "add", late)
    store = open_store()
    assert import_folder(store, tmp_path / "runs", tell=told.append) == (0, 2, 0)
    assert others == [1, (2, 0, 0)]
    assert told == []
    assert [list(store.versions(name)) for name in ("a", "b")] == [[1], [1]]


def test_names_are_kept_where_they_can_be() -> None:
    assert folder_name("movies-harsh 2") == "movies-harsh 2"
    assert folder_name("a/b") == "a%2Fb"
    assert folder_name("..").startswith("~")
    assert folder_name("Bob", {"bob"}).startswith("Bob~")


def test_hostile_folders_are_told_one_by_one_and_the_rest_is_added(
    store: AdapterStore, adapter: Path, tmp_path: Path
) -> None:
    content = json.loads((adapter / "adapter_config.json").read_text())
    names: list[str] = []

    def put(**files: str | None) -> None:
        names.append(f"hostile-{len(names):02}")
        folder = Path(shutil.copytree(adapter, tmp_path / "runs" / names[-1]))
        for stem, text in files.items():
            file = folder / {"config": "adapter_config.json", "weights": "adapter_model.safetensors"}.get(
                stem, f"{stem}.json"
            )
            file.unlink(missing_ok=True)
            if text is None:
                os.mkfifo(file)
            else:
                file.write_text(text)

    for field, value in {
        "base_model_name_or_path": ["x"],
        "revision": {"a": 1},
        "task_type": "__class__",
        "scaling": True,
        "n_frequency_pattern": {"(": 40},
        "random_loc_seed": 2**70,
        "fourierft": {"format": 2, "entries": "bandpass", "center": 1e308, "width": 1},
        "auto_mapping": {"base_model_class": []},
    }.items():
        put(config=json.dumps({**content, field: value}))
    put(config="[" * 5000)
    put(config=json.dumps(content).replace('"scaling": ', '"scaling": 1' + "0" * 400 + ', "x": '))
    for file in ("config", "weights", "metrics", "fourierft"):
        put(**{file: None})
        put(**{file: "[1]"})
    put(metrics='{"loss": NaN}')
    put(fourierft='{"labels": ["one"]}')
    for name in ("a", "z"):
        shutil.copytree(adapter, tmp_path / "runs" / name)
    told: list[str] = []
    assert import_folder(store, tmp_path / "runs", tell=told.append) == (2, 0, len(names))
    assert [line.partition("'")[2].partition("'")[0] for line in told] == names
    assert not any("\n" in line for line in told)
    assert list(store.names()) == ["a", "z"]


def test_heads_of_other_shapes_are_found_though_the_layout_is_known(
    store: AdapterStore, adapter: Path, edit_weights: Any
) -> None:
    store.add("first", adapter)
    store.add("second", adapter)
    edit_weights(lambda tensors: tensors.update({"base_model.model.classifier.weight": torch.ones(7, 32)}))
    with pytest.raises(CheckpointError, match=r"classifier\.(weight|bias) has the shape .* in the adapter"):
        store.add("third", adapter)
