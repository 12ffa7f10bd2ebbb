"""What is tried: changes of FourierFT in its best form, n of a few hundred on all linear layers, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from fourierft.training.comparison.tasks import Task, read_task
from lab.folders import COMPARISONS
from lab.trials.counts import with_counts
from lab.trials.forms import forms_enabled
from lab.trials.moments import layer_adam

BEST_FORM = {"movies": "fourierft:340,layers=all", "digits": "fourierft:340,layers=all"}
BEST_FORM |= {"instructions": "fourierft:365,layers=all"}
TIED = {"movies": ("408", "query+value"), "digits": ("408", "q_proj+v_proj"), "instructions": ("426", "q_proj+v_proj")}
RATE = 3e-3  # the best of LoRA on query and value, and of FourierFT under scale rule 1
ALL_RATES = (5e-4, 1e-3, 2e-3)  # LoRA's on all layers, half and twice
LAYERS = {"movies": 36, "digits": 72, "instructions": 210}
EVEN = dict.fromkeys(BEST_FORM, "fourierft:340,layers=all")
FEW_N = {"movies": 50, "digits": 50, "instructions": 20}  # fewer than 5,000 numbers in all
FEW = {name: f"fourierft:{n},layers=all" for name, n in FEW_N.items()}


@dataclass(frozen=True)
class Variant:
    """One change.

    Attributes:
        title: for people.
        spec: the method on a task, as `fourierft compare` writes it.
        settings: of the training that differ.
        rates: learning rates it is tried at.
        context: lasts while it trains.
        counts: whether n differs from layer to layer by the gradient.
        unchanged: the form with as many numbers that it changes, by task.
    """

    title: str
    spec: Callable[[str], str] = BEST_FORM.__getitem__
    settings: Mapping[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = (RATE,)
    context: Callable[[], AbstractContextManager[None]] = nullcontext
    counts: bool = False
    unchanged: Mapping[str, str] = field(default_factory=lambda: BEST_FORM)

    def task(self, name: str, seeds: tuple[int, ...], rates: Sequence[float] | None = None) -> Task:
        """The runs of this variant on a task, at its own rates unless given; call it inside `context`."""
        task = read_task(COMPARISONS / f"{name}.yaml").change([self.spec(name)], rates or self.rates, seeds)
        if self.counts:
            task = replace(task, methods=tuple(with_counts(task, method) for method in task.methods))
        marked = {"optim_args": "second_moment=layer"} if self.context is layer_adam else {}
        return replace(task, settings={**task.settings, **self.settings, **marked})


def _plus(extras: str) -> Callable[[str], str]:
    return lambda name: f"{BEST_FORM[name]},{extras}"


def _tied(name: str) -> str:
    count, layers = TIED[name]
    return f"fourierft:{count},layers=all,tie={layers}"


def _form(title: str, extras: str, *rates: float) -> Variant:
    return Variant(title, _plus(extras), rates=rates or (RATE,), context=forms_enabled)


def _pooled(title: str, entries: int, counts: Mapping[str, int], unchanged: Mapping[str, str]) -> Variant:
    def spec(name: str) -> str:
        return f"fourierft:{entries},layers=all,pool={LAYERS[name] * counts[name]}"

    return Variant(title, spec, rates=ALL_RATES, context=forms_enabled, unchanged=unchanged)


VARIANTS = {
    "factored": _form("factored, r=1", "form=factored", 1e-3, RATE, 1e-2),
    "factored2": _form("factored, r=2", "form=factored,rank=2", 1e-3, RATE, 1e-2),
    "factored-ratio": _form("factored, r=1, B four times faster", "form=factored,ratio=4", 1e-3, RATE),
    "factored-whiten": _form(
        "factored, r=1, inputs over the root of their RMS", "form=factored,whiten=0.5", 1e-3, RATE
    ),
    "whiten": _form("inputs over the root of their RMS", "whiten=0.5"),
    "gain": _form("a learned gain a layer", "gain=true"),
    "tied": Variant("one set for query and value, n larger", _tied, context=forms_enabled),
    "counts": Variant("n by the gradient's norm, sum fixed", counts=True),
    "low": Variant("entries near frequency 0", _plus("entries=bandpass,center=0,width=100")),
    "middle": Variant("entries at distance 150", _plus("entries=bandpass,center=150,width=100")),
    "moments": Variant("one second moment a layer in Adam", context=layer_adam),
    "normal": Variant("normal start", _plus("init_weights=false")),
    "decay": Variant("weight decay 0.1", settings={"weight_decay": 0.1}),
    "warmup": Variant("warm-up of a tenth of the steps", settings={"warmup_steps": 0.1}),
    "cosine": Variant(
        "a cosine basis",
        lambda name: f"{EVEN[name]},form=cosine",
        rates=ALL_RATES,
        context=forms_enabled,
        unchanged=EVEN,
    ),
    "pool": _pooled("one pool for all layers, n=1020 entries", 1020, dict.fromkeys(LAYERS, 340), EVEN),
    "pool-few": _pooled("one pool for all layers, n=340 entries", 340, FEW_N, FEW),
    "unclipped": Variant("gradients not clipped (clipped at norm 1 otherwise)", settings={"max_grad_norm": 0.0}),
}
