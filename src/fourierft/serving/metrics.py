"""What is counted for Prometheus, beside what vLLM counts: by tenant, and of the adapters in the engine."""

from __future__ import annotations

from collections.abc import Iterable

from fourierft.extras import needs
from fourierft.serving.turns import Turns

with needs("serve", "the server"):
    from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "fourierft_requests",
    "Completions, and requests without a key (401, no tenant), by HTTP status",
    ["tenant", "status"],
)
TOKENS = Counter("fourierft_tokens", "Tokens of prompts and of answers", ["tenant", "kind"])
FIRST_TOKEN = Histogram(
    "fourierft_first_token_seconds", "From a streamed request to the first part of its answer", ["tenant"]
)
SECONDS = Histogram("fourierft_request_seconds", "From a request to the end of its answer", ["tenant"])
RUNNING = Gauge("fourierft_requests_running", "Requests that are being answered", ["tenant"])
WAITING = Gauge("fourierft_requests_waiting", "Requests that wait for their tenant's turn", ["tenant"])
RESIDENT = Gauge("fourierft_adapters_resident", "Adapters in the slots of the engine")
SLOTS = Gauge("fourierft_adapter_slots", "Slots of the engine")
TABLE_BYTES = Gauge("fourierft_adapter_table_bytes", "Memory of the slots")
LOADS = Gauge("fourierft_adapter_loads", "Adapters put into slots since the start")
EVICTIONS = Gauge("fourierft_adapter_evictions", "Adapters that made room for others since the start")


def set_counts(counts: dict[str, int]) -> None:
    """Take over what `Fleet.counts` says."""
    for gauge, key in (
        (RESIDENT, "resident"),
        (SLOTS, "slots"),
        (TABLE_BYTES, "bytes"),
        (LOADS, "loads"),
        (EVICTIONS, "evictions"),
    ):
        gauge.set(counts[key])


def set_turns(tenants: Iterable[Turns]) -> None:
    """Take over how much is asked for; of a tenant that is gone nothing is left."""
    RUNNING.clear()
    WAITING.clear()
    for turns in tenants:
        RUNNING.labels(turns.tenant.name).set(turns.running)
        WAITING.labels(turns.tenant.name).set(turns.waiting)
