"""Train a fractured / not fractured classifier on the encoder."""

from entrypoints import entry_point
from fracture_mae.config import TrainClassifier


@entry_point(TrainClassifier)
def main(config: TrainClassifier) -> None:
    from fracture_mae.tracking import runs

    with runs.run("train_classifier", config) as run:
        from fracture_mae.stages.train_classifier import train_classifier

        print(train_classifier(config, run))


if __name__ == "__main__":
    main()
