import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from fracture_mae.data.folds import assign
from fracture_mae.evaluation import linear_probe
from fracture_mae.evaluation.linear_probe import balanced_weight, out_of_fold


def table_of(label, group, patient=None):
    return pd.DataFrame({"label": label, "group": group, "patient": group if patient is None else patient})


def made(seed=0, n_xrays=60, n_copies=3, n_features=20, shift=1.0):
    """Copies of an X-ray are nearly the same; the label shifts the first feature alone."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_xrays), n_copies)
    label = group % 2
    features = rng.normal(0, 1, (n_xrays, n_features))[group] + rng.normal(0, 0.01, (group.size, n_features))
    features[:, 0] += shift * label
    return features.astype(np.float32), table_of(label, [f"x{g}" for g in group])


def test_folds_keep_together_and_hold_both_labels_alike():
    label = np.repeat([0, 1], [40, 20])
    table = table_of(label, [f"x{i}" for i in range(60)], [f"p{i // 2}" for i in range(60)]).sample(
        frac=1, random_state=0
    )
    fold = assign(table, 5, seed=0)
    assert table.assign(fold=fold).groupby("patient")["fold"].nunique().max() == 1
    by_fold = pd.crosstab(fold, table["label"])
    assert by_fold[0].between(6, 10).all()
    assert by_fold[1].between(2, 6).all()
    np.testing.assert_array_equal(assign(table, 5, seed=0), fold)
    assert (assign(table, 5, seed=1) != fold).any()


def test_folds_deal_out_xrays_not_files():
    # One X-ray of each label has 100 files.
    sizes = np.array([100, *[1] * 9, 100, *[1] * 9])
    table = table_of(np.repeat([0, 1], 10).repeat(sizes), np.arange(20).repeat(sizes))
    fold = assign(table, 5, seed=0)
    xrays = table.assign(fold=fold).drop_duplicates("group")
    assert (pd.crosstab(xrays["fold"], xrays["label"]) == 2).all(axis=None)


def test_weights_make_classes_and_xrays_count_the_same():
    table = table_of([1, 1, 0, 0, 0], list("aabcd"))
    np.testing.assert_allclose(balanced_weight(table), [1, 1, 2 / 3, 2 / 3, 2 / 3])


def test_weights_besides_share_what_a_class_has():
    """Of two X-rays of the first class one counts three times as much; X-rays count 1 + 3 + 1 + 1 + 0, half of that for each class."""
    table = table_of([1, 1, 1, 0, 0, 0], list("aabcde"))
    np.testing.assert_allclose(balanced_weight(table, np.array([1, 1, 3, 1, 1, 0])), [3 / 8, 3 / 8, 9 / 4, 1.5, 1.5, 0])


def test_files_that_count_nothing_teach_nothing():
    """The second half of the files says the contrary of the first; without weight it is not heard, in answers nor in the penalty."""
    features, table = made(n_xrays=40, n_copies=1, shift=3.0)
    contrary = table.assign(label=1 - table["label"], group=table["group"] + "c", patient=table["patient"] + "c")
    both = pd.concat([table, contrary], ignore_index=True)
    fold = np.tile(assign(table, 4, seed=0), 2)
    counts = np.repeat([1.0, 0.0], 40)
    found = out_of_fold(np.tile(features, (2, 1)), both, fold, seed=0, matched=lambda training: counts[training])
    assert roc_auc_score(table["label"], found.logit[:40]) > 0.8
    heard = out_of_fold(np.tile(features, (2, 1)), both, fold, seed=0)
    assert roc_auc_score(table["label"], heard.logit[:40]) < 0.7


def test_every_answer_comes_from_a_model_of_the_other_folds():
    """The same by hand: scikit-learn on the other folds, with the C that was chosen."""
    features, table = made()
    fold = assign(table, 3, seed=0)
    found = out_of_fold(features, table, fold, seed=0)
    assert len(found.inverse_penalties) == 3
    for number, inverse_penalty in enumerate(found.inverse_penalties):
        training = fold != number
        weight = balanced_weight(table[training])
        scaler = StandardScaler().fit(features[training], sample_weight=weight)
        model = LogisticRegression(C=inverse_penalty, max_iter=2000)
        model.fit(scaler.transform(features[training]), table["label"][training], sample_weight=weight)
        expected = model.decision_function(scaler.transform(features[~training]))
        np.testing.assert_allclose(found.logit[~training], expected, atol=2e-2)


def test_what_tells_the_label_is_found_and_noise_is_no_skill():
    features, table = made(n_xrays=200, shift=3.0)
    found = out_of_fold(features, table, assign(table, 5, seed=0), seed=0)
    assert roc_auc_score(table["label"], found.logit) > 0.95
    # Copies on both sides of a fold would lift this one: every X-ray has a copy that is nearly the same.
    features, table = made(n_xrays=200, shift=0.0, n_features=100)
    found = out_of_fold(features, table, assign(table, 5, seed=0), seed=0)
    assert 0.35 < roc_auc_score(table["label"], found.logit) < 0.65


def test_the_penalty_follows_what_there_is_to_learn():
    def chosen(shift):
        features, table = made(n_xrays=80, shift=shift, n_features=60)
        return out_of_fold(features, table, assign(table, 4, seed=0), seed=0).inverse_penalties

    assert max(chosen(0.0)) < min(chosen(6.0))


def test_poisoned_labels_of_a_fold_do_not_change_its_answers():
    features, table = made(n_xrays=40)
    fold = assign(table, 4, seed=0)
    before = out_of_fold(features, table, fold, seed=0).logit
    poisoned = table.assign(label=np.where(fold == 2, 1 - table["label"], table["label"]))
    after = out_of_fold(features, poisoned, fold, seed=0).logit
    np.testing.assert_allclose(after[fold == 2], before[fold == 2])
    assert not np.allclose(after[fold == 1], before[fold == 1])


def test_inner_folds_part_no_xray(monkeypatch):
    fitted = []
    path = linear_probe._path

    def watched(features, table, weight, inverse_penalties):
        fitted.append(table)
        return path(features, table, weight, inverse_penalties)

    monkeypatch.setattr(linear_probe, "_path", watched)
    features, table = made(n_xrays=30)
    out_of_fold(features, table, assign(table, 3, seed=0), seed=0)
    assert len(fitted) == 3 * (4 + 1)
    for inner in fitted:  # all files of a patient, or none
        here = table["patient"].isin(inner["patient"])
        assert here.sum() == len(inner) < len(table)


def test_where_all_that_counts_of_a_label_is_of_one_source_the_strongest_penalty_is_taken():
    """Its inner fold leaves nothing to fit on, and every other one nothing to judge by."""
    features, table = made(n_xrays=60)
    table["source"] = np.array(["a", "b", "c"])[np.arange(60) // 20][table["group"].str[1:].astype(int)]
    counts = (table["source"] == "a").to_numpy(float)
    line = linear_probe.fit(features, table, seed=0, by_source=True, counts=counts)
    assert line.inverse_penalty == linear_probe.C_GRID[0]
    only = (table["source"] == "a").to_numpy()
    alone = linear_probe.fit(features[only], table[only], seed=0)
    assert np.isfinite(line.logit(features)).all()
    assert np.corrcoef(line.weight, alone.weight)[0, 1] > 0.9
