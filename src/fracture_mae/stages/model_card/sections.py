"""The sections of a card in their order."""

from collections.abc import Callable, Mapping

from fracture_mae.stages.model_card import checklists, measured, origin
from fracture_mae.stages.model_card.facts import Facts

PROMOTION = "Promotion"
SECTIONS: Mapping[str, Callable[[Facts], list[str]]] = {
    checklists.USE: origin.use,
    checklists.DATA: origin.data,
    checklists.SPLIT: origin.split,
    checklists.TRAINING: origin.training,
    checklists.PROVENANCE: origin.provenance,
    checklists.FIGURES: measured.figures,
    checklists.ELSEWHERE: measured.elsewhere,
    checklists.CALIBRATION: measured.calibration,
    checklists.POINTS: measured.points,
    checklists.SUBGROUPS: measured.subgroups,
    checklists.PLACE: measured.looks,
    checklists.SIZE: measured.size,
    checklists.LIMITS: measured.limits,
    checklists.SOFTWARE: origin.software,
    PROMOTION: measured.promotion,
}
