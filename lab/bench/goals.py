"""The goals of the project, and whether the newest results reach them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.bench.figures import case_name, killed_name
from lab.ledger import Row

CONDITIONS = {"dtype": "float32", "device": "cpu", "threads": 2}


@dataclass(frozen=True)
class Goal:
    """A limit on a row of ours.

    Attributes:
        text: what is measured.
        suite: it stands in, or command of `lab.bench.figures`.
        case: its name.
        limit: highest value allowed.
        below: a contender whose value has to be above ours, too.
        field: the number compared.
        contender: which row it is.
        share: a contender, and how much of what it adds to the base ours may add.
    """

    text: str
    suite: str
    case: str
    limit: float
    below: str | None = None
    field: str = "ratio_median"
    contender: str = "ours"
    share: tuple[str, float] | None = None

    @property
    def needed(self) -> set[str]:
        """The contenders whose rows it takes."""
        return {self.contender} | ({self.below} if self.below else set()) | ({self.share[0]} if self.share else set())


_BACKWARD = "tokens, n=1000, forward+backward"
FLEET = case_name(10_000, "smollm2-135m", "float32")
MILLION = case_name(1_000_000, "minilm", "int8", 10_000)
GOALS = (
    Goal("training step, RoBERTa-base shape, 8 x 128", "training_step", "roberta-base", 1.05, below="lora-8"),
    Goal("training step, LLaMA-shaped, width 2048, 4 layers, 4 x 128", "training_step", "llama-2048", 1.02),
    Goal("one layer 4096, 512 tokens, forward + backward", "layer", f"4096x4096, 512 {_BACKWARD}", 1.06),
    Goal("one layer 1024, 2048 tokens, forward + backward", "layer", f"1024x1024, 2048 {_BACKWARD}", 1.12),
    Goal("decoding, width 2048, 4 layers, 1 row", "decoding", "llama-2048, 1 row, one adapter", 1.02),
    Goal("decoding, width 2048, 4 layers, 16 rows", "decoding", "llama-2048, 16 rows, one adapter", 1.02),
    Goal("the same, 16 rows with 16 adapters", "decoding", "llama-2048, 16 rows, 16 adapters, distinct", 1.05),
    Goal("decoding SmolLM2-135M shape, 8 rows, one adapter", "decoding", "smollm2-135m, 8 rows, one adapter", 1.05),
    Goal("the same, 8 rows with 8 adapters", "decoding", "smollm2-135m, 8 rows, 8 adapters, distinct", 1.12),
    *(
        Goal(
            f"{model}, {what}, {rows} rows, each its own adapter",
            "fleet",
            f"{model}, {what}, {rows} rows, {rows} adapters",
            limit,
            contender="ours-fleet",
            share=("lora-8", 1 / 3) if rows == 16 else None,
        )
        for model, what, limit in (
            ("llama-2048", "decoding", 1.05),
            ("smollm2-135m", "decoding", 1.12),
            ("minilm", "encoding", 1.12),
        )
        for rows in (16, 64)
    ),
    Goal(
        "16 rows out of 10,000 adapters in a bank, against 10",
        "fleet",
        "smollm2-135m, decoding, 16 rows of 8 tokens, other adapters each time",
        1.05,
        contender="ours-many",
    ),
    Goal(
        "64 adapters of MiniLM trained together, 2 rows each a step, against one after another",
        "fleet_training",
        "minilm, 64 adapters trained, 2 rows each a step",
        1 / 3,
        contender="ours-together",
    ),
    *(
        Goal(text, "store", case, limit, field="median", contender=figure)
        for text, case, figure, limit in (
            ("10,000 adapters on disk, times the raw numbers", FLEET, "on disk, times raw", 1.1),
            ("10,000 adapters: opened and one fetched (ms)", FLEET, "opened and one fetched, median", 10.0),
            ("1,000 writers killed: acknowledged adapters lost", killed_name(1000), "lost", 0),
            ("1,000 writers killed: stores that cannot be read", killed_name(1000), "unreadable", 0),
        )
    ),
    *(
        Goal(f"a million adapters: {text}", "zipf", MILLION, limit, field="median", contender=name)
        for text, name, limit in (
            ("built (s)", "built", 900.0),
            ("one fetched, median (ms)", "one fetched, median", 2.0),
            ("one fetched, p99 (ms)", "one fetched, p99", 10.0),
            ("rows wrong, by Zipf through a bank of 10,000", "rows wrong", 0),
        )
    ),
    *(
        Goal(
            f"bytes kept for the backward, per adapted layer of {name}, as a multiple of LoRA r=8",
            "memory",
            f"{name}, kept for the backward of an adapted layer",
            1.0,
        )
        for name in ("roberta-base", "llama-2048")
    ),
    Goal(
        "injection, LLaMA-2-7B shape, all linear layers, meta device (seconds)",
        "injection",
        "llama-2-7b, all linear, meta device",
        3.0,
        field="median",
    ),
)
COLUMNS = ("ours", "stock", "lora-8", "lora-64", "road")


def goal_table(rows: Sequence[Row]) -> list[list[str]]:
    """Cells of the table of goals: a header, then a line a goal."""
    held = {
        (row["suite"], row["case"], row["contender"]): row
        for row in rows
        if all(row[name] == value for name, value in CONDITIONS.items())
    }
    table = [["", "goal", "ours", "reached", "stock", "LoRA r=8", "LoRA r=64", "RoAd"]]
    for goal in GOALS:
        line_up = {
            name: held[key] for name in (*COLUMNS, goal.contender) if (key := (goal.suite, goal.case, name)) in held
        }
        ours, *others = (_shown(line_up.get(name), goal.field) for name in (goal.contender, *COLUMNS[1:]))
        wanted = f"<= {goal.limit:.3g}" + (f", below {goal.below}" if goal.below else "")
        wanted += f", adds <= {goal.share[1]:.0%} of {goal.share[0]}" if goal.share else ""
        table.append([goal.text, wanted, ours, _verdict(goal, line_up), *others])
    return table


def is_reached(goal: Goal, line_up: Mapping[str, Row]) -> bool | None:
    """Whether ours keeps the limit; None while a row it takes is missing."""
    if not goal.needed <= set(line_up):
        return None
    ours = line_up[goal.contender][goal.field]
    is_below = goal.below is None or ours < line_up[goal.below][goal.field]
    is_share = goal.share is None or ours - 1 <= goal.share[1] * (line_up[goal.share[0]][goal.field] - 1)
    return ours <= goal.limit and is_below and is_share


def _verdict(goal: Goal, line_up: Mapping[str, Row]) -> str:
    return {None: "not measured", True: "yes", False: "**no**"}[is_reached(goal, line_up)]


def _shown(row: Row | None, field: str) -> str:
    if row is None:
        return ""
    return "can't" if "cannot" in row else f"{row[field]:.2f}"
