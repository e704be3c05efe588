import numpy as np

from fracture_mae.evaluation import neighbours
from fracture_mae.models import classifier as classifier_model
from tests import builders


class Kept:
    """What a classifier keeps of training X-rays: features of some, by the files' bytes."""

    def __init__(self, train, features):
        self.features, self.features_of = features, train.table["sha256"].to_numpy().astype(str)

    def nearest(self, seen, k):
        distance = np.linalg.norm(seen[:, None] - self.features[None], axis=2)
        return distance.argsort(axis=1)[:, :k], np.sort(distance, axis=1)[:, :k]


def test_each_xray_is_nearest_to_itself(tiny_mae, accelerator):
    network = classifier_model.from_mae(tiny_mae, pool="mean", seed=0).eval()
    train = builders.xrays("train", [0, 1, 1, 0, 1])
    options = {"batch_size": 4, "accelerator": accelerator}
    own = Kept(train, neighbours.features(network, train, **options))
    found = neighbours.of(train.subset(np.array([3, 1])), train, own, network, **options)
    assert [len(each) for each in found] == [3, 3]
    for each, position in zip(found, (3, 1), strict=True):
        np.testing.assert_array_equal(each[0].pixels, train.images(np.array([position]))[0])
        assert each[0].label == train.label[position]


def test_where_training_xrays_are_not_at_hand_there_are_none(tiny_mae, accelerator):
    network = classifier_model.from_mae(tiny_mae, pool="mean", seed=0).eval()
    xrays = builders.xrays("external", [0, 1])
    options = {"batch_size": 4, "accelerator": accelerator}
    assert neighbours.of(xrays, xrays.subset(np.array([], int)), None, network, **options) == [(), ()]
