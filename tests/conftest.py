"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import gc
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml

if TYPE_CHECKING:
    from fourierft.format.layout import Layout

os.environ["HF_HUB_OFFLINE"] = "1"  # before the first import of a Hugging Face library: no test uses the network
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start: several run side by side
torch.set_num_threads(1)  # of fixtures of a module or session, too


def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> None:
    """What several tests share is drawn the same whichever of them comes first."""
    if fixturedef.scope != "function":
        _seed()


def pytest_collection_finish() -> None:
    """Keep what collecting has loaded, a million objects, out of later searches for garbage: a fifth of all time."""
    gc.collect()
    gc.freeze()


LAYOUT_SHAPES = {"a.query": (16, 12), "a.value": (12, 16), "b.query": (16, 12)}
LAYOUT_CONFIG = {
    "peft_type": "FOURIERFT",
    "base_model_name_or_path": "org/base",
    "n_frequency": 20,
    "random_loc_seed": 5,
    "scaling": 8.0,
    "target_modules": ["query", "value"],
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, and on one thread: what is tested is small."""
    _seed()
    torch.set_num_threads(1)


@pytest.fixture
def two_threads(seeded: None) -> Iterator[None]:
    """Two threads, where the number of threads is what matters."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


WORDS = (
    *("a", "the", "film", "book", "is", "was", "so", "very", "and", "but", "not", "quite"),
    *("good", "great", "fine", "lovely", "bad", "awful", "poor", "dull"),
)


SaveTokenizer = Callable[..., int]


@pytest.fixture(scope="session")
def save_tokenizer() -> SaveTokenizer:
    """Saves a tokenizer of whole words: (directory, words, splitter=, processor=, **more); returns their number."""

    def save(directory: Path, words: Sequence[str], splitter: Any = None, processor: Any = None, **more: Any) -> int:
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        vocabulary = {word: index for index, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=more["unk_token"]))
        tokenizer.pre_tokenizer = splitter or pre_tokenizers.Whitespace()
        if processor is not None:
            tokenizer.post_processor = processor
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **more).save_pretrained(directory)
        return len(vocabulary)

    return save


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory, save_tokenizer: SaveTokenizer) -> Path:
    """Directory of a random BERT body, 2 layers x 32, dropout 0.1, with a tokenizer of twenty words."""
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel

    directory = tmp_path_factory.mktemp("tiny_bert")
    size = save_tokenizer(
        directory,
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS],
        processor=TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        ),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.3,  # random, yet words differ enough to be told apart
    )
    BertModel(config).save_pretrained(directory)
    return directory


