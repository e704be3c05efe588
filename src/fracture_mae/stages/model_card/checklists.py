"""Items of two reporting checklists: which section of a card answers them, and which only a person can."""

from dataclasses import dataclass

USE, DATA, SPLIT, TRAINING = "Use", "Data", "Split and leakage", "Training"
PROVENANCE, FIGURES, ELSEWHERE, CALIBRATION = "Provenance", "Figures", "Other sources", "Calibration"
POINTS, SUBGROUPS, PLACE, SIZE = "Operating points", "Subgroups", "Where it looks", "How many X-rays"
LIMITS, SOFTWARE = "Limits", "Software"
PERSON = ""


@dataclass(frozen=True)
class Item:
    """number, subject: as the checklist has them; section: of the card that answers it, PERSON where a program cannot."""

    number: str
    subject: str
    section: str = PERSON


CLAIM = (
    Item("1", "identification as a study of AI", USE),
    Item("2", "structured summary"),
    Item("3", "background, intended use and clinical role"),
    Item("4", "aims, objectives, hypotheses"),
    Item("5", "prospective or retrospective"),
    Item("6", "study goal"),
    Item("7", "data sources", DATA),
    Item("8", "inclusion and exclusion criteria"),
    Item("9", "data preprocessing", DATA),
    Item("10", "selection of data subsets", DATA),
    Item("11", "de-identification"),
    Item("12", "missing data", DATA),
    Item("13", "image acquisition protocol"),
    Item("14", "definition of the reference standard"),
    Item("15", "rationale for the reference standard"),
    Item("16", "source of the annotations"),
    Item("17", "annotation of the test set"),
    Item("18", "inter- and intrarater variability"),
    Item("19", "assignment to partitions", SPLIT),
    Item("20", "level at which partitions are disjoint", SPLIT),
    Item("21", "intended sample size"),
    Item("22", "description of the model", TRAINING),
    Item("23", "software", SOFTWARE),
    Item("24", "initialisation of parameters", PROVENANCE),
    Item("25", "training approach", TRAINING),
    Item("26", "selection of the final model", TRAINING),
    Item("27", "ensembling", TRAINING),
    Item("28", "metrics", FIGURES),
    Item("29", "significance and uncertainty", FIGURES),
    Item("30", "robustness or sensitivity analysis", ELSEWHERE),
    Item("31", "explainability", PLACE),
    Item("32", "evaluation on internal data", FIGURES),
    Item("33", "testing on external data", ELSEWHERE),
    Item("34", "trial registration"),
    Item("35", "numbers included and excluded", DATA),
    Item("36", "demographic and clinical characteristics"),
    Item("37", "performance with uncertainty", FIGURES),
    Item("38", "diagnostic performance and its precision", POINTS),
    Item("39", "failure analysis", PLACE),
    Item("40", "limitations", LIMITS),
    Item("41", "implications for practice"),
    Item("42", "study protocol"),
    Item("43", "availability of software, model and data"),
    Item("44", "funding"),
)
TRIPOD_AI = (
    Item("1", "title", USE),
    Item("2", "abstract"),
    Item("3a-c", "context, target population, health inequalities"),
    Item("4", "objectives"),
    Item("5a", "sources of data", DATA),
    Item("5b", "dates"),
    Item("6a-c", "setting, eligibility, treatments"),
    Item("7", "data preparation", DATA),
    Item("8a-c", "outcome, its assessors, blinding"),
    Item("9a-b", "predictors", DATA),
    Item("9c", "assessors of predictors"),
    Item("10", "sample size", SIZE),
    Item("11", "missing data", DATA),
    Item("12a", "how data were used", SPLIT),
    Item("12b-c", "model type, building, tuning", TRAINING),
    Item("12d", "heterogeneity across clusters", ELSEWHERE),
    Item("12e", "performance measures", FIGURES),
    Item("12f", "recalibration", CALIBRATION),
    Item("12g", "how predictions are calculated", USE),
    Item("13", "class imbalance", TRAINING),
    Item("14", "fairness", SUBGROUPS),
    Item("15", "output", USE),
    Item("16", "training against evaluation data", ELSEWHERE),
    Item("17", "ethical approval"),
    Item("18a-e", "funding, interests, protocol, registration, data sharing"),
    Item("18f", "code", SOFTWARE),
    Item("19", "patient and public involvement"),
    Item("20a", "flow of X-rays", DATA),
    Item("20b-c", "characteristics of patients"),
    Item("21", "numbers in development", DATA),
    Item("22", "specification of the model", TRAINING),
    Item("23a", "performance, subgroups included", FIGURES),
    Item("23b", "heterogeneity of performance", ELSEWHERE),
    Item("24", "updating", CALIBRATION),
    Item("25", "interpretation"),
    Item("26", "limitations", LIMITS),
    Item("27a-c", "usability"),
)
NAMES = {"CLAIM 2024": CLAIM, "TRIPOD+AI": TRIPOD_AI}


def answered_by(section: str) -> str:
    """The items that a section answers, such as `CLAIM 2024: 19, 20 · TRIPOD+AI: 12a`; empty where there are none."""
    told = {name: ", ".join(item.number for item in items if item.section == section) for name, items in NAMES.items()}
    return " · ".join(f"{name}: {numbers}" for name, numbers in told.items() if numbers)


def left_to_people() -> list[str]:
    """The items that a person must answer, a line for each checklist."""
    return [
        f"- **{name}**: {'; '.join(f'{item.number} {item.subject}' for item in items if item.section == PERSON)}."
        for name, items in NAMES.items()
    ]
