"""Every row of a batch is what stock PEFT gives for it with its adapter alone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    SwitchTransformersConfig,
    SwitchTransformersForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from fourierft import AdapterBank, FleetModel, FourierFTConfig, disable, enable
from fourierft.errors import CheckpointError, ConfigError, ShapeError, StoreError
from fourierft.fleet import BASE
from fourierft.store import AdapterStore

POPULARITIES = ["distinct", "uniform", "Zipf", "identical"]
ROWS, LENGTH = 8, 7


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Rows of different lengths, padded on the right."""
    ids = torch.randint(3, 20, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(LENGTH)[None] < torch.tensor([7, 5, 6, 7, 4, 7, 3, 6])[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.fixture
def left(batch):
    """The same rows, padded on the left."""
    return {name: tensor.flip(1) for name, tensor in batch.items()}


def row(batch, i):
    return {name: tensor[i if isinstance(i, slice) else slice(i, i + 1)] for name, tensor in batch.items()}


def assert_same(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("popularity", POPULARITIES)
def test_every_row_of_an_encoder_is_that_of_its_adapter_and_head_alone(encoders, batch, pick, tmp_path, popularity):
    fleet = FleetModel(encoders.load(), encoders.store(tmp_path / "fleet.db"))
    names = pick(popularity, ROWS)
    logits = fleet(names=names, **batch).logits
    for i, name in enumerate(names):
        with torch.no_grad():
            assert_same(logits[i], encoders.alone(name)(**row(batch, i)).logits[0])


@pytest.mark.parametrize("padding", ["batch", "left"])
@pytest.mark.parametrize("popularity", POPULARITIES)
def test_every_row_of_a_decoder_is_that_of_its_adapter_alone(decoders, pick, tmp_path, popularity, padding, request):
    batch = request.getfixturevalue(padding)
    fleet = FleetModel(decoders.load(), decoders.store(tmp_path / "fleet.db"))
    names = pick(popularity, ROWS)
    logits = fleet(names=names, **batch).logits
    for i, name in enumerate(names):
        with torch.no_grad():
            alone = decoders.alone(name)(**row(batch, i)).logits[0]
        seen = batch["attention_mask"][i].bool()
        assert_same(logits[i][seen], alone[seen])


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}])
@pytest.mark.parametrize("popularity", ["distinct", "identical"])
def test_generated_tokens_are_those_of_each_adapter_alone(decoders, left, pick, tmp_path, popularity, options):
    fleet = FleetModel(decoders.load(), decoders.store(tmp_path / "fleet.db"))
    names = pick(popularity, ROWS)
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, **options}
    tokens = fleet.generate(names=names, **left, **options).view(ROWS, -1, LENGTH + 8)
    for i, name in enumerate(names):
        assert torch.equal(tokens[i], decoders.alone(name).generate(**row(left, i), **options)), name


