from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fourierft.serving.batch import Batch, Place, StaticBatch
from fourierft.serving.residents import Residents
from fourierft.spectral import delta_weight
from fourierft.store import Adapter

OUT, IN = 24, 16
WHOLE = Place("q_proj", (OUT, IN), slice(0, IN), [(slice(0, OUT), slice(0, OUT))])
POPULARITIES = {
    "base alone": [0] * 5,
    "identical": [1] * 40,
    "distinct": [3, 1, 2, 4, 0],
    "a long prompt among others": [2, 0, *[1] * 30, 3, 4],
    "scattered": [1, 2] * 20 + [0, 4],
}


@pytest.fixture
def residents(make_adapter: Callable[..., Adapter]) -> Residents:
    """Adapters 1 to 3 of one draw, with two counts of coefficients; 4 of another."""
    residents = Residents(4, "float32", torch.device("cpu"))
    settings: dict[int, dict[str, Any]] = {
        1: {},
        2: {"n_frequency": 20},
        3: {"scaling": 90.0},
        4: {"random_loc_seed": 1},
    }
    residents.bring(settings, lambda key: make_adapter(key, **settings[key]))
    return residents


def expected(residents: Residents, keys: list[int], x: torch.Tensor) -> torch.Tensor:
    """What each token's dense dW gives."""
    rows = []
    for key, token in zip(keys, x, strict=True):
        if not key:
            rows.append(torch.zeros(OUT))
            continue
        slot = residents.find(key)
        coefficients = slot.tables.gather([slot.row])["q_proj"][0]
        rows.append(token @ delta_weight(coefficients, slot.tables.draw.basis(OUT, IN, len(coefficients)), 1.0).T)
    return torch.stack(rows)


def batches(residents: Residents, keys: list[int]) -> list[Batch | StaticBatch]:
    fixed = StaticBatch(residents.draws, [WHOLE], 64, torch.device("cpu"))
    fixed.fill(np.full(64, 3), residents.find)  # of a step before
    fixed.fill(np.array(keys), residents.find)
    return [Batch(np.array(keys), residents.find), fixed]


@pytest.mark.parametrize("popularity", POPULARITIES)
def test_each_token_gets_the_update_of_its_adapter(residents: Residents, popularity: str) -> None:
    keys = POPULARITIES[popularity]
    x, y = torch.randn(len(keys), IN), torch.randn(len(keys), OUT)
    for batch in batches(residents, keys):
        got = y.clone()
        batch.add(WHOLE, x, got)
        torch.testing.assert_close(got, y + expected(residents, keys, x))
        batch.add(WHOLE, 2 * x, got)  # the next step, with what was prepared
        torch.testing.assert_close(got, y + 3 * expected(residents, keys, x))


@pytest.mark.parametrize("popularity", POPULARITIES)
def test_processes_that_have_parts_of_a_layer_give_the_whole(residents: Residents, popularity: str) -> None:
    keys = POPULARITIES[popularity]
    x = torch.randn(len(keys), IN)
    whole = expected(residents, keys, x)
    for kind in (0, 1):
        columns, rows = [], torch.zeros(len(keys), OUT)
        for rank in range(2):
            batch = batches(residents, keys)[kind]
            own = slice(rank * OUT // 2, (rank + 1) * OUT // 2)
            y = torch.zeros(len(keys), 3 + OUT // 2)  # behind another layer of the same packed one
            batch.add(Place("q_proj", (OUT, IN), slice(0, IN), [(own, slice(3, None))]), x, y)
            assert not y[:, :3].any()
            columns.append(y[:, 3:])
            part = slice(rank * IN // 2, (rank + 1) * IN // 2)
            y = torch.zeros(len(keys), OUT)
            batch.add(WHOLE._replace(inputs=part), x[:, part], y)
            rows += y
        torch.testing.assert_close(torch.cat(columns, 1), whole)
        torch.testing.assert_close(rows, whole)


def test_a_layer_that_no_adapter_changes_stays_as_it_is(residents: Residents) -> None:
    for batch in batches(residents, [1, 2]):
        y = torch.randn(2, OUT)
        before = y.clone()
        batch.add(WHOLE._replace(name="k_proj"), torch.randn(2, IN), y)
        assert torch.equal(y, before)


def test_half_precision_rounds_once(residents: Residents) -> None:
    keys = [1, 2, 0]
    x, y = torch.randn(3, IN).bfloat16(), torch.randn(3, OUT).bfloat16()
    for batch in batches(residents, keys):
        got = y.clone()
        batch.add(WHOLE, x, got)
        torch.testing.assert_close(got, (y + expected(residents, keys, x.float())).bfloat16(), atol=0.05, rtol=0.02)


def test_the_batch_in_fixed_memory_is_traced_whole_and_follows_what_is_filled_in(residents: Residents) -> None:
    batch = StaticBatch(residents.draws, [WHOLE], 8, torch.device("cpu"))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def layer(x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros(len(x), OUT)
        batch.add(WHOLE, x, y)
        return y

    x = torch.randn(4, IN)
    with torch.no_grad():
        for keys in ([1, 2, 3, 4], [4, 0, 0, 2]):
            batch.fill(np.array(keys), residents.find)
            torch.testing.assert_close(layer(x), expected(residents, keys, x))
