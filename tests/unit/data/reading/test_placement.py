import numpy as np

from fracture_mae.data.reading.placement import Placement


def test_points_by_hand_and_back():
    placement = Placement(scale_x=0.5, scale_y=2.0, left=-3.0, top=7.0)
    points = np.array([[0, 0], [10, 20], [6, -3.5]])
    placed = placement.apply(points)
    assert placed.tolist() == [[-3, 7], [2, 47], [0, 0]]
    assert placement.invert(placed).tolist() == points.tolist()
