"""Loading an epoch."""

from benchmarks import ours
from benchmarks.alternatives.files import read_epoch
from benchmarks.results import Outcome, Result
from benchmarks.timing import rate
from benchmarks.workload import Workload


def loading(workload: Workload) -> Outcome:
    """All batches of an epoch from the cache, against decoding and resizing the files."""
    xrays, batch_size, device = workload.xrays, workload.config.batch_size, workload.device
    paths = xrays.table["path"].tolist()
    options = {"device": device, "at_least": workload.at_least}
    found = workload.measure(
        {
            "ours": rate(ours.epoch_reader(xrays, batch_size, device), len(xrays), **options),
            "alternative": rate(
                lambda: read_epoch(paths, workload.mae.image_size, batch_size, device), len(paths), **options
            ),
        }
    )
    result = Result(
        "loading",
        "loading an epoch, nothing else",
        f"all batches of {len(xrays):,} X-rays from the cache · decoding and resizing their files with OpenCV",
        "images/s",
        **found,
        ratio=found["ours"].over(found["alternative"]),
        bar=workload.bar(20),
    )
    return Outcome([result])
