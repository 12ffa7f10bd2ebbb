"""The table of a comparison, for the terminal and as summary.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from fourierft.files import write_text
from fourierft.tables import format_bytes, markdown_table
from fourierft.training.comparison.results import Row, Summary

COLUMNS = (
    "method",
    "score",
    "spread",
    "runs",
    "best rate",
    "/ LoRA's",
    "at LoRA's",
    "gain kept",
    "of LoRA's gain",
    "adapter",
    "on disk",
    "s a step",
)
LEGEND = """\
- score: mean over seeds at the method's best learning rate, among the rates with the most seeds
- spread: standard deviation over seeds; runs: number of seeds
- / LoRA's: the method's best rate divided by that of LoRA r=8
- at LoRA's: score at LoRA r=8's best rate; gain kept: the gain over the head alone there, as a share of the best gain
- of LoRA's gain: gain over the head alone, as a share of LoRA r=8's
- adapter: trained parameters without the head; on disk: the adapter's file without the head; a dash: not known"""

TEXT_METRICS = (
    ("BLEU", "bleu"),
    ("NIST", "nist"),
    ("METEOR", "meteor"),
    ("ROUGE-L", "rouge_l"),
    ("CIDEr", "cider"),
)


def summary_rows(summaries: Sequence[Summary]) -> list[tuple[str, ...]]:
    """Headings, and a row a method, as text."""
    return [COLUMNS, *(_cells(one) for one in summaries)]


def _cells(one: Summary) -> tuple[str, ...]:
    return (
        one.title,
        "diverged" if one.score is None else f"{one.score:.4f}",
        _number(one.spread, ".4f"),
        str(one.runs),
        f"{one.learning_rate:g}" if one.learning_rate else "-",
        _number(one.rate_ratio, ".3g"),
        _number(one.score_at_reference, ".4f"),
        _number(one.gain_kept, ".1%"),
        _number(one.gain, ".1%"),
        f"{one.adapter:,}",
        format_bytes(one.n_bytes),
        _number(one.seconds_per_step or None, ".3f"),
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def written_rows(rows: Sequence[Row], summaries: Sequence[Summary]) -> list[tuple[str, ...]]:
    """Headings, and a row a method whose texts were scored, at its best rate, as text; mean over seeds."""
    cells: list[tuple[str, ...]] = [("texts", *(title for title, _ in TEXT_METRICS))]
    for one in summaries:
        scores = [
            row["texts"] for row in rows if (row["method"], row["learning_rate"]) == (one.spec, one.learning_rate)
        ]
        if scores:
            cells.append((one.title, *(f"{fmean(each[name] for each in scores):.2f}" for _, name in TEXT_METRICS)))
    return cells


def write_summary(rows: Sequence[Row], summaries: Sequence[Summary], plots: Sequence[Path], directory: Path) -> Path:
    """Write summary.md: the table, what its columns mean, the plots, and what made the numbers."""
    first = rows[0]
    direction = "lower" if first["lower_is_better"] else "higher"
    diverged, minutes = sum(row["score"] is None for row in rows), sum(row["seconds"] for row in rows) / 60
    parts = [
        f"# {first['task']}: {first['metric'].replace('_', ' ')}, {direction} is better",
        markdown_table(summary_rows(summaries)),
        LEGEND,
        *([markdown_table(written_rows(rows, summaries))] if "texts" in first else []),
        f"{len(rows)} runs, of which {diverged} diverged, {minutes:.0f} minutes in all.",
        *(f"![{file.stem.replace('-', ' ')}]({file.name})" for file in plots),
        f"Versions: {', '.join(f'{name} {number}' for name, number in first['versions'].items())}; "
        f"device: {', '.join(sorted({row['device'] for row in rows}))}.",
    ]
    write_text(directory / "summary.md", "\n\n".join(parts) + "\n")
    return directory / "summary.md"