def test_adapters_change_what_is_generated(decoders, left, tmp_path):
    fleet = FleetModel(decoders.load(), decoders.store(tmp_path / "fleet.db"))
    same = {name: tensor[:1].expand(5, -1) for name, tensor in left.items()}
    names = ["long", "short", "value", "other", BASE]
    tokens = fleet.generate(names=names, **same, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert len({tuple(row) for row in tokens.tolist()}) >= 4


def test_sampled_sequences_share_the_adapter_of_their_row(decoders, left, tmp_path):
    fleet = FleetModel(decoders.load(), decoders.store(tmp_path / "fleet.db"))
    options = {"max_new_tokens": 4, "eos_token_id": None, "pad_token_id": 0, "num_return_sequences": 3}
    names = ["long", "short", "value", "other", BASE, "long", "short", "other"]
    nearly_greedy = fleet.generate(names=names, **left, **options, do_sample=True, temperature=1e-4)
    for i, name in enumerate(names):
        alone = decoders.alone(name).generate(
            **row(left, i), max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        assert torch.equal(nearly_greedy[3 * i : 3 * i + 3], alone.expand(3, -1))


def test_encoder_decoder_and_conv1d_models_run_too(tmp_path):
    torch.manual_seed(0)
    shape: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 2, "vocab_size": 60}
    shape |= {"decoder_start_token_id": 0, "eos_token_id": None}
    t5 = T5ForConditionalGeneration(T5Config(**shape)).eval()
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=60, n_positions=32)).eval()
    ids = torch.randint(3, 60, (3, 5))
    options = {"max_new_tokens": 5, "num_beams": 3, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    for model, targets in ((t5, ["q", "v"]), (gpt2, ["c_attn"])):
        bank, alone = AdapterBank(), {}
        for name in ("a", "b"):
            config = peft.FourierFTConfig(target_modules=targets, n_frequency=40, fan_in_fan_out=model is gpt2)
            adapted = peft.get_peft_model(model, config).eval()
            alone[name] = adapted.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
            adapted.save_pretrained(tmp_path / f"{targets[0]}-{name}")
            model = adapted.unload()
            bank.add(name, tmp_path / f"{targets[0]}-{name}")
        fleet = FleetModel(model, bank)
        tokens = fleet.generate(names=["b", "a", "b"], input_ids=ids, attention_mask=torch.ones_like(ids), **options)
        assert not torch.equal(alone["a"], alone["b"])
        assert torch.equal(tokens, torch.stack([alone["b"][0], alone["a"][1], alone["b"][2]]))
        fleet.close()


def test_the_base_itself_is_as_it_was(encoders, batch, tmp_path):
    base = encoders.load()
    with torch.no_grad():
        before = base(**batch).logits
    fleet = FleetModel(base, encoders.store(tmp_path / "fleet.db"))
    fleet(names=["long"] * ROWS, **batch)
    with torch.no_grad():
        assert torch.equal(base(**batch).logits, before)
    assert torch.equal(fleet(names=[BASE] * ROWS, **batch).logits, before)
    fleet.close()
    assert not any(module._forward_hooks for module in base.modules())


def test_a_run_of_steps_prepares_its_rows_once_and_a_changed_adapter_again(decoders, batch, monkeypatch, tmp_path):
    bank = AdapterBank(decoders.store(tmp_path / "fleet.db"))
    fleet, gathered = FleetModel(decoders.load(), bank), []
    gather = bank.gather
    monkeypatch.setattr(bank, "gather", lambda names: gathered.append(names) or gather(names))
    names = ["long", "short"] * 4
    before = fleet(names=names, **batch).logits
    assert torch.equal(fleet(names=names, **batch).logits, before)
    assert len(gathered) == 1
    bank.add("short", decoders.folder / "long")
    after = fleet(names=names, **batch).logits
    assert len(gathered) == 2
    assert_same(after, fleet(names=["long"] * ROWS, **batch).logits)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 1e-2), ("int8", 2e-2)])
def test_smaller_dtypes_of_the_bank_are_near(encoders, batch, pick, tmp_path, dtype, tolerance):
    store = encoders.store(tmp_path / "fleet.db")
    names = pick("distinct", ROWS)
    exact = FleetModel(encoders.load(), store)(names=names, **batch).logits
    near = FleetModel(encoders.load(), AdapterBank(store, dtype).load())(names=names, **batch).logits
    error = (near - exact).norm() / exact.norm()
    assert 0 < error < tolerance


def test_a_base_in_bfloat16_keeps_its_dtype(decoders, batch, pick, tmp_path):
    store, names = decoders.store(tmp_path / "fleet.db"), pick("distinct", ROWS)
    exact = FleetModel(decoders.load(), AdapterBank(store))(names=names, **batch).logits
    near = FleetModel(decoders.load().bfloat16(), AdapterBank(store))(names=names, **batch).logits
    assert near.dtype == torch.bfloat16
    assert (near.float() - exact).norm() / exact.norm() < 5e-2


def test_threads_that_answer_while_adapters_change_get_no_mixture(decoders, batch, tmp_path):
    bank = AdapterBank()
    bank.add("a", decoders.folder / "long")
    fleet = FleetModel(decoders.load(), bank)
    bank.add("b", decoders.folder / "short")
    allowed = [fleet(names=[name] * ROWS, **batch).logits for name in ("a", "b")]
    wrong, done = [], threading.Event()

    def answer() -> None:
        torch.set_num_threads(1)
        while not done.is_set():
            logits = fleet(names=["a"] * ROWS, **batch).logits
            if not any(torch.allclose(logits, right, atol=1e-5) for right in allowed):
                wrong.append(logits)

    threads = [threading.Thread(target=answer) for _ in range(2)]
    for thread in threads:
        thread.start()
    for k in range(30):
        bank.add("a", decoders.folder / ("short" if k % 2 else "long"))
        bank.add(f"new {k}", decoders.folder / "value")
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_names_must_be_one_a_row(encoders, batch, tmp_path):
    fleet = FleetModel(encoders.load(), encoders.store(tmp_path / "fleet.db"))
    with pytest.raises(ConfigError, match="got 4 names for 8 rows; give one name for each row"):
        fleet(names=["long"] * 3 + ["short"], **batch)
    with pytest.raises(ConfigError, match="is not a list with one name for each row"):
        fleet(names="long", **batch)
    with pytest.raises(StoreError, match="has no adapter 'lnog'"):
        fleet(names=["lnog"] * ROWS, **batch)


