"""What `test_distributed.py` starts in two processes: trainings, by a JSON list of their settings, one after the other.

accelerate takes FSDP for a matter of accelerators alone. On a CPU its test for one is passed by calling two gloo
processes two devices; all that follows is what it does on them.
"""

from __future__ import annotations

import json
import os
import sys

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from fourierft.training.run import train
from fourierft.training.settings import build_arguments


def call_processes_devices() -> None:
    """Let accelerate shard over processes."""
    begin = PartialState.__init__

    def initialize(self: PartialState, *arguments: object, **options: object) -> None:
        begin(self, *arguments, **options)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = initialize


if __name__ == "__main__":
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        call_processes_devices()
    for settings in json.loads(sys.argv[1]):
        AcceleratorState._reset_state()
        train(build_arguments(settings))
