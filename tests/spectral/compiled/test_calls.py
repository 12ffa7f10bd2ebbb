"""The kernel against the cosine sum: products and gradients, all shapes of a batch, one thread and two."""

from __future__ import annotations

import platform

import pytest
import torch

from fourierft import uniform_basis
from fourierft.errors import BackendError
from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.compiled import calls, compiled_update
from fourierft.spectral.compiled.build import Kernel, find_compiler, load_kernel, open_library, processor_features
from fourierft.spectral.compiled.compiler import PORTABLE, PORTABLE_FEATURES, VARIANTS, compile_kernel
from fourierft.spectral.compiled.plan import plan_of

CPU = torch.device("cpu")
BATCHES = [
    (1, 1),
    (1, 31),
    (1, 32),
    (1, 131),
    (3, 1),
    (40, 1),
    (9, 5),
    (4, 8),
    (5, 16),
    (5, 17),
    (3, 70),
    (0, 4),
    (4, 0),
]
SHAPES = [
    *[(1, 1, 1), (1, 9, 4), (13, 7, 91), (60, 63, 120), (96, 8, 50), (8, 96, 50), (48, 80, 700)],
    *[(17, 19, 90), (76, 43, 300), (34, 289, 300), (214, 37, 200), (269, 16, 200), (23, 509, 200)],  # large primes
]
LIBRARIES = [library for library in [load_kernel()] if library]  # none without a C compiler
RUNS_PORTABLE = bool(find_compiler()) and platform.machine() == "x86_64" and processor_features() >= PORTABLE_FEATURES


def update_of(basis: SpectralBasis) -> calls.CompiledUpdate:
    update = compiled_update(basis, torch.float32, CPU)
    assert update is not None
    return update


@pytest.fixture(scope="session")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    """The kernel as a wheel carries it."""
    folder = tmp_path_factory.mktemp("portable")
    for variant, flags in VARIANTS.items():
        compile_kernel(str(find_compiler()), folder / f"{variant}.so", PORTABLE, *flags)
    return Kernel(**{variant: open_library(folder / f"{variant}.so") for variant in VARIANTS})


@pytest.mark.parametrize(
    ("build", "shape", "batch"),
    [
        *(("native", shape, batch) for shape in SHAPES for batch in BATCHES if LIBRARIES),
        *(
            ("portable", shape, batch)
            for shape in [*SHAPES[3:5], *SHAPES[-6:]]
            for batch in [(1, 131), (9, 5)]
            if RUNS_PORTABLE
        ),
    ],
    ids=str,
)
def test_products_and_gradients_are_the_cosine_sum(
    make_layer, assert_close, shape: tuple, batch: tuple, build: str, request: pytest.FixtureRequest
) -> None:
    layer = make_layer(*shape)
    (out_features, in_features, n), (sets, tokens), update = shape, batch, update_of(layer.basis)
    if build == "portable":
        inner, outer = plan_of(in_features), plan_of(out_features)
        assert inner is not None
        assert outer is not None
        update = calls.CompiledUpdate(request.getfixturevalue("portable"), layer.basis, inner, outer)
    x, grad, c = torch.randn(*batch, in_features), torch.randn(*batch, out_features), torch.randn(sets, n)
    deltas = [layer.true_delta(row) for row in c]
    product = (
        torch.stack([t.double() @ delta.T for t, delta in zip(x, deltas, strict=True)])
        if sets
        else x.new_empty(0, tokens, out_features)
    )
    back = torch.stack([g.double() @ delta for g, delta in zip(grad, deltas, strict=True)]) if sets else x[:0]
    sums = torch.stack([layer.true_coefficient_gradient(g, t) for g, t in zip(grad, x, strict=True)]) if sets else c
    assert_close(update.product(x, c, layer.scaling), product)
    assert_close(update.product(grad, c, layer.scaling, transposed=True), back)
    onto = torch.randn(*batch, out_features)
    assert_close(update.product(x, c, layer.scaling, onto=onto.clone()), product + onto)
    for found, expected in zip(update.gradients(grad, x, c, layer.scaling), (back, sums), strict=True):
        assert_close(found, expected)
    onto = torch.randn(*batch, in_features)
    found = onto.clone()
    returned, _ = update.gradients(grad, x, c, layer.scaling, onto=found)
    assert returned is found
    assert_close(found, back + onto)
    alone, without = update.gradients(grad, x, None, layer.scaling)
    assert alone.numel() == 0
    assert_close(without, sums)


