"""Adapters come into pipelines by one call, act as they did where they were trained, and go again."""

from __future__ import annotations

import copy
from typing import Any

import peft
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

import fourierft
from fourierft.diffusers import load_adapter, loading, save_adapter
from fourierft.diffusers.packed import WEIGHTS_NAME
from fourierft.errors import CheckpointError, ConfigError, PlaceError
from fourierft.spectral import uniform_entries
from fourierft.tuner.layer import FourierFTLayer
from tests.diffusers.conftest import ATTENTION, COMPONENTS, add, draw

pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")  # PEFT, of a second adapter


def close(actual: torch.Tensor, expected: torch.Tensor, rtol: float = 2e-4) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=rtol * float(expected.abs().max()))


def layers(model: Any) -> dict[str, FourierFTLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, FourierFTLayer)}


def switch_off(model: Any) -> None:
    """What the model's `disable_adapters` does, which transformers 5.24 has for PEFT 0.22 alone."""
    for layer in layers(model).values():
        layer.enable_adapters(False)


def coefficients(pipeline: Any, kind: str, name: str) -> dict[str, torch.Tensor]:
    return {
        f"{component}.{path}": layer.coefficients(name).detach() * layer.own_scaling[name]
        for component in COMPONENTS[kind]
        for path, layer in layers(getattr(pipeline, component)).items()
    }


@pytest.mark.parametrize("form", ["dog.safetensors", "dog"])
def test_what_is_loaded_draws_what_was_saved(make, kind, form, tmp_path):
    trained = make(kind)
    plain = draw(trained)
    add(trained, kind, "default", seed=0)
    expected = draw(trained)
    assert float((expected - plain).abs().max()) > 1e-2 * float(plain.abs().max())
    save_adapter(trained, tmp_path / form)
    fresh = make(kind)
    assert load_adapter(fresh, tmp_path / form, "dog") == "dog"
    assert fresh.get_list_adapters() == {component: ["dog"] for component in COMPONENTS[kind]}
    assert fresh.get_active_adapters() == ["dog"]
    close(draw(fresh), expected)
    fresh.unload_lora_weights()
    close(draw(fresh), plain, rtol=1e-5)


def test_noise_of_the_unet_alone_is_that_of_the_tuner(make, tmp_path):
    trained = make("sd")
    add(trained, "sd", "default", seed=0)
    save_adapter(trained, tmp_path / "dog.safetensors")
    fresh = make("sd")
    load_adapter(fresh, tmp_path / "dog.safetensors")
    inputs = torch.randn(1, 4, 4, 4), torch.tensor([7]), torch.randn(1, 24, 32)
    with torch.no_grad():
        close(fresh.unet(*inputs).sample, trained.unet.eval()(*inputs).sample, rtol=1e-5)


def test_adapted_convolutions_come_along(make, tmp_path):
    trained = make("sd")
    targets = ["to_q", "conv1", "conv_in", "proj_in", "time_emb_proj"]
    trained.unet.add_adapter(fourierft.FourierFTConfig(n_frequency=20, target_modules=targets, init_weights=False))
    with torch.no_grad():
        for layer in layers(trained.unet).values():
            layer.coefficients("default").mul_(0.02)
    expected = draw(trained)
    first = save_adapter(trained, tmp_path / "first.safetensors")
    fresh = make("sd")
    load_adapter(fresh, first, "dog")
    close(draw(fresh), expected)
    assert first.read_bytes() == save_adapter(fresh, tmp_path / "again.safetensors", "dog").read_bytes()


