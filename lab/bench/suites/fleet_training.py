"""Suite: many adapters of one encoder trained together, against the same adapters one after another.

The latter go through our tuner and torch's AdamW, over one base that is loaded and adapted once, before the clock
starts, so that steps are compared with steps; an eighth of them stands for all. Their coefficients are the truth of
those trained together.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import peft
import torch

import fourierft
from fourierft.training.arguments import MethodArguments
from fourierft.training.families.classes import Classification
from fourierft.training.fleet.settings import FleetSettings
from fourierft.training.fleet.tenants import Tenant
from fourierft.training.fleet.trainable import attach_row
from fourierft.training.fleet.trainer import FleetTrainer
from fourierft.training.models import BaseModel
from lab.bench.harness import Case, Contender, Settings, relative_rms
from lab.bench.methods import SEED, tuner_of
from lab.bench.models import build
from lab.bench.stage import Stage

TITLE = "Training a fleet"
ENCODER = "minilm"
TENANTS, STEPS, SAMPLE = 64, 3, 8
SENTENCES, SHORT = (12, 48), (4, 16)  # tokens of a row, from and to
RATE = 2e-3
# AdamW divides by the size of a gradient, and the rounding of small ones shows: adapters trained alone, by the compiled
# kernel and by torch's transforms, differ by 1.3e-3 after three steps of short rows. Of a first step all agree to 2e-7.
TOLERANCE = {"float32": 1e-2, "bfloat16": 1e-1}


def cases(settings: Settings) -> Iterator[Case]:
    """Few and more rows an adapter in a step; shorter ones, of which calls take a larger part; every layer."""
    stage = Stage(ENCODER, settings)
    for rows in (2, 8):
        yield Training(stage, rows, SENTENCES).case("rows")
    yield Training(stage, 2, SHORT).case("short rows")
    every = Stage(ENCODER, settings, every=True)
    yield Training(every, 2, SENTENCES).case("rows", ", every linear layer")
    yield Training(every, 2, SHORT).case("short rows", ", every linear layer")


class Training:
    """Adapters of one encoder, each with rows of its own: together, and one after another."""

    def __init__(self, stage: Stage, rows: int, tokens: tuple[int, int]) -> None:
        self.stage, self.rows, self.tokens = stage, rows, tokens
        self.tenants = TENANTS if stage.settings.grid != "smoke" else 4
        self.sample = min(SAMPLE, self.tenants)
        each = rows * STEPS
        self.members = [Tenant(f"t{k}", tuple(range(k * each, (k + 1) * each)), ()) for k in range(self.tenants)]
        self.method = MethodArguments(n_frequency=stage.n, scaling="auto", target_modules=list(stage.targets))
        self.settings = FleetSettings(
            adapters=self.tenants, rows=rows, epochs=1, validation_fraction=0.0, learning_rate=RATE, schedule="constant"
        )

    def case(self, what: str, where: str = "") -> Case:
        """Seconds for a step of all adapters."""
        shapes = {"rows": self.rows, "tokens": self.tokens, "targets": ",".join(self.stage.targets), "n": self.stage.n}
        return Case(
            name=f"{ENCODER}, {TENANTS} adapters trained, {self.rows} {what} each a step{where}",
            shapes=shapes,
            contenders={"alone": self.alone, "ours-together": self.together},
            baseline="alone",
            operations=STEPS,
            tolerance=TOLERANCE,
        )

    @functools.cached_property
    def sentences(self) -> tuple[torch.Tensor, list[int], torch.Tensor]:
        """Tokens [rows, longest], how many of them count, and labels."""
        generator = torch.Generator().manual_seed(4)
        (shortest, longest), count = self.tokens, self.tenants * self.rows * STEPS
        ids = torch.randint(3, self.stage.base.config.vocab_size, (count, longest), generator=generator)
        lengths = torch.randint(shortest, longest + 1, (count,), generator=generator).tolist()
        return ids, lengths, torch.randint(2, (count,), generator=generator)

    def collate(self, numbers: Sequence[int]) -> Mapping[str, torch.Tensor]:
        """A padded batch."""
        ids, lengths, labels = self.sentences
        chosen, longest = list(numbers), max(lengths[number] for number in numbers)
        mask = torch.arange(longest)[None] < torch.tensor([lengths[number] for number in chosen])[:, None]
        return {
            "input_ids": ids[chosen, :longest] * mask,
            "attention_mask": mask.long(),
            "labels": labels[chosen],
        }

    def model(self) -> Any:
        """The encoder with its head, as every adapter starts."""
        return build(self.stage.architecture, self.stage.settings.grid)

    def together(self) -> Contender:
        """All adapters through `FleetTrainer`."""
        trainable = attach_row(BaseModel(self.model(), ("classifier",)), self.method, ENCODER, None)
        task, ended = Classification(("no", "yes")), {}

        def run() -> None:
            trainer = FleetTrainer(trainable, task, self.collate, self.settings, self.sentences[1])
            for tenant in self.members:
                trainer.join(tenant)
            while trainer.queue:
                ended.update({one.name: one.numbers for one in trainer.step()})
            trainer.close()

        def distance() -> float:
            run()
            places = [trainable.adapted[name].place for name in sorted(trainable.adapted)]
            found = torch.stack([torch.cat([ended[f"t{k}"][place] for place in places]) for k in range(self.sample)])
            return relative_rms(found, self.trained_alone())

        return Contender(run, distance)

    def alone(self) -> Contender:
        """A sample of the adapters, one after another."""
        return Contender(self.trained_alone, None, scale=self.tenants / self.sample)

    @functools.cached_property
    def adapted(self) -> tuple[Any, dict[str, torch.Tensor]]:
        """The encoder with an adapter, and what it trains, as every adapter starts."""
        with tuner_of("ours"):
            config = fourierft.FourierFTConfig(
                n_frequency=self.stage.n,
                random_loc_seed=SEED,
                target_modules=list(self.stage.targets),
                modules_to_save=["classifier"],
            )
            model: Any = peft.get_peft_model(self.model(), config).train()
        return model, {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    def trained_alone(self) -> torch.Tensor:
        """Coefficients of the sample after their steps, [sample, total n], layers by name."""
        model, start = self.adapted
        own = {name: parameter for name, parameter in model.named_parameters() if name in start}
        trained = []
        for tenant in self.members[: self.sample]:
            with torch.no_grad():
                for name, parameter in own.items():
                    parameter.copy_(start[name])
            optimizer = torch.optim.AdamW(own.values(), lr=RATE, weight_decay=0.0)
            for step in range(STEPS):
                model(**self.collate(tenant.batch(step, self.settings))).loss.backward()
                torch.nn.utils.clip_grad_norm_(own.values(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            spectra = [name for name in sorted(own) if ".fourierft_coefficients." in name]
            trained.append(torch.cat([own[name].detach() for name in spectra]))
        return torch.stack(trained)
