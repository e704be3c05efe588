import numpy as np
import pytest

from fracture_mae.data.types import UNLABELLED, XRays
from fracture_mae.evaluation.reconstruction import PER_PATCH, Masks, choose_examples, masked_errors, measure, panels
from fracture_mae.models.autoencoder import Mae, mean_of_visible

MASKS = Masks(0.75, seed=0)


class Stub(Mae):
    """A network whose prediction is made from the truth."""

    def forward(self, pixels, noise, mask_ratio):
        _, target, mask = super().forward(pixels, noise, mask_ratio)
        return self.predict(target, mask), target, mask


def stub(mae, predict):
    made = Stub(mae.network, mae.normalisation, "stub")
    made.predict = predict
    return made


def simplest(target, mask):
    return mean_of_visible(target, mask).expand_as(target)


def off_by_a_half(target, mask):
    return target + 0.5


def only_visible(target, mask):
    return target + mask[..., None]


@pytest.fixture
def options(accelerator):
    return {"batch_size": 4, "accelerator": accelerator}


def test_masked_errors_by_hand(tiny_mae, xrays, options):
    simple, half, unit = (
        masked_errors(stub(tiny_mae, predict), xrays, MASKS, **options)
        for predict in (simplest, off_by_a_half, only_visible)
    )
    assert half["masked_mse"] == pytest.approx(0.25, rel=1e-5)
    assert unit["masked_mse"] == pytest.approx(1.0, rel=1e-5)
    assert simple["relative_masked_mse"] == pytest.approx(1.0)
    assert half["relative_masked_mse"] == pytest.approx(0.25 / simple["masked_mse"], rel=1e-5)


def test_whole_image_metrics_by_hand(tiny_mae, xrays, options):
    found = measure(stub(tiny_mae, only_visible), xrays, MASKS, **options)
    assert found["masked_mse"] == pytest.approx(1.0, rel=1e-5)
    assert found["image_mse"] == pytest.approx(0.75, rel=1e-5)  # three quarters are hidden
    # What is visible is right, so nothing changes by putting it in.
    assert found["composite_psnr"] == pytest.approx(found["psnr"], rel=1e-5)
    assert found["composite_ssim"] == pytest.approx(found["ssim"], rel=1e-5)
    perfect = measure(stub(tiny_mae, lambda target, mask: target), xrays, MASKS, **options)
    assert perfect["relative_masked_mse"] == 0
    assert perfect["ssim"] == pytest.approx(1, abs=1e-5)
    half = measure(stub(tiny_mae, off_by_a_half), xrays, MASKS, **options)
    assert half["composite_psnr"] > half["psnr"]


@pytest.fixture
def of_normalised(tiny_mae):
    """Makes stubs that predict patches normalised by their own mean and deviation."""

    def make(predict):
        tiny_mae.norm_pix_loss = True
        return stub(tiny_mae, predict)

    return make


def test_errors_of_normalised_patches_are_told_in_both_units(of_normalised, xrays, options):
    perfect, off = (
        masked_errors(of_normalised(predict), xrays, MASKS, **options)
        for predict in (lambda target, mask: target, off_by_a_half)
    )
    assert perfect["masked_mse"] == pytest.approx(0, abs=1e-10)
    assert perfect[PER_PATCH] == 0
    assert off[PER_PATCH] == pytest.approx(0.25, rel=1e-5)
    found = measure(of_normalised(off_by_a_half), xrays, MASKS, **options)
    assert {name: found[name] for name in off} == pytest.approx(off, rel=1e-5)


def test_half_a_deviation_is_that_of_each_patch(of_normalised, xrays, options):
    """By numpy, over all patches of 8 × 8: off by half of a patch's deviation is off by half of that in pixels."""
    found = measure(of_normalised(off_by_a_half), xrays, MASKS, **options)
    units = (xrays.pixels / 255 - 0.5) / 0.25
    patches = units.reshape(len(xrays), 4, 8, 4, 8).transpose(0, 1, 3, 2, 4).reshape(len(xrays), 16, 64)
    assert found["image_mse"] == pytest.approx(0.25 * (patches.var(axis=2, ddof=1) + 1e-6).mean(), rel=1e-4)


def test_pictures_of_normalised_patches_are_pictures(of_normalised, xrays, accelerator):
    pictures, error = panels(of_normalised(lambda target, mask: target), xrays, np.array([5, 0]), MASKS, accelerator)
    np.testing.assert_allclose(pictures["Reconstruction"], pictures["Original"], atol=1e-5)
    assert error.tolist() == pytest.approx([0, 0], abs=1e-10)


