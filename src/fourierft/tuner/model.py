"""The tuner: puts adapted layers into a model, the way PEFT's other tuners do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, cast

from accelerate import init_empty_weights
from peft import FourierFTConfig as StockConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import TRANSFORMERS_MODELS_TO_FOURIERFT_TARGET_MODULES_MAPPING, AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fourierft.errors import ConfigError, ShapeError
from fourierft.rows.names import RowNames, checked_names
from fourierft.tuner.advice import setting_advice, target_advice, warn_of_stacks
from fourierft.tuner.checkpoint import fold, leave_embeddings, unfold
from fourierft.tuner.checks import check_mergeable, warn_of_precision
from fourierft.tuner.coefficients import ON_DISK
from fourierft.tuner.config import FourierFTConfig
from fourierft.tuner.counts import layer_count
from fourierft.tuner.embedding import EmbeddingLayer
from fourierft.tuner.first_step import follow, watch
from fourierft.tuner.layer import FourierFTLayer, FourierFTLinear
from fourierft.tuner.merging import warn_of_loss
from fourierft.tuner.parameters import add_parameter, find_parameters, remove_hosts
from fourierft.tuner.places import check_holder, place_everywhere, take_from_everywhere
from fourierft.tuner.quantization import keep_layout
from fourierft.tuner.reading import is_among, is_only_read, names_read
from fourierft.tuner.record import check_base, note_base
from fourierft.tuner.reshaped import CONVOLUTIONS, ReshapedLayer
from fourierft.tuner.saved import choose_saved
from fourierft.tuner.scaling import find_width
from fourierft.tuner.sharing import leave_inputs, share_inputs
from fourierft.tuner.ties import record_parting, shared_weights, tie_flags
from fourierft.tuner.versions import NoMatchingPeftModuleError, Tuner, get_quantization_kwargs
from fourierft.tuner.weighting import check_combination, check_summands, fill_sum, sum_config


class FourierFTModel(Tuner):
    """A model whose target modules are `FourierFTLayer`s (arXiv 2405.03003); made by `peft.get_peft_model`.

    Takes what PEFT's tuners take: a model, a config (ours or stock PEFT's) and an adapter name.
    """

    prefix = "fourierft_"
    tuner_layer_cls = FourierFTLayer
    linear_layer_cls: type[FourierFTLayer] = FourierFTLinear
    target_module_mapping: Any = TRANSFORMERS_MODELS_TO_FOURIERFT_TARGET_MODULES_MAPPING

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        object.__setattr__(self, "row_names", RowNames())  # before nn.Module's own start, which injects
        super().__init__(*args, **kwargs)

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add an adapter to the model.

        Raises: ConfigError, naming the nearest modules, if no module of the model is targeted. ShapeError, if the file
            of the adapter says that it was made for layers of other shapes, or for more or fewer of them.
        """
        keep_layout(model)
        config, state = cast(StockConfig, self.peft_config[adapter_name]), kwargs.get("state_dict")
        named = {key.rsplit(f".{self.prefix}", 1)[0].removeprefix("_orig_mod.") for key in state or ()}
        is_target = partial(self._check_target_module_exists, config) if state is None else named.__contains__
        check_base(model, config, is_target)
        if isinstance(config, FourierFTConfig):
            config.base_width = find_width(model)
        config.trainable_token_indices = None  # type: ignore[attr-defined]  # else PEFT asks for an embedding
        self._shared_weights, self._names_read = shared_weights(model), names_read(model)
        self._only_read: list[FourierFTLayer] = []
        try:
            super().inject_adapter(model, adapter_name, *args, **kwargs)
        except NoMatchingPeftModuleError as error:
            if advice := target_advice(model, config):
                raise ConfigError(f"no module of the model is targeted; {'; '.join(advice)}") from error
            raise
        targeted = [*self.targeted_module_names, *self.targeted_parameter_names]
        if advice := [*target_advice(model, config), *setting_advice(model, config, targeted)]:
            warnings.warn(f"some settings match nothing in the model: {'; '.join(advice)}", stacklevel=2)
        if self._takes_all:
            warn_of_stacks(model)
        if any(adapter_name in getattr(part, "fourierft_scaling", ()) for part in place_everywhere(model)):
            config.reads_weights = True  # type: ignore[attr-defined]  # stock PEFT's have no effect there
        share_inputs(model)
        warn_of_precision(self._only_read)

    def merge_adapter(self, adapter_names: list[str] | None = None, safe_merge: bool = False) -> None:
        """Add the updates of adapters to the base weights; warns of what low precision or quantisation loses."""
        check_mergeable(self._layers(), self.peft_config, adapter_names)
        super().merge_adapter(adapter_names=adapter_names, safe_merge=safe_merge)
        warn_of_loss(self._layers())

    def merge_and_unload(
        self, progressbar: bool = False, safe_merge: bool = False, adapter_names: list[str] | None = None
    ) -> nn.Module:
        """The base model with the updates added; warns of what low precision or quantisation loses.

        Weights that were tied to one that is merged into keep what they had, and config and file of the model say so.
        """
        layers, flags = self._layers(), tie_flags(self.model)
        check_mergeable(layers, self.peft_config, adapter_names)
        if adapter_names:
            choose_saved(self.model, adapter_names)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Input and output embeddings are no longer tied")
            model = super().merge_and_unload(progressbar, safe_merge, adapter_names)
        for config, tied in flags:  # PEFT clears the flag of any model whose two embeddings differ
            config.tie_word_embeddings = tied
        record_parting(model)
        warn_of_loss(layers)
        return model

    def add_weighted_adapter(
        self, adapters: Sequence[str], weights: Sequence[float], adapter_name: str, combination_type: str = "linear"
    ) -> None:
        """Add an adapter whose update is the weighted sum of those of others, which have the same settings but scaling.

        The sum is exact: what LoRA calls "linear", "cat" and "svd" is the same here.

        Raises: ConfigError, if there is no such sum, or another combination is asked for.
        """
        check_combination(combination_type)
        config = sum_config(self.peft_config, adapters, weights, adapter_name)
        check_summands(self._layers(), adapters)
        self.peft_config[adapter_name] = config
        self.inject_adapter(self.model, adapter_name)
        fill_sum(self._layers(), adapters, weights, adapter_name)

    def _unload_and_optionally_merge(
        self, merge: bool = True, progressbar: bool = False, safe_merge: bool = False, adapter_names: Any = None
    ) -> Any:
        remove_hosts(self.model, merge, safe_merge, adapter_names)  # PEFT looks for no layers inside of them
        model: Any = super()._unload_and_optionally_merge(merge, progressbar, safe_merge, adapter_names)
        take_from_everywhere(model)
        leave_inputs(model)
        return model

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        if isinstance(new_module, BaseTunerLayer):
            super()._replace_module(parent, child_name, new_module, child)
        else:  # PEFT hands over the weight of `child`, which a saved module that holds others has not
            setattr(parent, child_name, new_module)

    def _check_tied_modules(self, model: nn.Module, peft_config: Any) -> None:
        """Nothing to warn of: merging parts what is tied, and says so."""

    def _get_tied_target_modules(self, model: nn.Module) -> list[str]:
        return []

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        config: StockConfig = peft_config
        n_frequency = layer_count(config, current_key)
        try:
            if isinstance(target, FourierFTLayer):
                layer = target
                layer.update_layer(adapter_name, n_frequency, config)
            else:
                check_holder(self.model, current_key, target)
                quantization = get_quantization_kwargs(self.model)
                base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
                layer = self._layer_class(base)(target, adapter_name, n_frequency, config, quantization)
        except ShapeError as error:
            raise ShapeError(f"layer {current_key}: {error}") from None
        self._take_in(layer, adapter_name, config, current_key)
        _set_layout(config, layer)
        if isinstance(config, FourierFTConfig):
            config.has_reshaped = config.has_reshaped or isinstance(layer, ReshapedLayer)
        layer.is_tied = layer.is_tied or id(getattr(layer.get_base_layer(), "weight", None)) in self._shared_weights
        layer.is_read = is_among(current_key, self._names_read)
        if layer.is_read and is_only_read(parent, target_name):
            self._only_read.append(layer)
            if isinstance(config, FourierFTConfig):
                config.reads_weights = True
        if layer is not target:
            self._replace_module(parent, target_name, layer, target)

    def _take_in(self, layer: FourierFTLayer, adapter_name: str, config: StockConfig, path: str) -> None:
        """Make a layer one of the model's."""
        if isinstance(config, FourierFTConfig) and config.disk_scaling is None:
            config.disk_scaling = layer.fourierft_scaling[adapter_name]
        follow(layer)
        if config.scaling != "auto":
            watch(layer, adapter_name)
        layer.path, layer.row_names = path, self.row_names
        if adapter_name not in self.active_adapters:
            layer.fourierft_coefficients[adapter_name].requires_grad_(False)  # until it is activated

    def _prepare_adapter_config(self, peft_config: Any, model_config: Any) -> Any:
        if isinstance(peft_config, FourierFTConfig):
            peft_config.is_taken = True
        self._takes_all = str(peft_config.target_modules).lower() == "all-linear"
        if peft_config.target_modules is None and getattr(peft_config, "target_parameters", None):
            peft_config.target_modules = set()
        return super()._prepare_adapter_config(peft_config, model_config)

    def _inject_parameters(
        self, peft_config: Any, model: nn.Module, adapter_name: str, low_cpu_mem_usage: bool
    ) -> list[str]:
        config: StockConfig = peft_config
        for path, name in find_parameters(model, peft_config.target_parameters):
            full = f"{path}.{name}"
            n_frequency = layer_count(config, full)
            with init_empty_weights() if low_cpu_mem_usage else nullcontext():
                try:
                    layer = add_parameter(model, path, name, adapter_name, n_frequency, config)
                except ShapeError as error:
                    raise ShapeError(f"parameter {full}: {error}") from None
            self._take_in(layer, adapter_name, config, full)
            self.targeted_parameter_names.append(full)
        return self.targeted_parameter_names

    def _layer_class(self, base: nn.Module) -> type[FourierFTLayer]:
        if isinstance(base, nn.Embedding):
            return EmbeddingLayer
        return ReshapedLayer if isinstance(base, CONVOLUTIONS) else self.linear_layer_cls

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Hand `adapter_names` of a forward or generate call to the layers, while it runs."""
        names = kwargs.get("adapter_names")
        if names is None:
            yield
            return
        names = checked_names(names, self.peft_config, self.training)
        handles = [
            wrapper.register_forward_pre_hook(self._hand_over, with_kwargs=True) for wrapper in self._saved_modules()
        ]
        try:
            with self.row_names.handed(names, self.model, args, kwargs):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _hand_over(self, module: nn.Module, inputs: tuple, options: dict[str, Any] | None = None) -> Any:
        if options is None:  # the hook of another thread, which is about to be removed
            return None
        names = self.row_names.each("a module to save", inputs[0].shape[:-1]) if inputs else None
        return inputs, options | {"adapter_names": names}

    def _saved_modules(self) -> list[nn.Module]:
        """PEFT's wrappers of modules that adapters replace; looked for only where a config asks for some."""
        configs = cast("dict[str, StockConfig]", self.peft_config).values()
        if not any(config.modules_to_save for config in configs):
            return []
        return [module for module in self.modules() if isinstance(module, AuxiliaryTrainingWrapper)]

    def _layers(self) -> list[FourierFTLayer]:
        return [module for module in self.modules() if isinstance(module, FourierFTLayer)]

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: Any,
        adapter_name: str,
        state_dict: dict[str, Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, Tensor]:
        selected = super()._get_adapter_state_dict(model, config, adapter_name, state_dict, unwanted_adapter_names)
        awaited = {key: value for key, value in state_dict.items() if key.endswith(f".{ON_DISK}.{adapter_name}")}
        leave_embeddings(config, model)
        note_base(model, config, adapter_name)
        folded = fold(model, adapter_name, selected | awaited)
        for key in selected.keys() - folded.keys():
            del state_dict[key]
        state_dict.update(folded)  # PEFT takes an embedding that it saves whole, coefficients too, from here
        return folded

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        loaded = unfold(model, adapter_name, state_dict)
        return super()._remap_adapter_state_dict_for_load(model, config, adapter_name, loaded)


def _set_layout(config: StockConfig, layer: FourierFTLayer) -> None:
    """Note in the config, for stock PEFT, that a weight is stored as [in, out]; the layer itself knows by its type."""
    if isinstance(layer, ReshapedLayer):
        return
    transposed = isinstance(layer.get_base_layer(), Conv1D)
    if config.fan_in_fan_out and not transposed:
        warnings.warn("fan_in_fan_out=True does not fit torch.nn.Linear; it is set to False", stacklevel=2)
    config.fan_in_fan_out = transposed
