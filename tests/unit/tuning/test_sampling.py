import optuna

from fracture_mae.tuning.sampling import NumberedSampler


def run(*shares, seed=0):
    """Points tried by processes one after the other, each with a sampler of its own."""
    study = optuna.create_study(direction="maximize")
    for share in shares:
        study.sampler = NumberedSampler(seed, n_startup_trials=4)
        study.optimize(lambda trial: -((trial.suggest_float("x", -1, 1) - 0.3) ** 2), n_trials=share)
    return [trial.params["x"] for trial in study.trials]


def test_a_study_that_goes_on_is_the_one_that_never_stopped():
    assert run(3, 5, 4) == run(12)


def test_no_draw_is_repeated():
    points = run(3, 3, 3, 3)
    assert len(set(points)) == len(points)


def test_another_seed_tries_other_points():
    assert set(run(6)).isdisjoint(run(6, seed=1))


def test_it_learns_from_earlier_trials():
    later = run(40)[20:]
    assert sum(abs(x - 0.3) < 0.3 for x in later) >= 0.5 * len(later)  # by chance it were 0.3