def test_several_at_once_are_the_sum_of_their_updates_by_cosines_in_float64(make, kind, tmp_path):
    for seed, name in enumerate(("dog", "ink")):
        one = make(kind)
        add(one, kind, "default", seed, n_frequency=12 + seed, random_loc_seed=5 + seed, scaling=40.0 + seed)
        save_adapter(one, tmp_path / f"{name}.safetensors")
    pipeline, truth = make(kind), make(kind)
    strengths = {"dog": 0.5, "ink": -1.25}
    for name in strengths:
        load_adapter(pipeline, tmp_path / f"{name}.safetensors", name)
    assert pipeline.get_active_adapters() == ["ink"]  # the last, as of LoRA
    pipeline.set_adapters(list(strengths), list(strengths.values()))
    for seed, (name, strength) in enumerate(strengths.items()):
        for key, values in load_file(tmp_path / f"{name}.safetensors").items():
            component, _, path = key.removesuffix(".fourierft_spectrum").partition(".")
            layer = getattr(truth, component).get_submodule(path)
            height, width = layer.weight.shape
            u, v = uniform_entries(height, width, 12 + seed, 5 + seed).double()
            rows, columns = (torch.arange(size).double() for size in (height, width))
            angles = rows[:, None, None] * u / len(rows) + columns[:, None] * v / len(columns)
            update = (values.double() * (2 * torch.pi * angles).cos()).sum(-1) / layer.weight.numel() * (40 + seed)
            layer.weight.data = (layer.weight.double() + strength * update).float()
    close(draw(pipeline), draw(truth))


@pytest.mark.parametrize("scaling", ["auto", 30.0])
def test_a_file_comes_back_to_the_bit(make, kind, scaling, tmp_path):
    trained = make(kind)
    add(trained, kind, "default", seed=0, scaling=scaling)
    first = save_adapter(trained, tmp_path / "first.safetensors")
    pipeline = make(kind)
    load_adapter(pipeline, first, "again")
    second = save_adapter(pipeline, tmp_path / "second.safetensors", "again")
    assert first.read_bytes() == second.read_bytes()
    folder = save_adapter(pipeline, tmp_path / "folder", "again")
    other = make(kind)
    load_adapter(other, folder)
    third = save_adapter(other, tmp_path / "third.safetensors", "default_0")
    assert first.read_bytes() == third.read_bytes()
    for name, values in load_file(first).items():
        component, _, rest = name.partition(".")
        saved = load_file(folder / component / "adapter_model.safetensors")
        assert torch.equal(values, saved[f"base_model.model.{rest}"])


@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments")  # stock PEFT, of what it has no field for
def test_stock_peft_reads_the_folders_of_components(make, kind, tmp_path):
    trained = make(kind)
    add(trained, kind, "default", seed=0)
    expected = draw(trained)
    save_adapter(trained, tmp_path / "dog")
    fourierft.disable()
    pipeline = make(kind)
    for component in COMPONENTS[kind]:
        PeftModel.from_pretrained(getattr(pipeline, component), str(tmp_path / "dog" / component))
    close(draw(pipeline), expected)


def test_what_diffusers_saves_of_a_model_or_of_all_can_be_loaded(make, tmp_path):
    trained = make("sd")
    add(trained, "sd", "default", seed=0)
    expected = draw(trained)
    trained.unet.save_lora_adapter(tmp_path / "one")
    layers_of = {f"{part}_lora_layers": get_peft_model_state_dict(getattr(trained, part)) for part in COMPONENTS["sd"]}
    settings = {
        f"{part}_lora_adapter_metadata": getattr(trained, part).peft_config["default"].to_dict()
        for part in COMPONENTS["sd"]
    }
    StableDiffusionPipeline.save_lora_weights(tmp_path / "both", **layers_of, **settings)
    both, one = make("sd"), make("sd")
    load_adapter(both, tmp_path / "both")
    close(draw(both), expected)
    load_adapter(one, tmp_path / "one")
    switch_off(trained.text_encoder)
    close(draw(one), draw(trained))
    with pytest.raises(ValueError, match="lora"):  # diffusers' own call refuses the same file
        make("sd").load_lora_weights(tmp_path / "both")


