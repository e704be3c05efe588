"""Tables, intervals and names as Markdown."""

import html
import re

import numpy as np
import pandas as pd


def table(rows: pd.DataFrame) -> list[str]:
    """A table in Markdown."""
    header = "| " + " | ".join(map(str, rows.columns)) + " |"
    lines = ["| " + " | ".join(map(_cell, row)) + " |" for row in rows.itertuples(index=False)]
    return [header, "|" + "---|" * len(rows.columns), *lines]


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


def number(text: str) -> str:
    """A tag's number, shortened; any other word as it is."""
    try:
        return f"{float(text):.3f}"
    except ValueError:
        return text


def words(metric: str) -> str:
    return metric.replace("_", " ").replace("auroc", "AUROC")


def run(run_id: str, page: str) -> str:
    """A link to a run's page."""
    return f"[run {run_id[:8]}]({page})"


def code(text: str) -> str:
    """A name as it is written, whatever signs are in it."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"
