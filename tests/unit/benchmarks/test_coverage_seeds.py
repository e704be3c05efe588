from benchmarks.coverage import seeds


def test_one_network_promises_too_much_where_seeds_differ_and_several_do_not(monkeypatch):
    monkeypatch.setattr(seeds, "SIZES", ((100, 50),))
    table = seeds.simulate(repeats=200, seed=0)
    alike, _, far = (row for _, row in table.iterrows())
    assert alike["1 seed: holds"] > 0.9
    assert far["1 seed: holds"] < 0.8
    assert (table[["3 seeds: holds", "5 seeds: holds"]] > 0.92).all(axis=None)
    assert far["5 seeds: width"] < far["3 seeds: width"]


def test_the_same_seed_gives_the_same_table():
    assert seeds.simulate(repeats=3, seed=1).equals(seeds.simulate(repeats=3, seed=1))
