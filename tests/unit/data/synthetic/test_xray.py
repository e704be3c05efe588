from dataclasses import replace

import numpy as np
import pytest

from fracture_mae.data.synthetic import patient, projection, xray


@pytest.mark.parametrize("seed", range(8))
def test_the_box_is_where_a_hairline_takes_bone_away(monkeypatch, seed):
    monkeypatch.setattr(patient, "FRACTURES", {"hairline": 1.0})
    monkeypatch.setattr(patient, "_swollen", lambda rng, limb, site: limb)
    seen = {}

    def both(rng, limb, index, position):
        bone = limb.bones[index]
        broken = patient._hairline(rng, bone, position, 0.1)
        seen["before"], seen["after"] = (replace(limb, bones=[each]) for each in (bone, broken))
        return replace(limb, bones=[*limb.bones[:index], broken, *limb.bones[index + 1 :]])

    monkeypatch.setattr(patient, "_fractured", both)
    _, view = patient.sample(np.random.default_rng(seed), fractured=True)
    frame = projection.Frame((200, 200), 200 / view.extent, 0.3, -1, view.aim)
    before, after = (projection.skeleton(np.random.default_rng(0), seen[when], frame) for when in ("before", "after"))
    difference = np.abs(after - before)
    x0, y0, x1, y1 = np.round(xray._box(view, frame)).astype(int)
    assert difference[y0:y1, x0:x1].sum() > 0.98 * difference.sum() > 0
