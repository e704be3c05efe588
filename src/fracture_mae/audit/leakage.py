"""How many X-rays the files really are, which of them stand on two sides of a published split, and which under both labels.

All functions take the table of `evidence.join`: a row per file with path, sha256, label, label_name, split_published and the groups.
"""

import pandas as pd

from fracture_mae.data.copies import groups

UNITS = {"sha256": "same bytes", "content_group": "same picture", "group": "same X-ray"}  # column → what is equal in it
_PATIENT = {"patient": "same patient"}  # where a CSV tells of patients
_ORDER = ("train", "validation", "test")


def splits_in(table: pd.DataFrame) -> list[str]:
    """The published splits that there are, in their usual order; files without one belong to none."""
    present = set(table["split_published"])
    return [name for name in _ORDER if name in present]


def units(table: pd.DataFrame) -> dict[str, str]:
    """Column → what is equal in it: UNITS, and the patient where a CSV tells of patients."""
    return UNITS | (_PATIENT if "given_patient" in table and (table["given_patient"] != "").any() else {})


def between_splits(table: pd.DataFrame) -> pd.DataFrame:
    """For each ordered pair of published splits the share of files of the first whose X-ray stands in the second too.

    Returns:
        Columns split, other, files (in `split`), and for each of `units` n and share of the files that `other` holds too. No rows
        where fewer than two splits are published.
    """
    units_here = units(table)
    sides = {name: table[table["split_published"] == name] for name in splits_in(table)}
    rows = []
    for split, files in sides.items():
        for other in sides.keys() - {split}:
            shared = {unit: files[column].isin(sides[other][column]) for column, unit in units_here.items()}
            counts = {f"files, {unit}": int(found.sum()) for unit, found in shared.items()}
            shares = {f"share, {unit}": float(found.mean()) for unit, found in shared.items()}
            rows.append({"split": split, "other": other, "files": len(files), **counts, **shares})
    columns = [
        "split",
        "other",
        "files",
        *(f"{what}, {unit}" for what in ("files", "share") for unit in units_here.values()),
    ]
    order = {name: position for position, name in enumerate(_ORDER)}
    return pd.DataFrame(rows, columns=columns).sort_values(
        ["split", "other"], key=lambda names: names.map(order), ignore_index=True
    )


def independent_xrays(table: pd.DataFrame) -> pd.DataFrame:
    """What stands behind the file counts.

    Returns:
        Columns split ("all" for all files), label, files, contents (distinct sha256), xrays (groups), largest (files of the X-ray
        that has most).
    """
    parts = {"all": table} | {name: table[table["split_published"] == name] for name in splits_in(table)}
    rows = []
    for split, part in parts.items():
        for label, files in part.groupby("label_name", sort=True):
            xrays = files["group"].value_counts()
            rows.append((split, label, len(files), files["sha256"].nunique(), len(xrays), int(xrays.iloc[0])))
    return pd.DataFrame(rows, columns=["split", "label", "files", "contents", "xrays", "largest"])


def label_conflicts(table: pd.DataFrame) -> pd.DataFrame:
    """The files of X-rays that stand under both labels; what a CSV's column joins, such as a patient, may have both.

    Returns:
        Rows of `table` with the columns conflict ("same bytes" if the very content of this file has both labels, else "same X-ray")
        and set_aside (why other entry points do not use this file; empty if they do).
    """
    reason = groups.label_conflicts(table, table["xray"])
    both = table.groupby("xray")["label"].transform("nunique") > 1
    conflict = table.assign(set_aside=reason)[both]
    identical = conflict.groupby("sha256")["label"].transform("nunique") > 1
    kind = identical.map({True: "same bytes", False: "same X-ray"})
    return conflict.assign(conflict=kind).sort_values(["xray", "path"])


def usable(table: pd.DataFrame) -> pd.DataFrame:
    """The files that other entry points use: without those of X-rays under both labels, and each content once."""
    kept = table[groups.label_conflicts(table, table["xray"]) == ""]
    return kept.drop_duplicates("sha256").reset_index(drop=True)


def group_sizes(table: pd.DataFrame) -> pd.DataFrame:
    """A row per X-ray: index group, columns files, contents and label (both where it has both), the largest first."""
    labels = table.groupby("group")["label_name"].agg(lambda names: " and ".join(sorted(set(names))))
    sizes = table.groupby("group")["sha256"].agg(files="size", contents="nunique")
    return sizes.assign(label=labels).sort_values(["files", "contents"], ascending=False, kind="stable")