def test_a_base_of_another_kind_is_refused(encoders, decoders, tmp_path, tiny_bert: Path, tiny_llama: Path):
    store = encoders.store(tmp_path / "fleet.db")
    with pytest.raises(StoreError, match=f"keeps adapters of the base {tiny_bert}.*was loaded for {tiny_llama}"):
        FleetModel(decoders.load(), store)
    ids = torch.ones(1, 3, dtype=torch.long)
    with pytest.raises(CheckpointError, match=r"the base BertModel has no layer bert\.encoder"):
        FleetModel(BertModel.from_pretrained(tiny_bert), AdapterBank(store))(names=["long"], input_ids=ids)
    two = type(encoders.load()).from_pretrained(tiny_bert, num_labels=2)
    with pytest.raises(ShapeError, match=r"head classifier is \[3, 32\], but \[2, 32\] in the base"):
        FleetModel(two, AdapterBank(store))(names=["long"], input_ids=ids)


def test_what_cannot_differ_by_row_is_refused(encoders, tmp_path):
    config = peft.FourierFTConfig(n_frequency=5, target_modules=["query"], modules_to_save=["LayerNorm"])
    peft.get_peft_model(encoders.load(), config).save_pretrained(tmp_path / "norms")
    bank = AdapterBank()
    bank.add("norms", tmp_path / "norms")
    fleet = FleetModel(encoders.load(), bank)
    with pytest.raises(ConfigError, match="a LayerNorm, but only weights of linear layers"):
        fleet(names=["norms"], input_ids=torch.ones(1, 3, dtype=torch.long))


@pytest.fixture
def make_opt():
    """A tiny OPT, whose fc1 gets [rows * tokens, width]."""

    def make():
        torch.manual_seed(0)
        settings: dict[str, Any] = {"vocab_size": 20, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 1}
        more: dict[str, Any] = {
            "word_embed_proj_dim": 32,
            "num_attention_heads": 4,
            "max_position_embeddings": 32,
            "init_std": 0.2,
        }
        return OPTForCausalLM(OPTConfig(**settings, **more)).eval()

    return make


def test_tokens_under_one_another_belong_to_their_rows(make_family, make_opt, batch, pick, tmp_path):
    opts = make_family(make_opt, ["q_proj", "fc1"], tmp_path)
    fleet, names = FleetModel(make_opt(), opts.bank()), pick("distinct", ROWS)
    logits = fleet(names=names, **batch).logits
    for i, name in enumerate(names):
        with torch.no_grad():
            assert_same(logits[i], opts.alone(name)(**row(batch, i)).logits[0])
    ragged = torch.randn(3 * ROWS, 32)  # of some tokens alone it is not known whose they are
    fleet.base.model.decoder.layers[0].fc1.register_forward_pre_hook(lambda layer, inputs: (ragged,))
    with pytest.raises(ConfigError, match=r"layers\.0\.fc1 got an input of 24 vectors for 8 rows"):
        fleet(names=names, **batch)


def test_tokens_that_a_router_gives_to_an_expert_are_refused(make_family, batch, tmp_path):
    def load():
        torch.manual_seed(0)
        settings: dict[str, Any] = {
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 1,
            "num_decoder_layers": 1,
            "num_heads": 4,
        }
        more: dict[str, Any] = {
            "num_experts": 2,
            "num_sparse_encoder_layers": 1,
            "num_sparse_decoder_layers": 0,
            "vocab_size": 20,
        }
        return SwitchTransformersForConditionalGeneration(SwitchTransformersConfig(**settings, **more)).eval()

    switches = make_family(load, ["wi", "wo"], tmp_path)
    fleet = FleetModel(load(), switches.bank())
    inputs = {**row(batch, slice(0, 2)), "decoder_input_ids": batch["input_ids"][:2, :3]}
    with pytest.raises(ConfigError, match=r"mlp\.experts\.expert_\d\.w[io] got an input of \d+ vectors for 2 rows"):
        fleet(names=["long", "short"], **inputs)


class Guided(LlamaForCausalLM):
    """Runs every row with its text, then every row without, in one call."""

    def prepare_inputs_for_generation(self, input_ids, *positional, attention_mask=None, **options):
        return {"input_ids": input_ids.repeat(2, 1), "attention_mask": attention_mask.repeat(2, 1)}


def test_rows_that_guidance_doubles_are_refused(decoders, left, pick, tiny_llama, tmp_path):
    fleet = FleetModel(Guided.from_pretrained(tiny_llama), decoders.store(tmp_path / "fleet.db"))
    with pytest.raises(ConfigError, match="got 16 rows for 8 names, because guidance_scale doubles the rows"):
        fleet.generate(names=pick("distinct", ROWS), **left, max_new_tokens=1, guidance_scale=2.0)


