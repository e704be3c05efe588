"""A card as the artifact `model_card.md`, and what of it fits into the registry's description of the version."""

from datetime import UTC, datetime

from fracture_mae.stages.model_card import checklists, measured
from fracture_mae.stages.model_card.facts import Facts
from fracture_mae.stages.model_card.origin import MUST_NOT
from fracture_mae.stages.model_card.sections import PROMOTION, SECTIONS
from fracture_mae.tracking import registry

FILE = "model_card.md"
_BEGINS = "# Model card"  # what stands above it in a description is a person's, and is kept
# In a description, by what a reader wants first; what does not fit any more is in the artifact.
_DESCRIBED = (
    checklists.FIGURES,
    checklists.ELSEWHERE,
    checklists.SPLIT,
    checklists.CALIBRATION,
    checklists.SUBGROUPS,
    checklists.POINTS,
    checklists.LIMITS,
    checklists.PROVENANCE,
    PROMOTION,
    checklists.SIZE,
    checklists.DATA,
    checklists.TRAINING,
    checklists.PLACE,
)
_SHORTER = {checklists.SUBGROUPS: measured.judged_subgroups}  # than in the whole card


def card(facts: Facts) -> str:
    """The whole card, Markdown."""
    lines = [f"{_BEGINS}: {facts.loaded.name}", "", _written(facts), ""]
    for title, write in SECTIONS.items():
        items = checklists.answered_by(title)
        lines += [f"## {title}", "", *([f"*{items}*", ""] if items else []), *write(facts), ""]
    ask = "These items no program can answer. What is written above the card on the registry's page stays there."
    return "\n".join([*lines, "## What a person must say", "", ask, "", *checklists.left_to_people(), ""])


def description(facts: Facts, before: str) -> str:
    """The registry's description: what a person wrote there, then as much of the card as fits, and where the whole of it is.

    Args:
        before: the description as it is.
    """
    own = before.partition(_BEGINS)[0].rstrip()
    whole = f"[The whole card]({facts.page}/artifacts/{FILE})"
    link = f"{whole}, with the items of CLAIM 2024 and TRIPOD+AI that it answers and those that a person must."
    text = "\n\n".join(filter(None, [own, f"{_BEGINS}: {facts.loaded.name}", _written(facts), MUST_NOT, link]))
    if len(text) > registry.LONGEST_DESCRIPTION:
        return before
    for title in _DESCRIBED:
        further = "\n\n".join([text, f"## {title}", "\n".join(_SHORTER.get(title, SECTIONS[title])(facts))])
        if len(further) <= registry.LONGEST_DESCRIPTION:
            text = further
    return text


def _written(facts: Facts) -> str:
    return f"Written by `evaluate` on {datetime.now(UTC):%d %B %Y} ([run]({facts.page}))."


def write(facts: Facts) -> str:
    """Put the card into the registry's description of a registered classifier; returns the whole of it, for the run.

    Where it was judged on another split than its own, only a version that has no card yet gets one.
    """
    version = facts.loaded.version
    if version is not None:
        before = registry.description(registry.CLASSIFIER, version)
        if facts.is_own_split or facts.is_external or _BEGINS not in before:
            registry.describe(registry.CLASSIFIER, version, description(facts, before))
    return card(facts)