def test_an_adapter_of_peft_goes_into_the_model_that_draws_or_the_one_named(make, tmp_path):
    trained = make("xl")
    add(trained, "xl", "default", seed=0)
    save_adapter(trained, tmp_path / "dog")
    pipeline = make("xl")
    named: dict[str, Any] = {"unet": {}, "text_encoder_2": {"component": "text_encoder_2"}}
    for component, options in named.items():
        load_adapter(pipeline, tmp_path / "dog" / component, component, **options)
    assert pipeline.get_list_adapters() == {"unet": ["unet"], "text_encoder_2": ["text_encoder_2"]}
    pipeline.set_adapters(["unet", "text_encoder_2"])
    switch_off(trained.text_encoder)
    close(draw(pipeline), draw(trained))


def test_a_new_adapter_is_active_alone_also_where_it_has_no_part(make, tmp_path):
    trained = make("sd")
    add(trained, "sd", "default", seed=0)
    save_adapter(trained, tmp_path / "dog")
    pipeline, unet_only = make("sd"), make("sd")
    load_adapter(pipeline, tmp_path / "dog", "dog")
    load_adapter(pipeline, tmp_path / "dog" / "unet", "unet")
    load_adapter(unet_only, tmp_path / "dog" / "unet")
    close(draw(pipeline), draw(unet_only))
    pipeline.set_adapters("dog")
    close(draw(pipeline), draw(trained))


def test_numbers_are_swapped_in_place_in_all_components_or_in_none(make, tmp_path):
    for seed, name in enumerate(("dog", "ink")):
        one = make("sd")
        add(one, "sd", "default", seed)
        save_adapter(one, tmp_path / name)
    pipeline, expected = make("sd"), make("sd")
    load_adapter(pipeline, tmp_path / "dog", "now")
    places = {key: value.data_ptr() for key, value in pipeline.unet.named_parameters()}
    load_adapter(expected, tmp_path / "ink")
    before = coefficients(pipeline, "sd", "now")
    with pytest.raises(
        CheckpointError, match="adapts text_encoder and unet; overwrite an adapter of the same components"
    ):
        load_adapter(pipeline, tmp_path / "ink" / "unet", "now", hotswap=True)
    weights = load_file(tmp_path / "ink" / "text_encoder" / "adapter_model.safetensors")
    half = copy.deepcopy(weights)
    half.pop(next(iter(half)))
    save_file(half, tmp_path / "ink" / "text_encoder" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="belong to different adapters"):
        load_adapter(pipeline, tmp_path / "ink", "now", hotswap=True)
    after = coefficients(pipeline, "sd", "now")
    assert all(torch.equal(values, after[key]) for key, values in before.items())
    save_file(weights, tmp_path / "ink" / "text_encoder" / "adapter_model.safetensors")
    load_adapter(pipeline, tmp_path / "ink", "now", hotswap=True)
    assert places == {key: value.data_ptr() for key, value in pipeline.unet.named_parameters()}
    close(draw(pipeline), draw(expected))
    with pytest.raises(ConfigError, match="no adapter 'later' to overwrite; it has now"):
        load_adapter(pipeline, tmp_path / "ink", "later", hotswap=True)


def test_a_load_that_fails_half_way_leaves_the_pipeline_as_it_was(make, tmp_path, monkeypatch):
    for seed, name in enumerate(("dog", "ink")):
        one = make("sd")
        add(one, "sd", "default", seed)
        save_adapter(one, tmp_path / name)
    pipeline = make("sd")
    load_adapter(pipeline, tmp_path / "dog", "dog")
    expected = draw(pipeline)

    def inject(config: Any, model: Any, name: str) -> None:
        if model is pipeline.text_encoder:
            raise RuntimeError("no memory")
        peft.inject_adapter_in_model(config, model, name)

    with monkeypatch.context() as patched:
        patched.setattr(loading, "inject_adapter_in_model", inject)
        with pytest.raises(RuntimeError, match="no memory"):
            load_adapter(pipeline, tmp_path / "ink", "ink")
    assert pipeline.get_list_adapters() == {"unet": ["dog"], "text_encoder": ["dog"]}
    close(draw(pipeline), expected, rtol=1e-6)
    load_adapter(pipeline, tmp_path / "ink", "ink")
    assert pipeline.get_list_adapters() == {"unet": ["dog", "ink"], "text_encoder": ["dog", "ink"]}


