"""Judge a registered classifier on every split, beside two references."""

from entrypoints import entry_point
from fracture_mae.config import Evaluate


@entry_point(Evaluate)
def main(config: Evaluate) -> None:
    from fracture_mae.tracking import runs

    with runs.run("evaluate", config) as run:
        from fracture_mae.stages.evaluate import evaluate

        print(evaluate(config, run))


if __name__ == "__main__":
    main()
