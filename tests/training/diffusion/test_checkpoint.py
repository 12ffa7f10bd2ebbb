"""Adapters of a UNet on disk: bit for bit the same in ours, the same numbers in stock PEFT and diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

import fourierft
from fourierft.errors import CheckpointError
from fourierft.training.diffusion.checkpoint import (
    TENSORS,
    load_checkpoint,
    load_unet_adapter,
    save_adapter,
    save_checkpoint,
)
from fourierft.tuner.coefficients import former_name
from fourierft.tuner.layer import FourierFTLayer

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def fresh(tiny_sd: Path) -> Any:
    return UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet").requires_grad_(False)


def look(unet: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    x, text = torch.randn(2, 4, 4, 4, generator=generator), torch.randn(2, 24, 32, generator=generator)
    with torch.no_grad():
        return unet.eval()(x.to(unet.dtype), torch.tensor([3, 500]), text.to(unet.dtype)).sample


def adapted(tiny_sd: Path, config: Any) -> Any:
    fourierft.enable()
    unet = fresh(tiny_sd)
    unet.add_adapter(config)
    deviation = 0.1 if getattr(config, "scaling", None) == "auto" else 0.5  # an update of the size of the weights
    with torch.no_grad():
        for parameter in unet.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=deviation)
    return unet


def spectral(scaling: Any) -> fourierft.FourierFTConfig:
    return fourierft.FourierFTConfig(n_frequency=60, scaling=scaling, target_modules=TARGETS)


CONFIGS = {
    "fourierft": lambda: spectral(300.0),
    "fourierft-auto": lambda: spectral("auto"),
    "lora": lambda: peft.LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS),
}


def updates(unet: Any) -> list[torch.Tensor]:
    """Scaling times coefficients of each adapted layer, in float64."""
    layers = [layer for layer in unet.modules() if isinstance(layer, FourierFTLayer)]
    (name,) = layers[0].fourierft_spectrum
    return [layer.fourierft_spectrum[name].detach().double() * layer.fourierft_scaling[name] for layer in layers]


@pytest.fixture(autouse=True)
def switched_off_after() -> Any:
    yield
    fourierft.disable()


@pytest.mark.parametrize("kind", CONFIGS)
def test_loaded_adapter_gives_the_same_images(kind: str, tiny_sd: Path, tmp_path: Path) -> None:
    unet = adapted(tiny_sd, CONFIGS[kind]())
    size = save_adapter(unet, unet.state_dict(), str(tiny_sd), tmp_path)
    again = fresh(tiny_sd)
    assert not torch.allclose(look(again), look(unet), atol=1e-2)
    load_unet_adapter(again, tmp_path)
    if kind == "fourierft-auto":  # layers of several shapes share one scaling on disk, which rounds once
        for ours, theirs in zip(updates(again), updates(unet), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=2**-23, atol=0)
        torch.testing.assert_close(look(again.double()), look(unet.double()), rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(look(again), look(unet))
    assert size == (tmp_path / "adapter_model.safetensors").stat().st_size


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments.*fourierft")  # the record stock PEFT skips
def test_stock_peft_reads_the_adapter(kind: str, tiny_sd: Path, tmp_path: Path) -> None:
    unet = adapted(tiny_sd, CONFIGS[kind]())
    save_adapter(unet, unet.state_dict(), str(tiny_sd), tmp_path)
    expected = look(unet)
    fourierft.disable()
    stock = fresh(tiny_sd)
    peft.PeftModel.from_pretrained(stock, str(tmp_path))
    torch.testing.assert_close(look(stock), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments.*fourierft")
def test_diffusers_alone_reads_the_adapter(kind: str, tiny_sd: Path, tmp_path: Path) -> None:
    unet = adapted(tiny_sd, CONFIGS[kind]())
    save_adapter(unet, unet.state_dict(), str(tiny_sd), tmp_path)
    expected = look(unet)
    fourierft.disable()
    stock = fresh(tiny_sd)
    stock.add_adapter(peft.PeftConfig.from_pretrained(str(tmp_path)))
    peft.set_peft_model_state_dict(stock, load_file(tmp_path / "adapter_model.safetensors"))
    torch.testing.assert_close(look(stock), expected, rtol=1e-4, atol=1e-4)


def test_coefficients_stay_float32_in_a_half_precision_unet(tiny_sd: Path, tmp_path: Path) -> None:
    unet = adapted(tiny_sd, spectral(300.0))
    save_adapter(unet, unet.state_dict(), str(tiny_sd), tmp_path)
    half = fresh(tiny_sd).to(torch.bfloat16)
    load_unet_adapter(half, tmp_path)
    loaded = {name: value for name, value in half.state_dict().items() if "coefficients" in name}
    assert loaded
    assert all(torch.equal(value, unet.state_dict()[name]) for name, value in loaded.items())


def test_adapter_of_another_unet_is_refused(tiny_sd: Path, tmp_path: Path) -> None:
    unet = adapted(tiny_sd, spectral(300.0))
    save_adapter(unet, unet.state_dict(), str(tiny_sd), tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    tensors["base_model.model.other.fourierft_spectrum"] = tensors.pop(next(iter(tensors)))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="has no layer other; the adapter was made for another model"):
        load_unet_adapter(fresh(tiny_sd), tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="is truncated or damaged"):
        load_unet_adapter(fresh(tiny_sd), tmp_path)


def test_adapter_of_a_unet_of_the_same_shapes_is_taken_only_if_it_is_allowed(tiny_sd: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    fresh(tiny_sd).save_pretrained(tmp_path / "base")
    UNet2DConditionModel.from_config(fresh(tiny_sd).config).save_pretrained(tmp_path / "other")
    base, other = (UNet2DConditionModel.from_pretrained(tmp_path / name) for name in ("base", "other"))
    fourierft.enable()
    base.add_adapter(spectral(300.0))
    save_adapter(base, base.state_dict(), str(tmp_path / "base"), tmp_path)
    with pytest.raises(CheckpointError, match=r"was made for the base .*base .* is another model"):
        load_unet_adapter(other, tmp_path)
    load_unet_adapter(UNet2DConditionModel.from_pretrained(tmp_path / "base", torch_dtype=torch.float16), tmp_path)
    with pytest.warns(UserWarning, match="the adapter was made for the base"):
        load_unet_adapter(other, tmp_path, allow_other_base=True)


def test_training_interrupted_under_former_names_goes_on(tiny_sd: Path, tmp_path: Path) -> None:
    unet = adapted(tiny_sd, spectral("auto")).train()
    parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    save_checkpoint(tmp_path / "half", 1, unet, unet.state_dict(), str(tiny_sd), optimizer, {"losses": [2.0]}, {})
    file = tmp_path / "half" / TENSORS
    tensors = {former_name(key): value for key, value in load_file(file).items()}
    assert not any("coefficients" in key for key in tensors)
    save_file(tensors, file)

    again = adapted(tiny_sd, spectral("auto"))
    resumed = torch.optim.AdamW([parameter for parameter in again.parameters() if parameter.requires_grad])
    assert load_checkpoint(tmp_path / "half", again, resumed)["losses"] == [2.0]
    assert all(torch.equal(value, unet.state_dict()[name]) for name, value in again.state_dict().items())
    for ours, theirs in zip(
        resumed.state_dict()["state"].values(), optimizer.state_dict()["state"].values(), strict=True
    ):
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
