"""Coefficients as bytes: float32 bit for bit, bfloat16 as torch rounds, int8 by hand."""

from __future__ import annotations

import struct

import pytest
import torch

from fourierft.errors import ConfigError
from fourierft.format.encoding import DTYPES, check_dtype, decode, encode, encoded_bytes

SIZES = (2, 3)


def test_float32_is_the_numbers_bit_for_bit() -> None:
    values = torch.tensor([[1.5, -0.0, 1e-42, 3e38, 0.1]])
    (blob,) = encode(values, "float32", SIZES)
    assert blob == struct.pack("<5f", *values[0].tolist())
    assert torch.equal(decode([blob], "float32", SIZES).view(torch.int32), values.view(torch.int32))


def test_bfloat16_is_what_torch_rounds_to() -> None:
    values = torch.randn(4, 5)
    blobs = encode(values, "bfloat16", SIZES)
    assert torch.equal(decode(blobs, "bfloat16", SIZES), values.bfloat16().float())


def test_int8_is_a_scale_a_layer_and_rounded_numbers() -> None:
    values = torch.tensor([[127.0, -63.4, 0.5, 0.26, -1.0]])
    (blob,) = encode(values, "int8", SIZES)
    third = 1 / 127  # the second layer's unit
    assert struct.unpack("<2f", blob[:8]) == pytest.approx((1.0, third))
    assert struct.unpack("5b", blob[8:]) == (127, -63, 64, 33, -127)  # 0.5 is 63.5 units: to even
    expected = torch.tensor([[127.0, -63.0, 64 * third, 33 * third, -1.0]])
    torch.testing.assert_close(decode([blob], "int8", SIZES), expected)


def test_layer_of_zeros_stays_zero_in_int8() -> None:
    values = torch.tensor([[0.0, 0.0, 1.0, 2.0, 3.0]])
    assert decode(encode(values, "int8", SIZES), "int8", SIZES)[0, :2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_are_as_many_as_foretold(dtype: str) -> None:
    assert {len(blob) for blob in encode(torch.randn(3, 5), dtype, SIZES)} == {encoded_bytes(dtype, SIZES)}


def test_unknown_dtype_is_named() -> None:
    with pytest.raises(ConfigError, match="dtype=int4 is unknown; use one of float32, bfloat16, int8"):
        check_dtype("int4")
