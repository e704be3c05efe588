"""Search class weight, threshold and more with Optuna; register the best."""

from entrypoints import entry_point
from fracture_mae.config import Tune


@entry_point(Tune)
def main(config: Tune) -> None:
    from fracture_mae.tracking import runs

    with runs.run("tune", config) as run:
        from fracture_mae.tuning.worker import tune

        print(tune(config, run))


if __name__ == "__main__":
    main()