# What diffusers' own methods do with them


def test_fuses_and_unfuses_deletes_and_disables(make, kind, tmp_path):
    trained = make(kind)
    plain = draw(trained)
    for seed, name in enumerate(("dog", "ink")):
        add(trained, kind, name, seed)
    trained.set_adapters(["dog", "ink"], [0.5, 0.75])
    expected = draw(trained)
    for name in ("dog", "ink"):
        save_adapter(trained, tmp_path / name, name)  # at full strength
    pipeline = make(kind)
    for name in ("dog", "ink"):
        load_adapter(pipeline, tmp_path / name, name)
    pipeline.set_adapters(["dog", "ink"], [0.5, 0.75])
    close(draw(pipeline), expected)
    pipeline.fuse_lora(components=list(COMPONENTS[kind]))
    assert pipeline.fused_loras == {"dog", "ink"}
    close(draw(pipeline), expected)
    with pytest.raises(ConfigError, match=r"'dog' is merged into .*; call unfuse_lora"):
        save_adapter(pipeline, tmp_path / "fused.safetensors", "dog")
    pipeline.unfuse_lora(components=list(COMPONENTS[kind]))
    close(draw(pipeline), expected)
    pipeline.disable_lora()
    close(draw(pipeline), plain)
    pipeline.enable_lora()
    close(draw(pipeline), expected)
    pipeline.delete_adapters("ink")
    pipeline.set_adapters("dog", 0.5)
    trained.set_adapters("dog", 0.5)
    close(draw(pipeline), draw(trained))


def test_strength_by_component_and_by_block(make, tmp_path):
    trained = make("sd")
    add(trained, "sd", "default", seed=0)
    save_adapter(trained, tmp_path / "dog")
    pipeline = make("sd")
    load_adapter(pipeline, tmp_path / "dog", "dog")
    pipeline.set_adapters("dog", {"text_encoder": 0.0, "unet": {"down": 1.0, "mid": 0.0, "up": 0.5}})
    for component in COMPONENTS["sd"]:
        for path, layer in layers(getattr(trained, component)).items():
            strength = {"down_blocks": 1.0, "up_blocks": 0.5}.get(path.split(".")[0], 0.0)
            layer.set_scale("default", strength)
    close(draw(pipeline), draw(trained))


