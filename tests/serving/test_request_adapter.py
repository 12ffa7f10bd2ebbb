from __future__ import annotations

from types import SimpleNamespace

import pytest

from fourierft.serving.request_adapter import CURRENT, CurrentRequest


def test_a_request_sees_its_own_adapter_alone() -> None:
    known = CurrentRequest()
    assert (len(known), list(known), "a" in known) == (0, [], False)
    request = SimpleNamespace(lora_name="a")
    token = CURRENT.set(request)
    assert (len(known), list(known.values()), known["a"]) == (1, [request], request)
    with pytest.raises(KeyError):
        _ = known["b"]
    CURRENT.reset(token)
    assert "a" not in known
