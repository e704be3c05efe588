import pytest

from fracture_mae.config import Main
from fracture_mae.errors import FractureMaeError
from fracture_mae.stages.chain import chain
from fracture_mae.tracking import runs
from tests.unit.tracking.store_runs import only_run


@pytest.mark.parametrize("option", ["data_dir", "unlabelled_dir"])
def test_a_folder_that_is_not_there_is_told_before_any_step_runs(store, tmp_path, option):
    missing = tmp_path / "nowhere"
    config = Main(**{"data_dir": "synthetic:n_xrays=6,size=64", option: str(missing)})
    with (
        pytest.raises(FractureMaeError, match=f"^--{option.replace('_', '-')} .*no such folder"),
        runs.run("main", config) as run,
    ):
        chain(config, run)
    assert only_run(store).info.status == "FAILED"
