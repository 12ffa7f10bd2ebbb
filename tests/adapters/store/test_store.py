"""The store's promises, on every backend that is here: what goes in comes out, by name and version."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import fourierft
from fourierft import uniform_basis
from fourierft.adapters.checkpoint import read_checkpoint
from fourierft.adapters.store import AdapterStore, Layout, measure_loss
from fourierft.errors import ConfigError, ShapeError, StoreError
from fourierft.spectral.reference import reference_delta_weight

TOKENS = torch.tensor([[2, 5, 8, 13, 3], [2, 4, 9, 17, 3]])
HOSTILE = [
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    " ",
    "a\nb\tc",
    "x'; DROP TABLE fourierft_adapters; --",
    'quo"te',
    "%s :name ? %",
    "müller/テナント 🎈",
    "e\u0301",
    "\u00e9",
    "-rf",
    "n" * 500,
    "\U0010ffff" * 500,
]


def test_public_name_is_the_store() -> None:
    assert fourierft.AdapterStore is AdapterStore


def test_float32_comes_out_byte_for_byte(store: AdapterStore, adapter: Path, tmp_path: Path) -> None:
    assert store.add("reviews", adapter) == 1
    store.export("reviews", tmp_path / "out")
    before, after = (
        load_file(adapter / "adapter_model.safetensors"),
        load_file(tmp_path / "out/adapter_model.safetensors"),
    )
    assert before.keys() == after.keys()
    assert all(before[key].dtype == after[key].dtype for key in before)
    assert all(before[key].numpy().tobytes() == after[key].numpy().tobytes() for key in before)


def test_exported_adapter_answers_the_same_in_stock_peft(
    store: AdapterStore, adapter: Path, load_base: Any, stock_logits: Any, tmp_path: Path
) -> None:
    store.add("reviews", adapter)
    store.export("reviews", tmp_path / "out")
    model = peft.PeftModel.from_pretrained(load_base(), tmp_path / "out").eval()
    with torch.inference_mode():
        assert torch.equal(model(TOKENS).logits, stock_logits(TOKENS))
    assert peft.PeftConfig.from_pretrained(tmp_path / "out").target_modules == {"query", "value"}


def test_half_precision_checkpoint_comes_out_in_its_dtype(
    store: AdapterStore, edit_weights: Any, tmp_path: Path
) -> None:
    path = edit_weights(lambda tensors: tensors.update({key: t.bfloat16() for key, t in tensors.items()}))
    for dtype in ("float32", "bfloat16"):
        store.add("half", path, dtype)
        store.export("half", tmp_path / dtype)
        before, after = (
            load_file(path / "adapter_model.safetensors"),
            load_file(tmp_path / dtype / "adapter_model.safetensors"),
        )
        assert all(torch.equal(before[key], after[key]) and after[key].dtype == torch.bfloat16 for key in before)


def test_record_and_metrics_of_the_training_come_along(store: AdapterStore, adapter: Path, tmp_path: Path) -> None:
    (adapter / "fourierft.json").write_text('{"labels": ["bad", "good"]}')
    (adapter / "metrics.json").write_text('{"accuracy": 0.82}')
    store.add("reviews", adapter)
    assert store.get("reviews").metrics == {"accuracy": 0.82}
    store.export("reviews", tmp_path / "out")
    assert (tmp_path / "out/fourierft.json").read_text() == '{"labels": ["bad", "good"]}'
    store.add("reviews", adapter, metrics={"f1": 0.5})
    assert store.get("reviews").metrics == {"f1": 0.5}


def test_int8_loses_what_the_cosine_sum_says(store: AdapterStore, adapter: Path) -> None:
    store.add("small", adapter, "int8")
    kept, checkpoint = store.get("small"), read_checkpoint(adapter)
    loss = measure_loss(checkpoint, kept)
    for name, coefficients in checkpoint.coefficients.items():
        unit = coefficients.abs().max() / 127
        by_hand = (coefficients / unit).round() * unit
        torch.testing.assert_close(kept.coefficients[name], by_hand, rtol=1e-6, atol=0)
        entries = uniform_basis(32, 32, 40, 5).entries
        exact = reference_delta_weight(coefficients, entries, 32, 32, 25.0)
        lost = reference_delta_weight(by_hand, entries, 32, 32, 25.0) - exact
        assert loss.layers[name] == pytest.approx(float(lost.norm() / exact.norm()), rel=1e-4)
    assert 0 < max(loss.layers.values()) < 0.02
    assert f"{max(loss.layers.values()):.2%} in the worst" in loss.describe("int8")


def test_float32_loses_nothing(store: AdapterStore, adapter: Path) -> None:
    store.add("whole", adapter)
    loss = measure_loss(read_checkpoint(adapter), store.get("whole"))
    assert set(loss.layers.values()) == {0.0}
    assert loss.describe("float32") == ""


def test_int8_scores_as_float32_does(store: AdapterStore, adapter: Path, load_base: Any, tmp_path: Path) -> None:
    tokens = torch.randint(4, 24, (400, 8))
    classes = {}
    for dtype in ("float32", "int8"):
        store.add("scored", adapter, dtype)
        store.export("scored", tmp_path / dtype)
        with torch.inference_mode():
            classes[dtype] = (
                peft.PeftModel.from_pretrained(load_base(), tmp_path / dtype).eval()(tokens).logits.argmax(1)
            )
    assert len(classes["float32"].unique()) > 1
    assert float((classes["float32"] == classes["int8"]).float().mean()) >= 0.98


def test_same_name_makes_the_next_version(store: AdapterStore, layout: Layout, row: Any) -> None:
    assert [store.put("a", layout, row(k)) for k in range(3)] == [1, 2, 3]
    assert list(store.versions("a")) == [1, 2, 3]
    assert (len(store), "a" in store, "b" in store) == (1, True, False)
    assert torch.equal(store.get("a").values, row(2))
    assert torch.equal(store.get("a", 1).values, row(0))


def test_same_name_can_be_refused(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("a", layout, row(0), exist_ok=False)
    with pytest.raises(StoreError, match="has an adapter 'a' already, version 1; choose another name"):
        store.put("a", layout, row(1), exist_ok=False)
    assert list(store.versions("a")) == [1]


def test_removed_version_number_is_never_given_again(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k in range(3):
        store.put("a", layout, row(k))
    assert store.remove("a", 3) == 1
    assert torch.equal(store.get("a").values, row(1))
    assert store.put("a", layout, row(4)) == 4
    assert store.remove("a") == 3
    assert "a" not in store
    assert store.put("a", layout, row(5)) == 5


def test_layout_goes_with_its_last_adapter(store: AdapterStore, make_layout: Any, row: Any) -> None:
    store.put("a", make_layout(), row(0))
    store.put("b", make_layout(random_loc_seed=6), row(1))
    with pytest.raises(StoreError, match=r"different draws \(uniform:5, uniform:6\)"):
        store.coefficients()
    store.remove("b")
    assert store.coefficients().shape == (1, 60)


@pytest.mark.parametrize("name", HOSTILE)
def test_any_text_is_a_name(store: AdapterStore, layout: Layout, row: Any, name: str, tmp_path: Path) -> None:
    store.put(name, layout, row(0), metrics={name: name})
    store.put("other", layout, row(1))
    assert torch.equal(store.get(name).values, row(0))
    assert set(store.names()) == {name, "other"}
    assert [listed.name for listed in store.list(prefix=name)] == [name]
    assert store.remove(name) == 1
    assert list(store.names()) == ["other"]
    assert not [path for path in tmp_path.rglob("*") if not path.name.startswith("fleet.db")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "a name has 1 to 500 characters, this one 0"),
        ("n" * 501, "a name has 1 to 500 characters, this one 501"),
        ("a\0b", r"the name 'a\\x00b' holds a character that is no text"),
        ("\udc80", "holds a character that is no text"),
    ],
)
def test_what_is_no_name_is_refused(store: AdapterStore, layout: Layout, row: Any, name: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        store.put(name, layout, row(0))
    assert len(store) == 0


def test_names_and_lists_are_sorted_and_filtered(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k, name in enumerate(["b", "Ä", "ab", "a", "B", "ab"]):
        store.put(name, layout, row(k), dtype="int8" if name == "a" else "float32", metrics={"accuracy": k / 10})
    assert list(store.names()) == ["B", "a", "ab", "b", "Ä"]
    assert list(store.names("a")) == ["a", "ab"]
    assert [(listed.name, listed.version) for listed in store.list("a", versions=True)] == [
        ("a", 1),
        ("ab", 1),
        ("ab", 2),
    ]
    first, second = store.list("a")
    assert (first.n, first.scaling, first.dtype, first.bytes) == (60, 8.0, "int8", 60 + 3 * 4)
    assert (second.version, second.metrics) == (2, {"accuracy": 0.5})


def test_many_are_added_as_one_by_one(store: AdapterStore, layout: Layout, row: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("fourierft.adapters.store.store._BATCH_ROWS", 4)
    assert store.add_many(layout, ((f"t{k:02d}", row(k)) for k in range(10)), "bfloat16", total=10) == 10
    assert store.add_many(layout, [("t03", row(50))]) == 1
    assert len(store) == 10
    assert torch.equal(store.get("t07").values, row(7).bfloat16().float())
    assert torch.equal(store.get("t03").values, row(50))
    assert [adapter.name for adapter in store] == [f"t{k:02d}" for k in (0, 1, 2, 4, 5, 6, 7, 8, 9, 3)]


def test_error_among_many_keeps_the_transactions_before_it(
    store: AdapterStore, layout: Layout, row: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("fourierft.adapters.store.store._BATCH_ROWS", 4)
    rows = [(f"t{k}", row(k)) for k in range(6)] + [("t6", torch.zeros(59))]
    with pytest.raises(ShapeError, match=r"got coefficients of shape \[59\]; this layout of 3 layers takes \[60\]"):
        store.add_many(layout, rows)
    assert list(store.names()) == ["t0", "t1", "t2", "t3"]


def test_coefficients_are_scaled_rows_in_the_order_asked_for(store: AdapterStore, make_layout: Any, row: Any) -> None:
    store.put("b", make_layout(), row(0))
    store.put("a", make_layout(scaling=2.0), row(1))
    store.put("a", make_layout(scaling=2.0), row(2))
    torch.testing.assert_close(store.coefficients(), torch.stack([2 * row(2), 8 * row(0)]))
    torch.testing.assert_close(store.coefficients(["b"]), 8 * row(0)[None])
    with pytest.raises(StoreError, match="has no adapter 'c'"):
        store.coefficients(["b", "c"])


def test_smaller_n_is_padded_with_zeros(store: AdapterStore, make_layout: Any, row: Any) -> None:
    store.put("large", make_layout(), row(0))
    store.put("small", make_layout(n_frequency=5), row(1)[:15])
    bank = store.coefficients(["large", "small"])
    assert torch.equal(bank[1].view(3, 20)[:, :5], 8 * row(1)[:15].view(3, 5))
    assert not bank[1].view(3, 20)[:, 5:].any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(store: AdapterStore, layout: Layout, row: Any, value: float) -> None:
    with pytest.raises(ShapeError, match="hold NaN or infinity"):
        store.put("a", layout, row(0).index_fill(0, torch.tensor(3), value))


def test_another_base_is_refused_with_both_names(
    open_store: Callable[..., AdapterStore], make_layout: Any, row: Any
) -> None:
    open_store().put("a", make_layout(), row(0))
    with pytest.raises(StoreError, match=r"keeps adapters of the base org/base, but it was opened for org/other; use"):
        open_store(base_model="org/other")
    with pytest.raises(StoreError, match=r"base org/base, but what is added was made for org/other"):
        open_store().put("b", make_layout(base_model_name_or_path="org/other"), row(1))
    assert list(open_store(base_model="org/base").names()) == ["a"]


def test_adapter_of_another_base_is_refused_and_its_new_place_can_be_told(
    open_store: Callable[..., AdapterStore], adapter: Path, edit_config: Any, tiny_bert: Path
) -> None:
    store = open_store(base_model=str(tiny_bert))
    edit_config(base_model_name_or_path="org/other")
    with pytest.raises(StoreError, match=r"tiny_bert.*was made for org/other"):
        store.add("a", adapter)
    assert store.add("a", adapter, base=str(tiny_bert)) == 1
    assert store.get("a").layout.bases is not None


def test_adapter_without_a_base_is_refused(store: AdapterStore, edit_config: Any) -> None:
    with pytest.raises(StoreError, match="names no base model"):
        store.add("a", edit_config(base_model_name_or_path=None))


def test_unknown_dtype_is_refused_before_anything_is_read(store: AdapterStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dtype=int4"):
        store.add("a", tmp_path / "gone", "int4")


def test_missing_adapter_and_version_are_named(store: AdapterStore, layout: Layout, row: Any) -> None:
    with pytest.raises(StoreError, match="has no adapter 'a'"):
        store.get("a")
    store.put("a", layout, row(0))
    for call in (store.get, store.remove):
        with pytest.raises(StoreError, match="'a' has no version 7; there are 1"):
            call("a", 7)


def test_store_that_is_not_there_is_empty_or_refused(open_store: Callable[..., AdapterStore]) -> None:
    with pytest.raises(StoreError, match=r"there is no store .*`fourierft store add` makes one"):
        open_store(create=False)
    store = open_store()
    assert (len(store), list(store), list(store.list()), store.verify()) == (0, [], [], [])
    assert store.coefficients().shape == (0, 0)


def test_newer_format_is_refused(open_store: Callable[..., AdapterStore], layout: Layout, row: Any) -> None:
    store = open_store()
    store.put("a", layout, row(0))
    with store.tables.writing() as execute:
        execute("UPDATE fourierft_store SET value = '2' WHERE key = 'format'", {})
    with pytest.raises(StoreError, match="is a store of format 2, this version reads format 1; upgrade fourierft"):
        open_store()


@pytest.mark.parametrize("column", ["coefficients", "heads"])
def test_flipped_byte_is_found_when_it_is_read(store: AdapterStore, layout: Layout, row: Any, column: str) -> None:
    for k, name in enumerate(["a", "b", "c"]):
        store.put(name, layout, row(k), heads={"head.weight": row(k).view(2, 30)})
    blob = next(store.tables.rows(f"SELECT {column} FROM fourierft_adapters WHERE name = 'b'"))[0]
    with store.tables.writing() as execute:
        changed = bytes([*blob[:-1], blob[-1] ^ 4])
        execute(f"UPDATE fourierft_adapters SET {column} = :blob WHERE name = 'b'", {"blob": changed})
    message = "adapter 'b' version 1 is damaged: its bytes have another SHA-256 than when it was added"
    for read in (lambda: store.get("b"), store.coefficients, lambda: list(store)):
        with pytest.raises(StoreError, match=message):
            read()
    assert len(store.verify()) == 1
    assert message in store.verify()[0]
    assert torch.equal(store.get("a").values, row(0))
    assert torch.equal(store.get("c").heads["head.weight"], row(2).view(2, 30))


def test_blob_of_another_length_is_found(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("a", layout, row(0))
    with store.tables.writing() as execute:
        execute("UPDATE fourierft_adapters SET dtype = 'int8'", {})
    with pytest.raises(StoreError, match="'a' version 1 has 240 bytes of coefficients, but 60 of them in int8 take 72"):
        store.get("a")


def test_changed_layout_is_found(open_store: Callable[..., AdapterStore], layout: Layout, row: Any) -> None:
    open_store().put("a", layout, row(0))
    with open_store().tables.writing() as execute:
        execute("UPDATE fourierft_layouts SET config = REPLACE(config, '8.0', '9.0')", {})
    with pytest.raises(StoreError, match="the layout 1 has another SHA-256"):
        open_store().get("a")
    assert len(open_store().verify()) == 1


def test_digest_is_that_of_the_blobs(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("a", layout, row(0), heads={"head": row(1)})
    coefficients, heads, digest = next(
        store.tables.rows("SELECT coefficients, heads, sha256 FROM fourierft_adapters WHERE name = 'a'")
    )
    assert coefficients == row(0).numpy().tobytes()
    assert hashlib.sha256(coefficients + heads).digest() == bytes(digest)


def test_readers_see_whole_adapters_while_one_writes(
    open_store: Callable[..., AdapterStore], location: Any, layout: Layout, row: Any
) -> None:
    writer = open_store()
    writer.put("t000", layout, row(0))
    done, wrong = threading.Event(), []

    def read() -> None:
        with AdapterStore(location) as reader:
            while not done.is_set():
                for adapter in reader:
                    k = int(adapter.name[1:])
                    if not torch.equal(adapter.values, row(k)):
                        wrong.append(adapter.name)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for k in range(1, 40):
        writer.put(f"t{k:03d}", layout, row(k))
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(writer) == 40


def test_one_store_serves_threads(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k in range(8):
        store.put(str(k), layout, row(k))
    right = []
    threads = [
        threading.Thread(target=lambda k=k: right.append(torch.equal(store.get(str(k)).values, row(k))))
        for k in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 8


def test_second_writer_waits_and_then_says_so(
    open_store: Callable[..., AdapterStore], layout: Layout, row: Any
) -> None:
    first, second = open_store(), open_store(timeout=0.2)
    first.put("a", layout, row(0))
    with (
        first.tables.writing(),
        pytest.raises(StoreError, match=r"another process is writing .*\(waited 0\.2 s\); try"),
    ):
        second.put("b", layout, row(1))
    assert second.put("b", layout, row(1)) == 1


def test_folder_with_something_in_it_is_left_alone(store: AdapterStore, adapter: Path) -> None:
    store.add("a", adapter)
    before = sorted(path.read_bytes() for path in adapter.iterdir())
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        store.export("a", adapter)
    assert sorted(path.read_bytes() for path in adapter.iterdir()) == before


def test_damaged_adapter_adds_nothing(store: AdapterStore, adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors[next(key for key in tensors if "spectrum" in key)][0] = float("nan")
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="holds NaN"):
        store.add("a", adapter)
    assert len(store) == 0
