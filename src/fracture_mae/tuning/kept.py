"""The predictions that a study keeps of each trial, so that it can be asked later what other X-rays would have made of the choice.

They stay with the trial in the study's database, which every worker reaches wherever it runs: 4 bytes for the logit of a file and a bit
for its decision, as text. 300 files take 1.7 kB, 4,000 take 22 kB.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Kept:
    """Out-of-fold predictions of a trial.

    Attributes:
        logit: float32 [n].
        decision: 0/1 int8 [n], each at a threshold that its own X-ray had no say in.
    """

    logit: np.ndarray
    decision: np.ndarray


@dataclass(frozen=True)
class Files:
    """Which files predictions are of, and in what order.

    Attributes:
        digest: of their contents, in any order.
        by_content: int64 [n], from rows sorted by content to those of the table.
    """

    digest: str
    by_content: np.ndarray

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Files":
        """table: a row per file, column sha256."""
        contents = table["sha256"].to_numpy(str)
        order = np.argsort(contents, kind="stable")
        digest = hashlib.sha256("\n".join(contents[order]).encode()).hexdigest()[:16]
        return cls(digest, order)


def written(predictions: pd.DataFrame, decision: np.ndarray) -> dict[str, str]:
    """Predictions as JSON can hold them, sorted by content, so that workers may read the same files in any order.

    Args:
        predictions: a row per file: sha256 and logit.
        decision: 0/1 [n].
    """
    files = Files.of(predictions)
    logit = predictions["logit"].to_numpy("<f4")[files.by_content]
    bits = np.packbits(decision[files.by_content] == 1)
    return {"files": files.digest} | {name: _text(each) for name, each in (("logit", logit), ("decision", bits))}


def read(stored: Mapping[str, str], files: Files) -> Kept | None:
    """The predictions in the order of `files`; None where they are of other files."""
    if stored["files"] != files.digest:
        return None
    logit = np.frombuffer(base64.b64decode(stored["logit"]), "<f4")
    bits = np.frombuffer(base64.b64decode(stored["decision"]), np.uint8)
    found = Kept(np.empty(len(logit), np.float32), np.empty(len(logit), np.int8))
    found.logit[files.by_content] = logit
    found.decision[files.by_content] = np.unpackbits(bits, count=len(logit))
    return found


def _text(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
