"""Rows of a batch keep their adapters through beams, flattened layers and windows; what cannot be told is refused."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model
from torch import nn
from transformers import (
    BertConfig,
    BertForMultipleChoice,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    OPTConfig,
    OPTForCausalLM,
    SwinConfig,
    SwinForImageClassification,
    SwitchTransformersConfig,
    SwitchTransformersForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    XLNetConfig,
    XLNetLMHeadModel,
)

from fourierft.errors import ConfigError
from fourierft.rows.names import Batch, Expansion, RowNames, check_rows, read_batch
from fourierft.tuner import FourierFTConfig

IDS = torch.randint(3, 60, (3, 8), generator=torch.Generator().manual_seed(0))
NAMES = ["second", "__base__", "default"]
START: dict[str, Any] = {"decoder_start_token_id": 0}


def adapted(model, *targets):
    """With the adapters default and second, which change what the model gives by as much as it gives."""
    settings: dict[str, Any] = {
        "n_frequency": 60,
        "target_modules": list(targets),
        "init_weights": False,
        "scaling": 200.0,
    }
    torch.manual_seed(5)
    model = get_peft_model(model, FourierFTConfig(**settings))
    model.add_adapter("second", FourierFTConfig(**settings, random_loc_seed=2))
    return model.eval()


def row_by_row(model, run):
    """run(i) for each row with its adapter alone."""
    results = []
    for i, name in enumerate(NAMES):
        if name == "__base__":
            with model.disable_adapter():
                results.append(run(i))
        else:
            model.set_adapter(name)
            results.append(run(i))
    return torch.cat(results)


@torch.no_grad()
def check_logits(model, **inputs):
    mixed = model(**inputs, adapter_names=NAMES).logits
    alone = row_by_row(model, lambda i: model(**{name: x[i : i + 1] for name, x in inputs.items()}).logits)
    with model.disable_adapter():
        base = model(**inputs).logits
    scale = float(alone.abs().max())
    assert float((base - alone).abs().max()) > 0.1 * scale
    torch.testing.assert_close(mixed, alone, rtol=1e-4, atol=1e-4 * scale)


def check_tokens(model, **options):
    usual = {"max_new_tokens": 5, "pad_token_id": 0, "do_sample": False} | options
    mixed = model.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), adapter_names=NAMES, **usual)

    def alone(i):
        return model.generate(input_ids=IDS[i : i + 1], attention_mask=torch.ones_like(IDS[:1]), **usual)

    assert torch.equal(mixed, row_by_row(model, alone))


@pytest.fixture
def llama(make_llama):
    model = make_llama()
    model.generation_config = GenerationConfig(pad_token_id=0, do_sample=False)
    return adapted(model, "q_proj", "v_proj", "down_proj")


# Generation


@pytest.mark.parametrize(
    "options",
    [
        {"generation_config": GenerationConfig(num_beams=3, max_new_tokens=5, pad_token_id=0, do_sample=False)},
        {"generation_config": GenerationConfig(num_beams=2, num_return_sequences=2, max_new_tokens=4, pad_token_id=0)},
        {"num_beams": 3, "num_return_sequences": 2},
        {"guidance_scale": 1.5, "num_beams": 2},
    ],
    ids=["beams of a config", "returned of a config", "beams returned", "guidance"],
)
def test_generated_rows_are_those_of_their_adapters_alone(llama, options):
    check_tokens(llama, **options)


def test_beams_that_the_model_asks_for_itself_keep_rows_together(llama):
    llama.generation_config.num_beams = 2
    check_tokens(llama)


def test_sequences_sampled_by_a_config_have_the_adapter_of_their_row(llama):
    settings = GenerationConfig(num_return_sequences=4, do_sample=True, max_new_tokens=1, pad_token_id=0)
    more = {"output_logits": True, "return_dict_in_generate": True, "attention_mask": torch.ones_like(IDS)}
    with torch.no_grad():
        mixed = llama.generate(input_ids=IDS, adapter_names=NAMES, generation_config=settings, **more).logits[0]
        alone = row_by_row(llama, lambda i: llama(input_ids=IDS[i : i + 1]).logits[:, -1])
    torch.testing.assert_close(mixed, alone.repeat_interleave(4, dim=0), rtol=1e-4, atol=1e-4)


def test_beams_of_an_encoder_decoder_may_come_from_a_config():
    torch.manual_seed(0)
    t5 = T5Config(**START, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=2, vocab_size=60)
    t5.initializer_factor = 3.0
    model = adapted(T5ForConditionalGeneration(t5), "q", "v", "wi")
    check_tokens(
        model,
        generation_config=GenerationConfig(num_beams=3, max_new_tokens=4, decoder_start_token_id=0, pad_token_id=0),
    )


def test_positions_that_rows_share_follow_the_beams():
    torch.manual_seed(0)
    gpt2 = GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=2, n_positions=32, initializer_range=0.3)
    check_tokens(adapted(GPT2LMHeadModel(gpt2), "c_attn", "wpe", "wte"), num_beams=2, eos_token_id=None)


class Guided(nn.Module):
    """A generator that runs every row with its condition, then every row without, in one call."""

    main_input_name = "inputs"

    def __init__(self):
        super().__init__()
        self.layer, self.generation_config = nn.Linear(9, 9), GenerationConfig(guidance_scale=3.0)

    def forward(self, inputs):
        return self.layer(inputs)

    def generate(self, inputs, **options):
        with_it, without = self(torch.cat([inputs, torch.zeros_like(inputs)])).chunk(2)
        return without + 3.0 * (with_it - without)


def test_rows_that_come_twice_for_guidance_have_their_adapter_both_times():
    torch.manual_seed(0)
    model, x = adapted(Guided(), "layer"), torch.randn(3, 2, 9)
    with torch.no_grad():
        mixed = model.generate(x, adapter_names=NAMES)
        torch.testing.assert_close(
            mixed, row_by_row(model, lambda i: model.generate(x[i : i + 1])), rtol=1e-4, atol=1e-4
        )


# Layers that get several rows for each


def test_tokens_under_one_another_belong_to_their_rows():
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": 60,
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }
    opt = OPTForCausalLM(OPTConfig(**settings, word_embed_proj_dim=32, max_position_embeddings=32, init_std=0.3))
    model = adapted(opt, "fc1", "fc2", "q_proj")  # fc1 and fc2 get [rows * tokens, width]
    check_logits(model, input_ids=IDS, attention_mask=torch.ones_like(IDS))
    check_tokens(model, num_beams=2, eos_token_id=None)


def test_windows_and_means_of_images_belong_to_their_rows():
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "image_size": 32,
        "patch_size": 2,
        "embed_dim": 16,
        "depths": [2, 1],
        "num_heads": [2, 4],
        "num_labels": 5,
    }
    swin = SwinForImageClassification(SwinConfig(**settings, window_size=4))
    targets = {name.rpartition(".")[2] for name, part in swin.named_modules() if type(part) is nn.Linear}
    check_logits(adapted(swin, *targets).double(), pixel_values=torch.randn(3, 3, 32, 32, dtype=torch.float64))


def test_choices_under_one_another_belong_to_their_rows():
    torch.manual_seed(0)
    settings: dict[str, Any] = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    bert = BertForMultipleChoice(BertConfig(**settings, intermediate_size=48, initializer_range=0.3))
    check_logits(adapted(bert, "query", "dense"), input_ids=torch.randint(3, 60, (3, 4, 8)))


def test_tokens_that_a_router_gives_to_an_expert_are_refused():
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 1,
        "num_decoder_layers": 1,
        "num_heads": 4,
    }
    experts: dict[str, Any] = {"num_experts": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 0}
    switch = SwitchTransformersConfig(**settings, **experts, **START, vocab_size=60)
    base = SwitchTransformersForConditionalGeneration(switch)
    inputs = {"input_ids": IDS, "decoder_input_ids": IDS[:, :2]}
    check_logits(adapted(copy.deepcopy(base), "q", "v"), **inputs)
    model = adapted(base, "wi")
    with pytest.raises(ConfigError, match=r"mlp\.experts\.expert_\d\.wi got an input of \d+ vectors for 3 rows"):
        model(**inputs, adapter_names=NAMES)
    with torch.no_grad():  # one adapter for all is no question
        model.set_adapter("second")
        torch.testing.assert_close(model(**inputs, adapter_names=["second"] * 3).logits, model(**inputs).logits)


@pytest.mark.parametrize("length", [8, 6, 3])  # 6 positions are a multiple of 3 rows, and 3 are as many
def test_a_model_that_puts_positions_first_is_refused(length):
    torch.manual_seed(0)
    settings: dict[str, Any] = {"vocab_size": 60, "d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 48}
    model = adapted(XLNetLMHeadModel(XLNetConfig(**settings)), "layer_1")
    with pytest.raises(ConfigError, match=rf"ff\.layer_1 got an input of {length} x 3 vectors for 3 rows"):
        model(input_ids=IDS[:, :length], adapter_names=NAMES)


# Names and inputs


@pytest.mark.parametrize(
    "names", [tuple(NAMES), np.array(NAMES), (name for name in NAMES)], ids=["tuple", "array", "iterator"]
)
@pytest.mark.parametrize("positional", [True, False])
def test_names_may_be_any_sequence_and_inputs_positional(llama, names, positional):
    expected = llama(input_ids=IDS, adapter_names=NAMES).logits
    names = names if isinstance(names, (tuple, np.ndarray)) else iter(NAMES)
    actual = llama(IDS, adapter_names=names) if positional else llama(input_ids=IDS, adapter_names=names)
    assert torch.equal(actual.logits, expected)


def test_embeddings_may_be_given_in_place_of_ids(llama):
    rows = llama.get_input_embeddings()(IDS).detach()
    check_logits(llama, inputs_embeds=rows)
    tokens = llama.generate(inputs_embeds=rows, adapter_names=NAMES, num_beams=2, max_new_tokens=3)
    alone = row_by_row(llama, lambda i: llama.generate(inputs_embeds=rows[i : i + 1], num_beams=2, max_new_tokens=3))
    assert torch.equal(tokens, alone)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (
            "default",
            r"adapter_names='default' is not a list with one name for each row; use one, such as \['default'",
        ),
        (["default"], "got 1 adapter_names for 3 inputs; give one name for each input, '__base__' for the base alone"),
        (["default", "second"], "got 2 adapter_names for 3 inputs"),
        (NAMES * 2, "got 6 adapter_names for 3 inputs"),
    ],
)
def test_names_that_are_not_one_a_row_are_refused(llama, names, text):
    for call in (llama, llama.generate):
        with pytest.raises(ConfigError, match=text):
            call(input_ids=IDS, adapter_names=names)


def test_a_forward_pass_takes_no_repeated_rows(llama):
    with pytest.raises(ConfigError, match="got 3 adapter_names for 6 inputs"):
        llama(input_ids=IDS.repeat(2, 1), adapter_names=NAMES)


def test_one_name_generates_several_sequences_from_nothing(llama):
    more = {"max_new_tokens": 1, "bos_token_id": 1, "do_sample": True, "num_return_sequences": 4}
    found = llama.generate(adapter_names=["second"], output_logits=True, return_dict_in_generate=True, **more)
    llama.set_adapter("second")
    with torch.no_grad():
        expected = llama(input_ids=torch.ones(4, 1, dtype=torch.int64)).logits[:, -1]
    torch.testing.assert_close(found.logits[0], expected, rtol=1e-4, atol=1e-4)


def test_an_empty_batch_is_no_error(make_mlp):
    model = adapted(make_mlp(), "square", "tall")
    assert model(torch.randn(0, 16), adapter_names=[]).shape == (0, 3)


def test_names_are_known_in_their_own_thread_alone_and_to_no_copy(llama):
    rows, seen = llama.base_model.row_names, []
    with rows.handed(NAMES, llama.get_base_model(), (IDS,), {}):
        thread = threading.Thread(target=lambda: seen.append((rows.are_handed, rows.of("layer", [5]))))
        thread.start()
        thread.join()
        copies = [copy.deepcopy(rows), pickle.loads(pickle.dumps(rows))]
        assert rows.of("layer", [3]) == NAMES
    assert seen == [(False, None)]
    assert not any(one.are_handed for one in [*copies, rows])


# What is read of a call, and which rows of a layer's input are known


def test_what_a_call_gets_is_read_from_its_main_input():
    ids, pixels, positions = torch.ones(4, 7, dtype=torch.int64), torch.ones(4, 3, 8, 8), torch.arange(7)
    assert read_batch(nn.Linear(1, 1), (), {}) is None
    found = read_batch(nn.Linear(1, 1), (), {"cache_position": positions, "input_ids": ids})
    assert found == Batch(4, frozenset({7}), is_even=True)
    assert read_batch(nn.Linear(1, 1), (), {"input_ids": ids, "pixel_values": pixels[:3]}).is_even is False
    assert read_batch(nn.Linear(1, 1), (pixels,), {}) == Batch(4, None, is_even=True)
    assert read_batch(nn.Linear(1, 1), (torch.ones(5, 2, 9),), {}).rows == 5


TEXT, IMAGES = Batch(4, frozenset({7}), is_even=True), Batch(4, None, is_even=True)


@pytest.mark.parametrize(
    ("shape", "count", "batch"),
    [
        ([4, 7], 4, TEXT),
        ([4], 4, TEXT),  # pooled
        ([28], 4, TEXT),  # flattened
        ([28], 2, TEXT),  # flattened, two beams each
        ([2, 9], 2, TEXT),  # an encoder, before beams
        ([4, 7], 4, None),
        ([36, 16], 4, IMAGES),  # windows
    ],
)
def test_rows_that_follow_one_another_are_known(shape, count, batch):
    check_rows("layers.0.fc1", shape, count, batch)


@pytest.mark.parametrize(
    ("layer", "shape", "count", "batch"),
    [
        ("fc1", [24], 4, TEXT),  # the tokens that are no padding, or masked ones
        ("fc1", [28], 4, None),
        ("fc1", [28], 4, TEXT._replace(is_even=False)),  # images of several rows
        ("fc1", [8, 4], 4, IMAGES),  # positions first
        ("fc1", [30], 4, IMAGES),
        ("fc1", [], 4, TEXT),  # one vector alone
        ("fc1", [4, 4], 4, IMAGES._replace(is_turned=True)),  # as many positions as rows, either first
        ("layers.0.experts.3.up_proj", [28], 4, TEXT),
        ("layers.0.experts.3.up_proj", [4], 4, TEXT),
    ],
)
def test_rows_that_cannot_be_told_are_refused(layer, shape, count, batch):
    with pytest.raises(ConfigError, match=rf"{layer} got an input of .* vectors for {count} rows"):
        check_rows(layer, shape, count, batch)


def test_one_vector_that_all_rows_share_has_the_adapter_of_all_or_is_refused():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.own, self.shared = nn.Linear(16, 16), nn.Linear(8, 16)

        def forward(self, x):
            return self.own(x) + self.shared(torch.ones(8))

    torch.manual_seed(0)
    model, x = adapted(Shared(), "own", "shared"), torch.randn(3, 16)
    with torch.no_grad():
        alone = model(x)
        torch.testing.assert_close(model(x, adapter_names=["default"] * 3), alone, rtol=1e-5, atol=1e-5)
        with pytest.raises(ConfigError, match="shared got an input of 1 vectors for 3 rows"):
            model(x, adapter_names=NAMES)


def test_rows_are_doubled_where_guidance_says_so_alone():
    assert Expansion(rows=2, is_guided=True).is_doubled(12, 3)
    assert not Expansion(rows=2, is_guided=True).is_doubled(6, 3)
    assert not Expansion(rows=2, is_guided=False).is_doubled(12, 3)
    assert RowNames().of("layer", [3]) is None