@pytest.mark.parametrize("batch", [(1, 131), (3, 70), (5, 17), (40, 1)] if LIBRARIES else [], ids=str)
def test_two_threads_give_what_one_gives(make_layer, assert_close, batch: tuple) -> None:
    update, scaling = update_of(make_layer(60, 63, 120).basis), 60.0
    x, grad, c = torch.randn(*batch, 63), torch.randn(*batch, 60), torch.randn(batch[0], 120)

    def results() -> list[torch.Tensor]:
        return [update.product(x, c, scaling), *update.gradients(grad, x, c, scaling)]

    one = results()
    torch.set_num_threads(2)
    two = results()
    torch.set_num_threads(1)
    for found, expected in zip(two, one, strict=True):
        assert_close(found, expected, 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16] if LIBRARIES else [])
def test_half_precision_is_rounded_once(make_layer, assert_close, dtype: torch.dtype) -> None:
    layer = make_layer(60, 63, 120)
    x, grad, c = torch.randn(2, 300, 63).to(dtype), torch.randn(2, 300, 60).to(dtype), torch.randn(2, 120).to(dtype)
    update, deltas = update_of(layer.basis), torch.stack([layer.true_delta(row.double()) for row in c])
    found = update.product(x, c, layer.scaling)
    assert found.dtype == dtype
    assert_close(found, x.double() @ deltas.transpose(1, 2))
    grad_x, sums = update.gradients(grad, x, c, layer.scaling)
    assert_close(grad_x, grad.double() @ deltas)
    expected = torch.stack([layer.true_coefficient_gradient(g, t) for g, t in zip(grad, x, strict=True)])
    assert_close(sums, expected, 1e-5)


@pytest.mark.parametrize("library", LIBRARIES)
def test_inputs_and_targets_may_be_strided(make_layer, assert_close, library: object) -> None:
    layer = make_layer(16, 12, 100)
    update, c = update_of(layer.basis), torch.randn(1, 200)[:, ::2]
    x, onto = torch.randn(12, 50).T[None], torch.randn(1, 50, 32)[..., ::2]
    before = onto.clone()
    assert_close(update.product(x, c, layer.scaling, onto=onto), before + x.double() @ layer.true_delta(c[0]).T)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.usefixtures("two_threads")
def test_the_same_input_gives_the_same_bits(make_layer, library: object) -> None:
    layer = make_layer(60, 63, 120)
    x, grad, c = torch.randn(1, 700, 63), torch.randn(1, 700, 60), torch.randn(1, 120)
    first = update_of(layer.basis).gradients(grad, x, c, 2.0)
    for _ in range(5):
        for found, expected in zip(update_of(layer.basis).gradients(grad, x, c, 2.0), first, strict=True):
            assert torch.equal(found, expected)


def test_what_the_kernel_cannot_serve_is_left_to_torch() -> None:
    basis = uniform_basis(24, 20, 30, 1)
    assert compiled_update(basis, torch.float64, CPU) is None
    assert compiled_update(basis, torch.float32, torch.device("meta")) is None
    assert compiled_update(uniform_basis(521, 20, 30, 1), torch.float32, CPU) is None


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_kernel_that_is_wrong_is_stopped(monkeypatch: pytest.MonkeyPatch, library: object) -> None:
    right = calls.CompiledUpdate.product
    monkeypatch.setattr(calls.CompiledUpdate, "product", lambda *given, **named: right(*given, **named) * 1.01)
    with pytest.raises(BackendError, match=r"24 x 28 update is wrong by .*; set FOURIERFT_KERNEL=torch"):
        compiled_update(uniform_basis(24, 28, 30, 1), torch.float32, CPU)
