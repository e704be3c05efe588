"""Answer for X-rays without labels with a registered classifier."""

from entrypoints import entry_point
from fracture_mae.config import Predict


@entry_point(Predict)
def main(config: Predict) -> None:
    from fracture_mae.tracking import runs

    with runs.run("predict", config) as run:
        from fracture_mae.stages.predict import predict

        print(predict(config, run))


if __name__ == "__main__":
    main()
