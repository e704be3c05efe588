"""Compare encoders by what a linear head reads from their frozen features, cross-validated."""

from entrypoints import entry_point
from fracture_mae.config import Compare


@entry_point(Compare)
def main(config: Compare) -> None:
    from fracture_mae.tracking import runs

    with runs.run("compare", config) as run:
        from fracture_mae.stages.compare import compare

        print(compare(config, run))


if __name__ == "__main__":
    main()