def test_stands_beside_lora(make, tmp_path):
    trained = make("sd")
    add(trained, "sd", "default", seed=0)
    save_adapter(trained, tmp_path / "dog.safetensors")
    lora = make("sd")
    torch.manual_seed(0)
    lora.unet.add_adapter(peft.LoraConfig(r=2, init_lora_weights=False, target_modules=ATTENTION), "ink")
    lora.unet.save_lora_adapter(tmp_path / "ink", "ink")
    pipeline = make("sd")
    pipeline.unet.load_lora_adapter(tmp_path / "ink", weight_name=WEIGHTS_NAME, adapter_name="ink", prefix=None)
    close(draw(pipeline), draw(lora))
    load_adapter(pipeline, tmp_path / "dog.safetensors", "dog")
    close(draw(pipeline), draw(trained))
    pipeline.unet.set_adapters(["ink", "dog"], [1.0, 1.0])
    pipeline.unet.fuse_lora()
    whole = make("sd")
    load_adapter(whole, tmp_path / "dog.safetensors", "dog")
    whole.unet.fuse_lora()
    merged = lora.unet
    merged.fuse_lora()
    plain = make("sd").unet.state_dict()
    for name, weight in plain.items():
        *_, last = [
            value for key, value in pipeline.unet.state_dict().items() if key.replace("base_layer.", "") == name
        ]
        parts = [
            next(value for key, value in model.state_dict().items() if key.replace("base_layer.", "") == name) - weight
            for model in (whole.unet, merged)
        ]
        torch.testing.assert_close(last, weight + sum(parts), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_coefficients_stay_float32_in_a_pipeline_of_half_precision(make, dtype, tmp_path):
    trained = make("sd")
    add(trained, "sd", "default", seed=0)
    first = save_adapter(trained, tmp_path / "first.safetensors")
    with torch.no_grad():
        pipeline = make("sd").to(dtype)
    load_adapter(pipeline, first)
    assert first.read_bytes() == save_adapter(pipeline, tmp_path / "again.safetensors", "default_0").read_bytes()
    assert {part.dtype for part in (pipeline.unet, pipeline.text_encoder)} == {dtype}
    assert draw(pipeline).isfinite().all()


def test_offloading_model_by_model_goes_with_adapters_that_come_before_or_later(make, tmp_path):
    trained = make("sd")
    add(trained, "sd", "default", seed=0)
    save_adapter(trained, tmp_path / "dog")
    before, later = make("sd"), make("sd")
    load_adapter(before, tmp_path / "dog")
    before.enable_model_cpu_offload(device="cpu")
    later.enable_model_cpu_offload(device="cpu")
    load_adapter(later, tmp_path / "dog")
    for pipeline in (before, later):
        close(draw(pipeline), draw(trained))


def test_offloading_piece_by_piece_comes_after_the_adapter(make, tmp_path):
    trained = make("sd")
    add(trained, "sd", "default", seed=0)
    save_adapter(trained, tmp_path / "dog")
    pipeline = make("sd")
    pipeline.enable_sequential_cpu_offload(device="cpu")
    with pytest.raises(ConfigError, match="load adapters first, then offload"):
        load_adapter(pipeline, tmp_path / "dog")
    assert pipeline.get_list_adapters() == {}


def test_a_compiled_unet_takes_numbers_in_place(make, tmp_path):
    for seed, name in enumerate(("dog", "ink")):
        one = make("sd")
        add(one, "sd", "default", seed)
        save_adapter(one, tmp_path / name)
    pipeline = make("sd")
    load_adapter(pipeline, tmp_path / "dog", "now")
    unet = pipeline.unet
    pipeline.unet = torch.compile(unet, backend="eager")
    load_adapter(pipeline, tmp_path / "ink", "now", hotswap=True)
    save_adapter(pipeline, tmp_path / "again", "now")
    pipeline.unet = unet
    close(draw(pipeline), draw(one))
    for component in COMPONENTS["sd"]:
        files = [tmp_path / name / component / "adapter_model.safetensors" for name in ("ink", "again")]
        assert files[0].read_bytes() == files[1].read_bytes()


# What is refused


def test_names_and_pipelines_that_will_not_do(make, tmp_path):
    pipeline = make("sd")
    add(pipeline, "sd", "default", seed=0)
    save_adapter(pipeline, tmp_path / "dog")
    wrongs: tuple[tuple[dict[str, Any], str], ...] = (
        ({"adapter_name": "default"}, "has an adapter 'default' already"),
        ({"adapter_name": "a.b"}, "use a name without dots"),
        ({"component": "vae"}, "has no vae that takes adapters; it has unet and text_encoder"),
    )
    for wrong, error in wrongs:
        with pytest.raises(ConfigError, match=error):
            load_adapter(pipeline, tmp_path / "dog", **wrong)
    with pytest.raises(ConfigError, match="a UNet2DConditionModel is not a diffusers pipeline that takes adapters"):
        load_adapter(pipeline.unet, tmp_path / "dog")
    nothing: Any = None
    with pytest.raises(ConfigError, match=r"^source is None, which is not a path; give a text or a Path$"):
        load_adapter(pipeline, nothing)
    with pytest.raises(ConfigError, match=r"^path is None, which is not a path; give a text or a Path$"):
        save_adapter(pipeline, nothing)
    with pytest.raises(ConfigError, match="has no FourierFT adapter 'cat'; its adapters are default"):
        save_adapter(pipeline, tmp_path / "cat", "cat")
    assert load_adapter(pipeline, tmp_path / "dog") == "default_0"
    assert load_adapter(pipeline, tmp_path / "dog") == "default_1"


def test_files_that_are_none_are_told_and_change_nothing(make, tmp_path):
    trained = make("sd")
    add(trained, "sd", "default", seed=0)
    whole = save_adapter(trained, tmp_path / "dog.safetensors")
    tensors = load_file(whole)
    trained.unet.add_adapter(peft.LoraConfig(r=2, target_modules=ATTENTION), "lora")
    trained.unet.save_lora_adapter(tmp_path, "lora", weight_name="lora.safetensors")
    save_file(tensors, tmp_path / "bare.safetensors")
    (tmp_path / "short.safetensors").write_bytes(whole.read_bytes()[:-9])
    (tmp_path / "empty").mkdir()
    pipeline = make("sd")
    plain = draw(pipeline)
    for name, error in (
        ("bare.safetensors", "has no settings of FourierFT adapters in its header"),
        ("lora.safetensors", "peft_type='LORA', but only FOURIERFT"),
        ("short.safetensors", "truncated or damaged"),
        ("empty", "has no adapter of a pipeline"),
        ("away", "there is no folder"),
    ):
        with pytest.raises(CheckpointError, match=error):
            load_adapter(pipeline, tmp_path / name)
    add(xl := make("xl"), "xl", "default", seed=0)
    save_adapter(xl, tmp_path / "xl.safetensors")
    add(flux := make("flux"), "flux", "default", seed=0)
    save_adapter(flux, tmp_path / "flux")
    with pytest.raises(CheckpointError, match="load the file into the pipeline that it was made for"):
        load_adapter(pipeline, tmp_path / "xl.safetensors")
    with pytest.raises(CheckpointError, match="has no layer single_transformer_blocks"):
        load_adapter(pipeline, tmp_path / "flux" / "transformer")
    assert pipeline.get_list_adapters() == {}
    torch.testing.assert_close(draw(pipeline), plain, rtol=0, atol=0)


def test_an_adapter_of_another_base_of_the_same_shapes_is_told(make, tiny_sd, tmp_path):
    trained = make("sd")
    add(trained, "sd", "default", seed=0)
    save_adapter(trained, tmp_path / "dog")
    torch.manual_seed(9)
    unet = UNet2DConditionModel.from_config(trained.unet.config)
    unet.save_pretrained(tmp_path / "other")
    pipeline = make("sd")
    pipeline.unet = UNet2DConditionModel.from_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="is another model"):
        load_adapter(pipeline, tmp_path / "dog")
    with pytest.warns(UserWarning, match="is another model of the same shapes"):
        assert load_adapter(pipeline, tmp_path / "dog", allow_other_base=True) == "default_0"


