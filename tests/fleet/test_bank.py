"""Adapters come, change and go; a batch gets those it names, or an error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fourierft.errors import ConfigError, ShapeError, StoreError
from fourierft.fleet import BASE, AdapterBank
from fourierft.store import AdapterStore, Layout

SHAPES = {"a.query": (16, 12), "a.value": (12, 16)}


def make_layout(seed: int = 5, n_frequency: int = 20, shapes=SHAPES) -> Layout:
    config = {"peft_type": "FOURIERFT", "base_model_name_or_path": "org/base", "scaling": 8.0}
    return Layout.make({**config, "n_frequency": n_frequency, "random_loc_seed": seed}, shapes)


def row(k: int, total: int = 40) -> torch.Tensor:
    return torch.randn(total, generator=torch.Generator().manual_seed(k))


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    """A store of twelve adapters, named by their number."""
    store = AdapterStore(tmp_path / "fleet.db")
    store.add_many(make_layout(), ((str(k), row(k)) for k in range(12)))
    return store


@pytest.fixture
def coefficients() -> Callable[..., torch.Tensor]:
    """The rows of a batch of one draw, [rows, 40]."""

    def gather(bank: AdapterBank, names: list[str]) -> torch.Tensor:
        (part,) = bank.gather(names).parts
        return torch.cat([part.coefficients["a.query"], part.coefficients["a.value"]], 1)

    return gather


def test_a_store_is_loaded_whole_or_in_part(store: AdapterStore, coefficients) -> None:
    assert AdapterBank(store).load(["3", "7", "3"]).names() == ["3", "7"]
    bank = AdapterBank(store).load()
    assert len(bank) == 12
    assert torch.equal(coefficients(bank, ["7", BASE, "3"]), 8 * torch.stack([row(7), torch.zeros(40), row(3)]))
    assert bank.nbytes == 13 * 40 * 4


def test_adapters_are_loaded_when_they_are_asked_for_and_the_least_recent_goes(store, coefficients) -> None:
    bank = AdapterBank(store, capacity=3)
    for names in (["0", "1"], ["2", "0"], ["3"]):
        assert torch.equal(coefficients(bank, names), 8 * torch.stack([row(int(name)) for name in names]))
    assert bank.names() == ["2", "0", "3"]


def test_no_order_of_requests_gives_a_wrong_row(store: AdapterStore, coefficients) -> None:
    bank, draw = AdapterBank(store, capacity=5), torch.Generator().manual_seed(0)
    for _ in range(100):
        numbers = torch.randint(0, 12, (4,), generator=draw).tolist()
        expected = 8 * torch.stack([row(number) for number in numbers])
        assert torch.equal(coefficients(bank, [str(number) for number in numbers]), expected)
        assert len(bank) <= 5


def test_threads_that_evict_each_others_adapters_get_no_wrong_row(store: AdapterStore, coefficients) -> None:
    bank, wrong = AdapterBank(store, capacity=4), []

    def ask(seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        for _ in range(60):
            numbers = torch.randint(0, 12, (3,), generator=draw).tolist()
            found = coefficients(bank, [str(number) for number in numbers])
            if not torch.equal(found, 8 * torch.stack([row(number) for number in numbers])):
                wrong.append(numbers)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_more_names_in_a_batch_than_the_capacity_are_refused_and_nothing_is_lost(store: AdapterStore) -> None:
    bank = AdapterBank(store, capacity=2).load(["0", "1"])
    with pytest.raises(ConfigError, match=r"needs 3 adapters at once.*capacity=2"):
        bank.gather(["0", "1", "2"])
    assert sorted(bank.names()) == ["0", "1"]
    with pytest.raises(ConfigError, match="12 adapters exceed capacity=2"):
        bank.load()


def test_an_adapter_that_is_in_no_store_is_never_evicted(store: AdapterStore, coefficients) -> None:
    bank = AdapterBank(store, capacity=2)
    bank.put("mine", make_layout(), row(99))
    for number in range(12):
        bank.gather([str(number)])
    assert torch.equal(coefficients(bank, ["mine"]), 8 * row(99)[None])
    bank.put("mine too", make_layout(), row(98))
    with pytest.raises(ConfigError, match="capacity=2"):
        bank.gather(["0"])


def test_an_adapter_is_replaced_and_removed(coefficients) -> None:
    bank = AdapterBank()
    for k, name in enumerate(("a", "b", "a")):
        bank.put(name, make_layout(), row(k))
    before = bank.stamps(["a", "b"])
    assert torch.equal(coefficients(bank, ["a", "b"]), 8 * torch.stack([row(2), row(1)]))
    bank.put("a", make_layout(), row(3))
    after = bank.stamps(["a", "b"])
    assert after[0] != before[0]
    assert after[1] == before[1]
    bank.remove("a")
    assert bank.stamps(["a"]) is None
    with pytest.raises(StoreError, match="the bank has no adapter 'a'"):
        bank.gather(["a"])
    with pytest.raises(StoreError, match="the bank has no adapter 'a'; it has 1 others"):
        bank.remove("a")


def test_a_new_version_comes_when_it_is_loaded(store: AdapterStore, coefficients) -> None:
    bank = AdapterBank(store).load()
    store.put("3", make_layout(), row(33))
    assert torch.equal(coefficients(bank, ["3"]), 8 * row(3)[None])
    assert torch.equal(coefficients(bank.load(["3"]), ["3"]), 8 * row(33)[None])


def test_versions_and_aliases_of_the_store_are_asked_for_beside_one_another(store: AdapterStore, coefficients) -> None:
    store.put("3", make_layout(), row(30))
    store.set_alias("3", "live", 1)
    bank = AdapterBank(store, capacity=4)
    asked = {"3@1": row(3), "3": row(30), "3@live": row(3), "3@2": row(30)}
    assert torch.equal(coefficients(bank, list(asked)), 8 * torch.stack(list(asked.values())))
    store.set_alias("3", "live", 2)
    bank.load(["3@live"])
    assert torch.equal(coefficients(bank, ["3@live"]), 8 * row(30)[None])
    for name, text in {"3@3": "'3' has no version 3", "3@old": "no alias 'old'", "13@1": "no adapter '13@1'"}.items():
        with pytest.raises(StoreError, match=text):
            bank.gather([name])


def test_another_draw_is_another_table(store: AdapterStore) -> None:
    store.put("other", make_layout(seed=6, n_frequency=10), row(50, 20))
    bank = AdapterBank(store).load()
    first, second = bank.gather(["3", BASE, "other", "4"]).parts
    assert (first.draw.seed, first.rows, second.draw.seed, second.rows) == (5, [0, 3], 6, [2])
    assert torch.equal(first.coefficients["a.query"], 8 * torch.stack([row(3), row(4)])[:, :20])
    assert torch.equal(second.coefficients["a.query"], 8 * row(50, 20)[None, :10])


def test_a_replaced_adapter_may_change_its_draw(coefficients) -> None:
    bank = AdapterBank()
    bank.put("a", make_layout(), row(0))
    bank.put("a", make_layout(seed=6), row(1))
    assert torch.equal(coefficients(bank, ["a"]), 8 * row(1)[None])


def test_heads_come_with_the_rows_that_have_one() -> None:
    bank, layout = AdapterBank(), make_layout()
    bank.put("a", layout, row(0), {"head.weight": torch.ones(2, 3)})
    bank.put("b", layout, row(1))
    head = bank.gather(["b", "a", BASE, "a"]).heads["head.weight"]
    assert head.rows == [1, 3]
    assert torch.equal(head.values, torch.ones(2, 2, 3))
    with pytest.raises(ShapeError, match=r"the head head.weight is \[4, 3\], but \[2, 3\]"):
        bank.put("c", layout, row(2), {"head.weight": torch.ones(4, 3)})


def test_what_was_put_in_is_a_copy() -> None:
    bank, numbers, head = AdapterBank(), row(0), torch.ones(2, 3)
    bank.put("a", make_layout(), numbers, {"head.weight": head})
    numbers.zero_()
    head.data.zero_()
    gathered = bank.gather(["a"])
    found = torch.cat([gathered.parts[0].coefficients[name] for name in SHAPES], 1)
    torch.testing.assert_close(found[0], 8.0 * row(0))
    assert torch.equal(gathered.heads["head.weight"].values, torch.ones(1, 2, 3))


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda bank: bank.put(BASE, make_layout(), row(0)), StoreError, "means the base without an adapter"),
        (lambda bank: bank.put("", make_layout(), row(0)), StoreError, "use 1 to 500"),
        (lambda bank: bank.put("a", make_layout(), row(0, 41)), ShapeError, r"takes \[40\]"),
        (lambda bank: bank.put("a", make_layout(), row(0) / 0), ShapeError, "NaN or infinity"),
        (lambda bank: bank.load(), StoreError, "the bank has no store"),
        (lambda bank: AdapterBank(capacity=3), ConfigError, "capacity=3 with store=None"),
        (lambda bank: AdapterBank(dtype="int4"), ConfigError, "dtype=int4 is unknown"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(call, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        call(AdapterBank())
    assert "\n" not in str(caught.value)
