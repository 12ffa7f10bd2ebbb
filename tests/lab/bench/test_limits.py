"""The page of limits: its arithmetic against cases counted by hand, and the page against the command."""

from __future__ import annotations

import math

import pytest

from lab.bench.limits.command import PAGE, PLACES, measured_places
from lab.bench.limits.hardware import DEVICES, Device, Kernel, seconds
from lab.bench.limits.paths import LORA, OURS, SPLIT, TORCH, VECTOR, product, tensor_factors, tensor_transform
from lab.bench.limits.steps import ALL, LLAMA_2_7B, adapted_step, frozen_step, ratio
from lab.folders import BENCH_RESULTS
from lab.pages import fill_places

H200 = DEVICES[0]


def test_a_kernel_takes_as_long_as_its_busiest_unit() -> None:
    device = Device("made up", memory=10.0, half=100.0, tf32=50.0, vector=20.0, shared=40.0, latency=0.5)
    assert Kernel(memory=30.0, half=200.0).seconds(device) == 3.0
    assert Kernel(half=200.0, tf32=100.0).seconds(device) == 4.0  # one unit, two rates
    assert seconds([Kernel(), Kernel(shared=80.0)], device) == 2.5  # the first is as short as a kernel can be


def test_a_product_of_llama_is_bound_by_flops_in_training_and_by_its_weight_in_decoding() -> None:
    training, decoding = product(8192, 4096, 4096), product(1, 4096, 4096)
    assert training.seconds(H200) == pytest.approx(2 * 8192 * 4096 * 4096 / 989e12)
    assert decoding.seconds(H200) == pytest.approx(2 * (4096 * 4096 + 2 * 4096) / 4.8e12)


def test_parameters_of_llama_are_those_of_the_model() -> None:
    blocks = sum(i * o for i, o in LLAMA_2_7B.layers.values()) * LLAMA_2_7B.blocks
    norms = (2 * LLAMA_2_7B.blocks + 1) * LLAMA_2_7B.hidden
    assert blocks + 2 * LLAMA_2_7B.words * LLAMA_2_7B.hidden + norms == 6_738_415_616


@pytest.mark.parametrize("length", [1024, 3072, 4096, 8192, 11008, 4864, 97])
def test_factors_multiply_to_the_length(length: int) -> None:
    assert math.prod(tensor_factors(length)) == length


def test_a_transform_of_4096_in_three_factors_of_16_is_three_products() -> None:
    assert tensor_factors(4096) == (16, 16, 16)
    assert tensor_transform(4096, (1, 1)) == 4 * 4096 * (16 + 16 + 16)
    assert tensor_transform(4096, (2, 3)) == 4 * 4096 * (2 * 16 + 3 * 32)
    assert tensor_transform(11008, (1, 1)) == pytest.approx(4 * 11008 * (16 + 16 + 48 * 48 / 43))  # 43 costs as 48


def test_torchs_transforms_move_what_their_steps_do() -> None:
    # to float32 6, rfft 8, turn 8; gather 4 (2n / d + 1); turn 8, irfft 8, onto a bfloat16 8: bytes an element of 4096
    moved = sum(kernel.memory for kernel in TORCH.forward(8192, 4096, 4096, 1024))
    assert moved == 8192 * 4096 * (6 + 8 + 8 + 4 * 1.5 + 8 + 8 + 8)


def test_a_fused_pass_reads_its_tokens_once_and_its_result_twice() -> None:
    (kernel,) = SPLIT.forward(8192, 4096, 4096, 0)
    assert kernel.memory == 2 * 8192 * 3 * 4096
    assert kernel.memory == VECTOR.forward(8192, 4096, 4096, 0)[0].memory


def test_a_rank_below_a_tile_of_tensor_cores_costs_as_much_as_a_tile() -> None:
    assert [k.half for k in LORA.forward(64, 256, 128, 8)] == [k.half for k in LORA.forward(64, 256, 128, 16)]


def test_an_adapter_on_more_layers_costs_more_and_never_less_than_the_base() -> None:
    base = frozen_step(LLAMA_2_7B, 1, 512)
    for path in (*OURS, LORA):
        one, every = (adapted_step(LLAMA_2_7B, path, names, 16, 1, 512) for names in (("q_proj",), ALL))
        assert 1 < ratio(base, one, H200) < ratio(base, every, H200)


def test_the_page_holds_what_the_command_works_out() -> None:
    text = PAGE.read_text(encoding="utf-8")
    places = PLACES | measured_places(BENCH_RESULTS)
    assert fill_places(text, places) == text
    assert all(f"<!-- begin {name} -->" in text for name in places)