def test_only_who_predicts_normalised_patches_has_an_error_in_their_units(tiny_mae, xrays, options):
    assert PER_PATCH not in masked_errors(tiny_mae, xrays, MASKS, **options)
    assert PER_PATCH not in measure(tiny_mae, xrays, MASKS, **options)


def test_both_ways_give_the_same_masked_error(tiny_mae, xrays, options):
    found = measure(tiny_mae, xrays, MASKS, **options)
    assert {name: found[name] for name in ("masked_mse", "relative_masked_mse")} == pytest.approx(
        masked_errors(tiny_mae, xrays, MASKS, **options), rel=1e-5
    )


def test_a_files_mask_hangs_on_nothing_but_its_content(tiny_mae, xrays, accelerator):
    shuffled = xrays.subset(np.random.default_rng(0).permutation(len(xrays)))
    whole, other = (
        masked_errors(tiny_mae, some, MASKS, batch_size=size, accelerator=accelerator)["masked_mse"]
        for some, size in ((xrays, 9), (shuffled, 2))
    )
    assert other == pytest.approx(whole, rel=1e-5)
    parts = [
        masked_errors(tiny_mae, xrays.subset(np.array([i])), MASKS, batch_size=9, accelerator=accelerator)["masked_mse"]
        for i in range(len(xrays))
    ]
    assert np.mean(parts) == pytest.approx(whole, rel=1e-5)
    seeds = masked_errors(tiny_mae, xrays, Masks(0.75, seed=1), batch_size=9, accelerator=accelerator)["masked_mse"]
    assert seeds != pytest.approx(whole, rel=1e-5)


def test_panels(tiny_mae, xrays, accelerator):
    positions = np.array([5, 0])
    pictures, error = panels(stub(tiny_mae, only_visible), xrays, positions, MASKS, accelerator)
    assert list(pictures) == ["Original", "Masked", "Reconstruction", "Reconstruction + Visible"]
    original, masked, rebuilt, composite = pictures.values()
    np.testing.assert_allclose(original, xrays.pixels[positions] / 255, atol=1e-6)
    assert error.tolist() == pytest.approx([1, 1], rel=1e-5)

    hidden = ~np.isclose(rebuilt, original, atol=1e-6)  # a whole unit is 0.25 in grey, unless clipped to white
    assert (masked[hidden] == 0.5).all()
    np.testing.assert_allclose(composite, rebuilt, atol=1e-6)
    np.testing.assert_allclose(rebuilt[hidden], np.minimum(original[hidden] + 0.25, 1), atol=1e-6)
    blocks = (masked == 0.5).reshape(2, 4, 8, 4, 8).all(axis=(2, 4))
    assert blocks.sum(axis=(1, 2)).tolist() == [12, 12]

    _, half = panels(stub(tiny_mae, off_by_a_half), xrays, positions, MASKS, accelerator)
    assert half.tolist() == pytest.approx([0.25, 0.25])


def test_what_is_visible_is_shown_as_it_is(tiny_mae, xrays, accelerator):
    pictures, _ = panels(stub(tiny_mae, off_by_a_half), xrays, np.array([0]), MASKS, accelerator)
    visible = pictures["Masked"] != 0.5
    composite, original, rebuilt = (
        pictures[name][visible] for name in ("Reconstruction + Visible", "Original", "Reconstruction")
    )
    assert visible.sum() == 4 * 64
    np.testing.assert_array_equal(composite, original)
    assert not np.array_equal(composite, rebuilt)


@pytest.mark.parametrize(
    ("n", "fractured", "others"),
    [(4, 2, 2), (2, 1, 1), (0, 0, 0), (6, 2, 4), (50, 2, 4)],  # there are 2 and 4 X-rays
)
def test_examples_are_different_xrays_half_of_each_class(xrays, n, fractured, others):
    chosen = choose_examples(xrays, n, seed=0)
    assert len(set(xrays.group[chosen])) == len(chosen)
    assert np.bincount(xrays.label[chosen], minlength=2).tolist() == [others, fractured]
    assert chosen.tolist() == choose_examples(xrays, n, seed=0).tolist()


def test_examples_need_no_label(xrays):
    unlabelled = XRays(xrays.name, xrays.table.assign(label=UNLABELLED), xrays.pixels, xrays.rows)
    chosen = choose_examples(unlabelled, 4, seed=0)
    assert len(set(xrays.group[chosen])) == len(chosen) == 4


def test_the_seed_chooses_the_examples(xrays):
    assert len({tuple(choose_examples(xrays, 4, seed)) for seed in range(5)}) > 1


def test_a_network_in_training_is_judged_in_evaluation(tiny_mae, xrays, options):
    tiny_mae.train()
    masked_errors(tiny_mae, xrays, MASKS, **options)
    assert not tiny_mae.training
