from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import ours
from benchmarks.alternatives.reference_mae import ReferenceStep
from benchmarks.flops import Sizes, Traffic, counted, forward_flops, linear_layers, step_flops
from fracture_mae.config import FinetuneMae
from fracture_mae.models import autoencoder as mae_model
from fracture_mae.stages import finetune
from tests import builders

MASK_RATIO = 0.75


@pytest.fixture(scope="module")
def mae():
    return mae_model.load("vit-mae-tiny", image_size=224)


def test_the_forward_pass_by_hand(tiny_mae):
    # 16 patches of 64 values, 4 of them visible; encoder 2 layers 16 wide, decoder 1 layer 16 wide, MLPs 32 wide.
    patches = 2 * 4 * 64 * 16
    encoder = 2 * (2 * 5 * (4 * 16 * 16 + 2 * 16 * 32) + 4 * 5 * 5 * 16)
    bridge = 2 * 5 * 16 * 16
    decoder = 2 * 17 * (4 * 16 * 16 + 2 * 16 * 32) + 4 * 17 * 17 * 16
    prediction = 2 * 17 * 16 * 64
    assert forward_flops(tiny_mae, MASK_RATIO) == patches + encoder + bridge + decoder + prediction == 177_856
    assert step_flops(tiny_mae, MASK_RATIO, 3) == 3 * 3 * 177_856


def test_linear_layers_hold_every_matrix_of_the_network(tiny_mae):
    n_weights = sum(n_in * n_out * times for _, n_in, n_out, times in linear_layers(Sizes.of(tiny_mae), MASK_RATIO))
    assert n_weights == sum(p.numel() for p in tiny_mae.parameters() if p.ndim in (2, 4))


def test_a_training_step_is_what_pytorch_counts(mae, accelerator):
    trainer = finetune.make_trainer(mae, FinetuneMae(crop_scale=1, flip=False).settled("random"), accelerator)
    xrays = replace(builders.xrays("train", [0, 1]), pixels=np.zeros((2, 224, 224), np.uint8))
    found = counted(ours.step_of(trainer, xrays, np.arange(2)))
    # PyTorch counts the projection of hidden patches too, where they are projected.
    assert step_flops(mae, MASK_RATIO, 2) == pytest.approx(found, rel=0.03)


def test_the_reference_needs_as_many(mae, accelerator):
    step = ReferenceStep(
        Sizes.of(mae), mae.normalisation, learning_rate=1e-4, mask_ratio=MASK_RATIO, accelerator=accelerator
    )
    found = counted(lambda: step(torch.rand(2, 1, 224, 224)))
    assert step_flops(mae, MASK_RATIO, 2) == pytest.approx(found, rel=0.03)


def test_traffic_by_hand():
    a, b = torch.ones(10, 20), torch.ones(20, 5)
    with Traffic() as traffic:
        product = a @ b  # reads 200 and 100 values, writes 50
        product.t()  # a view
        product.add_(1)  # reads and writes 50
        (torch.ones(1).expand(100) * 2).sum()  # writes 1; reads 1, writes 100; reads 100, writes 1
    values = (200 + 100 + 50) + 2 * 50 + 1 + (1 + 100) + (100 + 1)
    assert traffic.n_bytes == 4 * values


def test_traffic_sees_the_backward_pass():
    weight = torch.ones(30, 30, requires_grad=True)
    with Traffic() as forward:
        loss = (weight @ torch.ones(30, 30)).sum()
    with Traffic() as backward:
        loss.backward()
    assert backward.n_bytes >= 4 * 2 * 30 * 30
    assert forward.n_bytes >= 4 * 3 * 30 * 30
    assert np.isfinite(loss.item())
