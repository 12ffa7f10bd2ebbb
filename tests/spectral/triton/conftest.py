"""The kernels run where Triton is installed: by its interpreter, so that no GPU is needed."""

from __future__ import annotations

import os
from importlib.util import find_spec

os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported
collect_ignore = [] if find_spec("triton") else ["test_kernels.py", "test_cubins.py"]