def test_a_path_is_opened_and_a_missing_one_named(encoders, batch, tmp_path):
    encoders.store(tmp_path / "fleet.db").close()
    assert FleetModel(encoders.load(), tmp_path / "fleet.db")(names=["long"] * ROWS, **batch).logits.shape == (8, 3)
    with pytest.raises(StoreError, match="there is no store"):
        FleetModel(encoders.load(), AdapterStore(tmp_path / "none.db", create=False))


def test_rows_have_their_own_head_and_embedding(make_headed, headed_logits, tied_llama, tmp_path):
    store = AdapterStore(tmp_path / "fleet.db")
    targets = {"a": ("lm_head", "embed_tokens"), "b": ("lm_head",), "c": ("embed_tokens", "q_proj")}
    for name, own in targets.items():
        store.add(name, make_headed(name, targets=own))
    assert {layer.shape for layer in store.get("a").layout.layers} == {(37, 16)}
    fleet = FleetModel(LlamaForCausalLM.from_pretrained(tied_llama), store)
    ids = torch.arange(3, 15).view(2, 6)  # what `headed_logits` are of
    names = ["b", BASE, "c", "a", "a"]
    with torch.no_grad():
        bare = fleet.base(ids).logits
    found = fleet(names=names, input_ids=ids[[0, 1, 0, 1, 0]]).logits
    for i, name in enumerate(names):
        expected = bare if name == BASE else headed_logits(tmp_path / name)
        assert_same(found[i], expected[i % 2])
    assert_same(fleet(names=["c"] * 2, input_ids=ids).logits, headed_logits(tmp_path / "c"))


def test_rows_have_their_own_scaled_padded_and_shared_embeddings(tmp_path):
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "vocab_size": 37,
        "scale_embedding": True,
    }
    shape |= {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    bart = BartForConditionalGeneration(BartConfig(**shape, encoder_ffn_dim=16, decoder_ffn_dim=16)).eval()
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=37, n_positions=32)).eval()
    enable()
    ids = torch.tensor([[4, 9, 36, 1, 1], [5, 0, 7, 8, 3], [4, 9, 36, 1, 1]])
    for model, targets in ((bart, ["embed_tokens"]), (gpt2, ["wpe", "wte", "lm_head"])):
        bank, alone = AdapterBank(), {}
        for name in ("a", "b"):
            config = FourierFTConfig(target_modules=targets, n_frequency=40, scaling=20.0, init_weights=False)
            adapted = peft.get_peft_model(model, config).eval()
            with torch.no_grad():
                alone[name] = adapted(input_ids=ids).logits
            adapted.save_pretrained(tmp_path / f"{targets[0]}-{name}")
            model = adapted.unload()
            bank.add(name, tmp_path / f"{targets[0]}-{name}")
        found = FleetModel(model, bank)(names=["b", "a", BASE], input_ids=ids).logits
        with torch.no_grad():
            expected = torch.stack([alone["b"][0], alone["a"][1], model(input_ids=ids).logits[2]])
        assert (alone["a"] - alone["b"]).abs().max() > 0.1
        assert_same(found, expected)
    disable()


def test_an_embedding_that_does_more_than_look_up_is_refused(make_headed, tied_llama):
    class Doubled(torch.nn.Embedding):
        def forward(self, input_ids):
            return 2 * super().forward(input_ids)

    base = LlamaForCausalLM.from_pretrained(tied_llama)
    base.model.embed_tokens = Doubled(37, 16)
    bank = AdapterBank()
    bank.add("a", make_headed("a"))
    with pytest.raises(ShapeError, match="a Doubled; a fleet adapts only Linear, Conv1D and plain embeddings"):
        FleetModel(base, bank)(names=["a"], input_ids=torch.ones(1, 3, dtype=torch.long))


def test_rows_follow_a_base_that_is_cast_and_written_to(encoders, batch, tmp_path):
    """Heads and updates are prepared for the tensors of a call; a later call may have others."""
    base = encoders.load()
    fleet = FleetModel(base, encoders.store(tmp_path / "fleet.db"))
    names = ["long", "short", "value", "other", BASE, "long", "short", "value"]
    alone = {name: encoders.alone(name) for name in names}
    changes = (
        lambda model: model.float(),
        lambda model: model.double(),
        lambda model: model.get_input_embeddings().weight.data.mul_(0.5),
        lambda model: model.float(),
    )
    for change in changes:
        with torch.no_grad():
            for model in (base, *alone.values()):
                change(model)
            logits = fleet(names=names, **batch).logits
            for i, name in enumerate(names):
                assert_same(logits[i], alone[name](**row(batch, i)).logits[0])