def test_a_file_that_is_there_is_replaced_whole_and_a_folder_is_not(make, tmp_path):
    pipeline = make("sd")
    add(pipeline, "sd", "default", seed=0)
    (tmp_path / "dog.safetensors").write_text("before")
    save_adapter(pipeline, tmp_path / "dog.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dog.safetensors"]
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("before")
    with pytest.raises(fourierft.errors.OutputExistsError):
        save_adapter(pipeline, tmp_path / "dog")
    assert (tmp_path / "dog" / "notes.txt").read_text() == "before"


def test_a_part_that_the_pipeline_lacks_is_told(make, tmp_path):
    trained = make("xl")
    add(trained, "xl", "default", seed=0)
    save_adapter(trained, tmp_path / "xl")
    with pytest.raises(CheckpointError, match="has an adapter of text_encoder_2, which the pipeline lacks"):
        load_adapter(make("sd"), tmp_path / "xl")


def test_names_and_places_that_are_none_are_told(make, tmp_path):
    trained = make("sd")
    add(trained, "sd", "default", seed=0)
    folder = tmp_path / "a.safetensors"
    folder.mkdir()
    with pytest.raises(PlaceError, match="is a folder; name a file"):
        save_adapter(trained, folder)
    save_adapter(trained, tmp_path / "sd")
    with pytest.raises(ConfigError, match="PEFT does not accept adapter_name=3"):
        load_adapter(make("sd"), tmp_path / "sd", adapter_name=3)  # type: ignore[arg-type]
