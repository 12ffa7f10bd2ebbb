"""What runs in the processes of vLLM that compute: in place of its manager of LoRA adapters, one for a fleet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fourierft.errors import ConfigError, FourierFTError, ShapeError
from fourierft.format.checkpoint import check_shape
from fourierft.rows.slots import Slot
from fourierft.serving import vllm_internals
from fourierft.serving.batch import Batch, Place, StaticBatch
from fourierft.serving.residents import Residents
from fourierft.store import Adapter, AdapterStore, Layer, Layout

STORE, DTYPE = "FOURIERFT_STORE", "FOURIERFT_ADAPTER_DTYPE"


def register() -> None:
    """Entry point of the plug-in, in every process of vLLM: does nothing unless a store is named in FOURIERFT_STORE."""
    if os.environ.get(STORE):
        vllm_internals.install(FleetManager)


class FleetManager:
    """The adapters of one process of vLLM. Its methods are those that vLLM's model runner calls.

    Args:
        vllm_config: slots are its lora_config.max_loras.
        device: of the model.
        ignored: what vLLM's own manager takes.
    """

    is_enabled = True

    def __init__(self, vllm_config: Any, device: torch.device, *ignored: Any) -> None:
        self.store = AdapterStore(os.environ[STORE], create=False)
        self._slots = vllm_config.lora_config.max_loras
        self._tokens = vllm_config.scheduler_config.max_num_batched_tokens
        self._device = torch.device(device)
        self._names: set[str] = set()
        self._reached: set[str] = set()
        self._adapted: dict[nn.Module, list[Place]] = {}
        self._dummies: set[int] = set()
        self._keys, self._changes = np.zeros(0, dtype=np.int64), 0

    def create_lora_manager(self, model: nn.Module, vllm_config: Any = None) -> nn.Module:
        """Get hold of the layers of the model that the store's adapters change; the model."""
        self._places, self._rename = vllm_internals.find_places(model), vllm_internals.rename_layers(model)
        self._absent = tuple(f"{path}." for path in vllm_internals.find_absent(model))
        layouts = self._fitting(self.store.layouts())
        dtype = os.environ.get(DTYPE, "float32")
        self.residents = Residents(self._slots, dtype, self._device, layouts)
        self._batch: Batch | StaticBatch = Batch(self._keys, self._find)
        if self._device.type != "cpu":
            places = [place for own in self._adapted.values() for place in own]
            self._batch = StaticBatch(self.residents.draws, places, self._tokens, self._device)
        return model

    def set_active_adapters(self, requests: set[Any], mapping: Any | None) -> None:
        """Prepare a step: bring the adapters of its requests, and note which tokens are whose."""
        wanted = {request.lora_int_id: request for request in requests if request.lora_int_id not in self._dummies}
        self.residents.bring(wanted, lambda key: self._load(wanted[key]))
        if mapping is None:
            return
        keys = np.fromiter(mapping.index_mapping, np.int64, len(mapping.index_mapping)).clip(min=0)
        if isinstance(self._batch, StaticBatch):
            self._batch.fill(keys, self._find)
        elif self._changes != self.residents.changes or not np.array_equal(keys, self._keys):
            self._batch, self._keys, self._changes = Batch(keys, self._find), keys, self.residents.changes

    def hold(self, key: int, name: str, version: int) -> str | None:
        """Read an adapter and keep it at hand until it is released; what is wrong with it, None if nothing is."""
        try:
            self.residents.hold(key, self._read(name, version))
        except FourierFTError as error:
            return str(error)
        return None

    def add_adapter(self, request: Any) -> bool:
        """Bring an adapter before a request asks for it."""
        return self.residents.bring([request.lora_int_id], lambda _: self._load(request))

    def add_dummy_lora(self, request: Any, rank: int) -> bool:
        """Let a key that warming up uses stand for a slot."""
        self._dummies.add(request.lora_int_id)
        return True

    def remove_adapter(self, key: int) -> bool:
        return self.residents.remove(key)

    def remove_all_adapters(self) -> None:
        """Empty all slots, after warming up."""
        self._dummies.clear()
        self.residents.clear()
        self._keys = np.zeros(0, dtype=np.int64)

    def pin_adapter(self, key: int) -> bool:
        """Refused: slots are for whom they are needed."""
        raise ConfigError("adapters of a fleet are not pinned; give the server more slots instead")

    def list_adapters(self) -> set[int]:
        return set(self.residents.keys) | self._dummies

    @contextmanager
    def dummy_lora_cache(self) -> Iterator[None]:
        """Nothing is cached for warming up."""
        yield

    def get_dummy_lora_warmup_rank(self, default_rank: int) -> int:
        """There are no ranks here."""
        return default_rank

    def supports_tower_connector_lora(self) -> bool:
        """Adapters change the language model alone."""
        return False

    def _fitting(self, layouts: Sequence[Layout]) -> list[Layout]:
        """The layouts that the model has the layers of; who asks for an adapter of another is told when it is held.

        Raises: FourierFTError, if there are some, and none fits.
        """
        fitting, faults = [], []
        for layout in layouts:
            try:
                self._adapt(layout)
                fitting.append(layout)
            except FourierFTError as fault:
                faults.append(fault)
        if faults and not fitting:
            raise faults[0]
        return fitting

    def _find(self, key: int) -> Slot | None:
        if key in self._dummies:
            draws = self.residents.draws
            return Slot(draws[0], 1 + (key - 1) % self._slots) if draws else None
        return self.residents.find(key)

    def _load(self, request: Any) -> Adapter:
        return self._read(*vllm_internals.read_request(request))

    def _read(self, name: str, version: int) -> Adapter:
        adapter = self.store.get(name, version)
        self._adapt(adapter.layout)
        return adapter

    def _adapt(self, layout: Layout) -> None:
        """Reach the layers of a layout.

        Raises: ShapeError, if the model has them not, or in another shape. ConfigError, if entries cannot be drawn.
        """
        if layout.digest in self._reached:
            return
        found = {}
        for layer in layout.layers:
            local = self._rename(layer.name)
            if not local.startswith(self._absent):
                found[layer.name] = self._find_place(layer, local)
                layout.settings.draw.basis(*found[layer.name][1].shape, layer.n_frequency)  # before a step needs it
        for name, (module, place) in found.items():
            if name not in self._names:
                self._names.add(name)
                self._adapt_module(module, place._replace(name=name))
        self._reached.add(layout.digest)

    def _find_place(self, layer: Layer, local: str) -> tuple[nn.Module, Place]:
        if local not in self._places:
            raise ShapeError(
                f"the adapters change {layer.name}, but only linear layers other than head "
                "and embedding can be served; serve the base that they were trained on, "
                "or merge the adapter"
            )
        module, place = self._places[local]
        check_shape(layer.name, place.shape, layer.shape, layer.n_frequency, "the model that is served")
        return module, place

    def _adapt_module(self, module: nn.Module, place: Place) -> None:
        if module not in self._adapted:
            places = self._adapted[module] = []

            def add(x: Tensor, y: Tensor) -> None:
                for place in places:
                    self._batch.add(place, x, y)

            vllm_internals.adapt(module, add)
        self._adapted[module].append(place)


class FleetWorker:
    """What the server asks of each process that computes: methods that vLLM gives to its workers."""

    model_runner: Any

    def fleet_hold(self, key: int, name: str, version: int) -> str | None:
        """Keep an adapter at hand; what is wrong with it, None if nothing is."""
        return self.model_runner.lora_manager.hold(key, name, version)

    def fleet_release(self, key: int) -> None:
        self.model_runner.lora_manager.residents.release(key)

    def fleet_counts(self) -> dict[str, int]:
        """Adapters in slots, slots, loads, evictions, bytes of the tables."""
        residents = self.model_runner.lora_manager.residents
        return {
            "resident": len(residents.keys),
            "slots": residents.slots,
            "loads": residents.loads,
            "evictions": residents.evictions,
            "bytes": residents.nbytes,
        }
