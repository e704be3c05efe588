"""Names that mean something to somebody, or are of any letters, reach the store."""

import pandas as pd
import pytest
import yaml

from fracture_mae.config import Evaluate
from fracture_mae.errors import FractureMaeError
from fracture_mae.tracking import runs
from tests.unit.tracking.store_runs import artifact, only_run

ODD = ["$a_^$", "100 %s", "\"quoted\" 'twice'", "two\nlines", "r\udcf6ntgen", "\x1b[31m", "😀", "a/b\\c", "x" * 600]


def test_names_with_meaning_to_somebody_are_logged(store, tmp_path):
    """As folders, labels and files may be called; what cannot be stored is shown legibly."""
    folder = tmp_path / "".join(ODD[:-1])
    folder.mkdir(parents=True)
    with runs.run("evaluate", Evaluate(data_dir=str(folder), positive_label=ODD[4])) as run:
        run.tags({f"tag {number}": name for number, name in enumerate(ODD)})
        run.note("\n".join(ODD))
        run.table(pd.DataFrame({"name": [*ODD[:4], *ODD[5:]]}), "names.csv")
    logged = only_run(store)
    assert logged.info.status == "FINISHED"
    assert logged.data.params["positive_label"] == "r\\xf6ntgen"
    assert [logged.data.tags[f"tag {number}"] for number in range(6)] == [*ODD[:4], "r\\xf6ntgen", ODD[5]]
    assert yaml.safe_load(artifact(logged, "config.yaml"))["positive_label"] == "r\\xf6ntgen"


def test_a_reason_of_any_letters_is_logged(store):
    with pytest.raises(FractureMaeError, match="xf6"), runs.run("evaluate", Evaluate()):
        raise FractureMaeError("no r\udcf6ntgen $_^ %s here")
    assert only_run(store).data.tags[runs.REASON_TAG] == "FractureMaeError: no r\\xf6ntgen $_^ %s here"
