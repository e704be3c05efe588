"""What a model knows beyond the file: its AUROC among X-rays of one source and of like propensity.

The propensity is what the reference on file and border properties says of an X-ray that it was not fitted on, so no further model is
needed. See `metrics.strata` for the method.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from fracture_mae.metrics import scores, strata
from fracture_mae.metrics.strata import FEWEST_PAIRS

WITHIN = "auroc_within_strata"
NO_REFERENCES = "no AUROC within strata: references=false leaves out the file properties that strata are made of"


@dataclass(frozen=True)
class Strata:
    """Which X-rays may be compared.

    Attributes:
        of_xray: a row per X-ray (index group): label and stratum, equal for those of one source and one tenth of the propensity.
    """

    of_xray: pd.DataFrame

    @classmethod
    def of(cls, propensity: pd.DataFrame) -> "Strata":
        """Strata of the X-rays that are judged, by tenths of their propensity and by source.

        Args:
            propensity: predictions of the reference on file properties, not fitted on these files: group, label, logit and source.
        """
        rows = scores.per_group(propensity).set_index("group")
        source = propensity.groupby("group")["source"].first()[rows.index]
        tenth = pd.Series(strata.cut(rows["logit"]), rows.index).astype(str)
        return cls(rows[["label"]].assign(stratum=source.astype(str) + " · " + tenth))

    @property
    def n_pairs(self) -> int:
        """Pairs of an X-ray of each label that are compared."""
        return strata.number_of_pairs(self.of_xray["label"], self.of_xray["stratum"])

    @property
    def is_enough(self) -> bool:
        """Whether there are pairs enough for a figure."""
        return self.n_pairs >= FEWEST_PAIRS

    @property
    def compared(self) -> set[str]:
        """The X-rays, by group, that are part of a pair."""
        return set(self.of_xray.index[strata.comparable(self.of_xray["label"], self.of_xray["stratum"])])

    def measure(
        self, models: Mapping[str, pd.DataFrame], *, column: str = "logit", n_draws: int, seed: int
    ) -> pd.DataFrame:
        """AUROC within strata of each model, and "A - B", by how much that of the first is higher: `strata.auroc_within`.

        Args:
            models: name → a row per X-ray, the same ones in one order: group, label and, where it is known, patient.
            column: what X-rays are ranked by.
        """
        first, *_ = models.values()
        drawn = first["patient" if "patient" in first else "group"]
        stratum = self.of_xray["stratum"].reindex(first["group"]).to_numpy()
        ranked = {name: rows[column].to_numpy() for name, rows in models.items()}
        return strata.auroc_within(first["label"], ranked, drawn, stratum, n_draws=n_draws, seed=seed)

    def __str__(self) -> str:
        """How many pairs there are, or why there is no figure."""
        pairs = f"{self.n_pairs:,} {'pair' if self.n_pairs == 1 else 'pairs'} of X-rays of one source and like file properties"
        if not self.is_enough:
            return f"no AUROC within strata: found {pairs}, expected {FEWEST_PAIRS} or more; cross_validate=5 judges more X-rays"
        return f"AUROC within strata: {pairs}"
