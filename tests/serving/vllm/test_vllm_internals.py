from __future__ import annotations

import importlib

from fourierft.serving import vllm_internals, worker


def test_this_vllm_has_every_name_that_the_plug_in_touches() -> None:
    """If this fails, vLLM was upgraded and moved something: mend vllm_internals.py, the only file that knows it."""
    assert vllm_internals.find_moved_names(vllm_internals.NAMES) == []


def test_the_manager_has_every_method_that_vllms_own_has_for_model_runners() -> None:
    own = importlib.import_module("vllm.lora.worker_manager").LRUCacheWorkerLoRAManager
    public = {name for name in dir(own) if not name.startswith("_")}
    assert public - set(dir(worker.FleetManager)) == set()
