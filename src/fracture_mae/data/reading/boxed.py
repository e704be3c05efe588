"""Labels of a collection that has boxes and no classes, as detectors are trained on: YOLO's, COCO's, Roboflow's."""

import pandas as pd

from fracture_mae.data.reading import folders
from fracture_mae.data.reading.box_files import matching, searching
from fracture_mae.data.reading.folders import NoClassFound
from fracture_mae.data.reading.walking import Tree
from fracture_mae.errors import FractureMaeError

NAMES = ("not fractured", "fractured")


def labelled(tree: Tree, found: pd.DataFrame) -> tuple[pd.DataFrame, str] | None:
    """The files as fractured where a box is drawn, and as not fractured where a file says that none is: YOLO's empty texts, COCO's
    images without annotation. Pictures of which nothing is said are left out.

    Args:
        found: what `folders.labelled` has made of them.

    Returns:
        The files, and what to say of it; None where there are no boxes, or none that can be read.

    Raises:
        NoClassFound: all have boxes.
    """
    if not tree.files or found["label_name"].nunique() > 1:  # there are folders by which somebody told them apart
        return None
    table = folders.unlabelled(tree)
    files = table.assign(sha256=table["path"])
    known: dict[str, bool] = {}
    try:
        for each in searching.beside(tree.root, files):
            paths = matching.path_of(each, files)
            for path, has_box in zip(paths, each.table["x0"].notna(), strict=True):
                known[path] = known.get(path, False) or bool(has_box)
    except FractureMaeError:  # told where boxes are read, unless they shall not be
        return None
    known.pop("", None)
    if not any(known.values()):
        return None
    if all(known.values()):
        raise NoClassFound(
            f"no folder in {tree.root} is called as a class is, and the {len(known):,} of {len(table):,} pictures of which a file "
            "says something all have boxes around fractures. Expected: pictures of the other class too, with an empty text (YOLO) or "
            "without annotation (COCO), or a CSV with path,label. finetune_mae and reconstruct_baseline take --positive-label none."
        )
    label = table["path"].map(known)
    n_boxed, n_unknown = sum(known.values()), int(label.isna().sum())
    unknown = f"; {n_unknown:,} of which nothing is said are left out" if n_unknown else ""
    table = table.assign(label_name=label.map({True: NAMES[1], False: NAMES[0]}))
    return table[label.notna()].reset_index(drop=True), (
        f"no folder in {tree.root} is called as a class is, so the boxes beside the pictures decide: the {n_boxed:,} pictures with a "
        f"box are taken for {NAMES[1]}, the {len(known) - n_boxed:,} of which a file says that none is drawn for {NAMES[0]}{unknown}. "
        "If somebody has not looked for fractures in all of these, give a CSV with path,label instead."
    )
