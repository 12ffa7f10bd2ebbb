"""What the tests of the page need: Chromium, and onnxruntime-web in the cache, where `make web-demo` puts it."""

from __future__ import annotations

import shutil

from fourierft.export.site import RUNTIME
from fourierft.training.assets import cache_root

CHROMIUM = shutil.which("chromium")  # as Debian's package calls it
collect_ignore = [
    name
    for name, there in (
        ("test_page.py", CHROMIUM),
        ("test_site.py", CHROMIUM and (cache_root() / RUNTIME.folder).is_dir()),
    )
    if not there
]
