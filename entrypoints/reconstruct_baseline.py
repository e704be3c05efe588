"""Rebuild masked X-rays with the weights a model comes with."""

from entrypoints import entry_point
from fracture_mae.config import ReconstructBaseline


@entry_point(ReconstructBaseline)
def main(config: ReconstructBaseline) -> None:
    from fracture_mae.tracking import runs

    with runs.run("reconstruct_baseline", config) as run:
        from fracture_mae.stages.reconstruct import reconstruct_baseline

        print(reconstruct_baseline(config, run))


if __name__ == "__main__":
    main()