@pytest.fixture
def write_task(tiny_bert: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a task file of `fourierft compare`, (name, **settings): two steps of tiny_bert on sixteen sentences."""

    def write_task(name: str, **settings: Any) -> Path:
        lines = [f"the film is {'good' if k % 2 else 'bad'},{'yes' if k % 2 else 'no'}" for k in range(16)]
        (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
        usual = {
            "model_name_or_path": str(tiny_bert),
            "train_file": str(tmp_path / "rows.csv"),
            "validation_file": str(tmp_path / "rows.csv"),
            "target_modules": ["query", "value"],
            "max_steps": 2,
            "logging_steps": 1,
            "eval_steps": 1,
            "use_cpu": True,
            "head_learning_rate": 1e-2,
            "methods": ["head"],
            "learning_rates": [1e-3],
        }
        text = yaml.safe_dump(usual | settings, sort_keys=False, default_flow_style=None)
        (tmp_path / f"{name}.yaml").write_text(text)
        return tmp_path / f"{name}.yaml"

    return write_task


@pytest.fixture
def load_base(tiny_bert: Path) -> Callable[..., Any]:
    """Loads tiny_bert with a head of three classes."""
    from transformers import AutoModelForSequenceClassification

    def load(dtype: torch.dtype = torch.float32) -> Any:
        return AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=3, dtype=dtype).eval()

    return load


@pytest.fixture
def wrap() -> Callable[..., Any]:
    """Puts a PEFT adapter on a model: (model, config)."""
    import peft

    return lambda model, config: peft.get_peft_model(model, config).eval()


@pytest.fixture
def adapter(load_base: Callable[..., Any], wrap: Callable[..., Any], tmp_path: Path) -> Path:
    """A stock PEFT adapter of 40 normal coefficients on query and value, 2 layers of 32 x 32 each, with its head."""
    import peft

    config = peft.FourierFTConfig(
        n_frequency=40, scaling=25.0, random_loc_seed=5, target_modules=["query", "value"], task_type="SEQ_CLS"
    )
    wrap(load_base(), config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def edit_config(adapter: Path) -> Callable[..., Path]:
    """Change fields of the adapter's config on disk."""

    def edit(**fields: Any) -> Path:
        file = adapter / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
        return adapter

    return edit


@pytest.fixture
def edit_weights(adapter: Path) -> Callable[[Callable[[dict[str, torch.Tensor]], None]], Path]:
    """Change the tensors of the adapter's weights file."""
    from safetensors.torch import load_file, save_file

    def edit(change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
        tensors = load_file(adapter / "adapter_model.safetensors")
        change(tensors)
        save_file(tensors, adapter / "adapter_model.safetensors")
        return adapter

    return edit


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory, save_tokenizer: SaveTokenizer) -> Path:
    """Directory of a random causal LLaMA, 2 layers x 32, with a tokenizer of tiny_bert's words and no padding token."""
    from transformers import LlamaConfig, LlamaForCausalLM

    directory = tmp_path_factory.mktemp("tiny_llama")
    special = {"unk_token": "[UNK]", "bos_token": "[BOS]", "eos_token": "[EOS]"}
    size = save_tokenizer(directory, [*special.values(), *WORDS], **special, model_max_length=32)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random DINOv2, 2 layers x 64, patches of 7, made for images of 28, with its image processor."""
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    directory = tmp_path_factory.mktemp("tiny_dinov2")
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=1, image_size=28, patch_size=7, initializer_range=0.1
    )
    Dinov2Model(config).save_pretrained(directory)
    BitImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def clip_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a CLIP tokenizer that knows the letters of a few words."""
    directory = tmp_path_factory.mktemp("clip_words")
    letters = sorted(set("aphotofsksdog"))
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (directory / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    return directory


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory, clip_words: Path) -> Path:
    """Directory of a random CLIP, 32 wide, for images of 16."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    directory = tmp_path_factory.mktemp("clip")
    tokenizer = CLIPTokenizer(str(clip_words / "vocab.json"), str(clip_words / "merges.txt"), model_max_length=24)
    torch.manual_seed(0)
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
    }
    text |= {"num_attention_heads": 4, "max_position_embeddings": 24, "eos_token_id": tokenizer.eos_token_id}
    vision: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }
    config = CLIPConfig(text_config=text, vision_config={**vision, "image_size": 16, "patch_size": 8}, projection_dim=8)
    CLIPModel(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory, clip_words: Path) -> Path:
    """Directory of a random Stable Diffusion for 16 x 16 pixels: a UNet and an autoencoder of few levels."""
    return _save_pipeline(tmp_path_factory.mktemp("tiny_sd"), clip_words, is_xl=False)


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory, clip_words: Path) -> Path:
    """Directory of a random Stable Diffusion XL: two text encoders, and a UNet told the size of the photo."""
    return _save_pipeline(tmp_path_factory.mktemp("tiny_sdxl"), clip_words, is_xl=True)


def _save_pipeline(directory: Path, words: Path, is_xl: bool) -> Path:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    from fourierft.training.diffusion.pipeline import silent

    with silent():
        import diffusers

    torch.manual_seed(0)
    tokenizer = CLIPTokenizer(str(words / "vocab.json"), str(words / "merges.txt"), model_max_length=24)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=24,
        projection_dim=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    size_settings = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 32,
        "transformer_layers_per_block": (1, 2),
        "use_linear_projection": True,
    }
    unet = diffusers.UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=down[::-1] if is_xl else down,
        up_block_types=up[::-1] if is_xl else up,
        cross_attention_dim=64 if is_xl else 32,
        attention_head_dim=8,
        norm_num_groups=8,
        **(size_settings if is_xl else {}),
    )
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=16,
    )
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    parts: dict[str, Any] = {"unet": unet, "vae": vae, "scheduler": scheduler, "tokenizer": tokenizer}
    parts["text_encoder"] = CLIPTextModel(text)
    if is_xl:
        parts |= {"text_encoder_2": CLIPTextModelWithProjection(text), "tokenizer_2": tokenizer}
        pipeline: Any = diffusers.StableDiffusionXLPipeline(**parts)
    else:
        parts |= {"safety_checker": None, "feature_extractor": None}
        pipeline = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    with silent():
        pipeline.save_pretrained(directory)
    return directory


@pytest.fixture
def make_layout() -> Callable[..., Layout]:
    """Makes a layout of three small layers; fields of the config can be given."""
    from fourierft.format.layout import Layout

    return lambda shapes=LAYOUT_SHAPES, **fields: Layout.make({**LAYOUT_CONFIG, **fields}, shapes)


@pytest.fixture
def layout(make_layout: Callable[..., Layout]) -> Layout:
    return make_layout()
