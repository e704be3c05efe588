"""How far the conclusion of a campaign is, as its study remembers it."""

from dataclasses import asdict, dataclass

from optuna import Study

UNDER_WAY, GIVEN_BACK = "under way", "given back"
REGISTERED, FAILED, STOPPED = "registered", "failed", "stopped"
EARLIER = "earlier"  # by a version that remembered no more


@dataclass(frozen=True)
class Ending:
    """Who concludes a campaign, and what came of it.

    Attributes:
        state: UNDER_WAY; GIVEN_BACK, for another worker to do it; or for good, REGISTERED, FAILED, STOPPED by the user, or EARLIER.
        by: MLflow run of the worker.
        where: that worker runs.
        heartbeat: seconds between two signs of life that it gives while it concludes.
        told: REGISTERED: the version; FAILED: why.
    """

    state: str
    by: str
    where: str = ""
    heartbeat: int = 0
    told: str = ""

    @property
    def is_final(self) -> bool:
        return self.state not in (UNDER_WAY, GIVEN_BACK)

    def __str__(self) -> str:
        return f"run {self.by}" + (f" ({self.where})" if self.where else "")


def read(study: Study, campaign: int) -> Ending | None:
    """The ending of the campaign of that number; None where nobody has begun it."""
    stored = study.user_attrs.get(_name(campaign))
    return Ending(**stored) if stored else None


def write(study: Study, campaign: int, ending: Ending) -> None:
    """Call it under the study's lock."""
    study.set_user_attr(_name(campaign), asdict(ending))


def _name(campaign: int) -> str:
    return f"ending of campaign {campaign}"
