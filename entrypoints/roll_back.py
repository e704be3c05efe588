"""Make an earlier version of the classifier champion again."""

from entrypoints import entry_point
from fracture_mae.config import RollBack


@entry_point(RollBack)
def main(config: RollBack) -> None:
    from fracture_mae.tracking import runs

    with runs.run("roll_back", config) as run:
        from fracture_mae.stages import promote

        done = promote.roll_back(None if config.version == "auto" else str(config.version))
        run.tags({"promotion": done})
        run.note(f"Rolled back: {done}.")
        print(done)


if __name__ == "__main__":
    main()
