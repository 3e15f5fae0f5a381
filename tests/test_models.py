"""The networks: the layers that their sources give, at every size, and what they cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

import kernels
from minigan import models, nn
from minigan.autograd import Tensor, no_grad
from minigan.models import PRESETS, SIZES, networks, sample_z
from minigan.options import new_settings, parse
from minigan.random import Random
from minigan.table import layer_table, step_multiply_adds
from minigan.train import Game

CPU = kernels.device("cpu")


@pytest.fixture
def weightless(monkeypatch):
    """Networks as large as any, of shapes alone: their weights are one zero each, seen through strides of 0."""

    def zeros(random, shape, *_):
        return Tensor(np.broadcast_to(np.float32(0), shape), random.device)

    for name in ("normal", "truncated_normal"):
        monkeypatch.setattr(Random, name, zeros)


def built(preset: str, size: int | None = None, channels: int = 3) -> models.Networks:
    preset = PRESETS[preset]
    return networks(preset, CPU, size or preset.size, channels, preset.z_dim, preset.slope, seed=0)


def layers(network: nn.Sequential, shape: tuple[int, ...]) -> list[tuple]:
    """(layer, shape of its result, its parameters' shapes by name) of each."""
    found = []
    for layer in network:
        shape = layer.output_shape(shape)
        found.append((type(layer).__name__, shape, {name: t.shape for name, t in layer.parameters().items()}))
    return found


def norm(c: int) -> dict:
    return {"scale": (c,), "shift": (c,)}


def test_article128_is_the_articles(weightless):
    """Layer by layer, as the article's text has it: 5x5 kernels, biases, batch norm on all of D's but the first."""
    both = built("article128")
    generator = [
        ("Linear", (65536,), {"w": (65536, 100), "b": (65536,)}),
        ("Reshape", (8, 8, 1024), {}),
        ("LeakyRelu", (8, 8, 1024), {}),
    ]
    for side, k, c in ((16, 1024, 512), (32, 512, 256), (64, 256, 128), (128, 128, 64)):
        generator += [
            ("Conv2dTranspose", (side, side, c), {"w": (k, 5, 5, c), "b": (c,)}),
            ("BatchNorm", (side, side, c), norm(c)),
            ("LeakyRelu", (side, side, c), {}),
        ]
    generator += [
        ("Conv2dTranspose", (128, 128, 3), {"w": (64, 5, 5, 3), "b": (3,)}),
        ("Tanh", (128, 128, 3), {}),
    ]
    assert layers(both.generator, (100,)) == generator

    discriminator = [
        ("Conv2d", (64, 64, 64), {"w": (64, 5, 5, 3), "b": (64,)}),
        ("LeakyRelu", (64, 64, 64), {}),
    ]
    for side, c, k in ((32, 64, 128), (16, 128, 256), (16, 256, 512), (8, 512, 1024)):
        discriminator += [
            ("Conv2d", (side, side, k), {"w": (k, 5, 5, c), "b": (k,)}),
            ("BatchNorm", (side, side, k), norm(k)),
            ("LeakyRelu", (side, side, k), {}),
        ]
    discriminator += [("Reshape", (65536,), {}), ("Linear", (1,), {"w": (1, 65536), "b": (1,)})]
    assert layers(both.discriminator, (128, 128, 3)) == discriminator

    slopes = [
        layer.slope for network in (both.generator, both.discriminator) for layer in network if "slope" in vars(layer)
    ]
    assert set(slopes) == {0.2}
    strides = [layer.stride for layer in both.discriminator if isinstance(layer, nn.Conv2d)]
    assert strides == [2, 2, 2, 1, 2]
    assert {layer.eps for layer in both.discriminator if isinstance(layer, nn.BatchNorm)} == {1e-5}


def test_radford64_is_radfords(weightless):
    """Convolutions alone, 4x4, no bias; ReLU in G, leaky ReLU in D; no batch norm beside the pictures."""
    both = built("radford64")
    generator = [("Reshape", (1, 1, 100), {})]
    for side, k, c in ((4, 100, 512), (8, 512, 256), (16, 256, 128), (32, 128, 64)):
        generator += [
            ("Conv2dTranspose", (side, side, c), {"w": (k, 4, 4, c)}),
            ("BatchNorm", (side, side, c), norm(c)),
            ("LeakyRelu", (side, side, c), {}),
        ]
    generator += [("Conv2dTranspose", (64, 64, 3), {"w": (64, 4, 4, 3)}), ("Tanh", (64, 64, 3), {})]
    assert layers(both.generator, (100,)) == generator

    discriminator = [("Conv2d", (32, 32, 64), {"w": (64, 4, 4, 3)}), ("LeakyRelu", (32, 32, 64), {})]
    for side, c, k in ((16, 64, 128), (8, 128, 256), (4, 256, 512)):
        discriminator += [
            ("Conv2d", (side, side, k), {"w": (k, 4, 4, c)}),
            ("BatchNorm", (side, side, k), norm(k)),
            ("LeakyRelu", (side, side, k), {}),
        ]
    discriminator += [("Conv2d", (1, 1, 1), {"w": (1, 4, 4, 512)}), ("Reshape", (1,), {})]
    assert layers(both.discriminator, (64, 64, 3)) == discriminator

    assert {layer.slope for layer in both.generator if isinstance(layer, nn.LeakyRelu)} == {0.0}
    assert {layer.slope for layer in both.discriminator if isinstance(layer, nn.LeakyRelu)} == {0.2}


def numbers(preset: str) -> dict:
    """All that a preset says beside its name and its layers."""
    found = dataclasses.asdict(PRESETS[preset])
    assert found.pop("name") == preset
    del found["architecture"]
    return found


def test_the_presets_numbers_are_their_sources():
    """What the article's networks were trained with; and Radford's, [torch] where its line says so."""
    assert numbers("article128") == {
        "width": 64,
        "size": 128,  # [article] 128x128
        "z_dim": 100,  # [article] z has 100 numbers
        "z": "uniform",  # [article] uniform(-1, 1)
        "weights": "truncated_normal",  # [article] truncated normal, 0.02
        "scale_std": 0.0,  # TensorFlow's default: ones
        "slope": 0.2,  # [article] leaky ReLU 0.2
        "label_smoothing": 0.1,  # [article] real labels 0.9
        "lr_g": 0.0002,  # [article]
        "lr_d": 0.00005,  # [article]
        "beta1": 0.5,  # [article]
        "batch_size": 64,  # [article]
        "epochs": 215,  # [article]
    }
    assert numbers("radford64") == {
        "width": 64,  # [torch] ngf = ndf = 64
        "size": 64,  # [radford] figure 1
        "z_dim": 100,  # [radford] figure 1
        "z": "normal",  # [torch]; [radford] has uniform
        "weights": "normal",  # [radford] section 4: zero-centred normal, 0.02
        "scale_std": 0.02,  # [torch] normal(1, 0.02)
        "slope": 0.2,  # [radford] section 4
        "label_smoothing": 0.0,  # [torch] real labels 1; [radford] speaks of none
        "lr_g": 0.0002,  # [radford] section 4
        "lr_d": 0.0002,  # [radford] section 4: the same
        "beta1": 0.5,  # [radford] section 4
        "batch_size": 64,  # [torch]; [radford] has 128
        "epochs": 25,  # [torch]
    }


def test_tiny32_is_radford64_made_smaller():
    """What was chosen for a CPU and a few minutes differs, and nothing else; the layers are built alike."""
    tiny, whole = numbers("tiny32"), numbers("radford64")
    assert {name for name in whole if tiny[name] != whole[name]} == {
        *("width", "size", "z_dim", "label_smoothing", "epochs")
    }
    assert PRESETS["tiny32"].architecture is PRESETS["radford64"].architecture


@pytest.mark.parametrize(
    ("preset", "generator", "discriminator", "gflop"),
    [
        # G: 101*65536 + 25 (1024*512 + 512*256 + 256*128 + 128*64) + 3 (512 + 256 + 128 + 64) + 25*64*3 + 3
        # D: 25 (3*64 + 64*128 + 128*256 + 256*512 + 512*1024) + 64 + 3 (128 + 256 + 512 + 1024) + 65537
        ("article128", 24_034_819, 17_484_161, 3483),
        ("radford64", 3_576_704, 2_765_568, 145.58),  # the counts that [torch]'s networks have as well
    ],
)
def test_known_costs(weightless, preset, generator, discriminator, gflop):
    """Parameters, and the floating-point operations of a whole step of 64 pictures: two for each multiply-add."""
    both = built(preset)
    assert sum(t.size for t in both.generator.parameters().values()) == generator
    assert sum(t.size for t in both.discriminator.parameters().values()) == discriminator
    assert 2 * 64 * step_multiply_adds(both) / 1e9 == pytest.approx(gflop, abs=0.5 if gflop > 1000 else 0.005)


@pytest.mark.parametrize("preset", ["article128", "tiny32"])
def test_a_step_does_the_work_that_is_counted_and_no_more(monkeypatch, preset):
    """Every product in every convolution kernel of one step is counted, and equals `step_multiply_adds`.

    So D's filters get no gradient while G moves, nor G's while D moves, nor z, nor the pictures.
    """
    reference, done = kernels.device("reference"), []

    def count(kernel: str, y_and_w: Callable) -> None:
        compute = getattr(reference, kernel)

        def counting(*arguments):
            result = compute(*arguments)
            y, w = y_and_w(result, *arguments)
            done.append(y.size * w[0].size)  # each element of y meets the whole filter of its channel
            return result

        monkeypatch.setattr(reference, kernel, counting)

    count("conv2d", lambda result, x, w, *_: (result, w))
    count("conv2d_with_statistics", lambda results, x, w, *_: (results[0], w))
    count("conv2d_transpose", lambda result, y, w, *_: (y, w))
    count("conv2d_transpose_with_statistics", lambda results, y, w, *_: (y, w))
    count("conv2d_weight_grad", lambda result, x, y, *_: (y, result))
    game = Game(new_settings(parse(f"--preset {preset} --size 16 --batch-size 2 --z-dim 4".split())), reference)
    game.step(Tensor(np.zeros((2, 16, 16, 3), np.float32), reference))
    assert sum(done) == 2 * step_multiply_adds(game.networks)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", SIZES)
def test_every_size_and_mode_fits_together(weightless, preset, size, mode):
    """z becomes a picture of that size, and that picture one logit; wider than 1024 channels nothing gets."""
    channels = {"RGB": 3, "L": 1}[mode]
    both = built(preset, size, channels)
    drawn, judged = layers(both.generator, both.z_shape), layers(both.discriminator, both.picture)
    assert drawn[-1][1] == both.picture == (size, size, channels)
    assert judged[-1][1] == (1,)
    assert max(shape[-1] for _, shape, _ in drawn[2:] + judged[:-2]) <= 1024
    # each layer takes what the one before it gives
    for network, shape in ((both.generator, both.z_shape), (both.discriminator, both.picture)):
        for layer in network:
            assert all(layer.w.shape[axis] == shape[-1] for axis in _input_axis(layer))
            shape = layer.output_shape(shape)


def _input_axis(layer: nn.Layer) -> tuple[int, ...]:
    """Which axis of its filters a layer's input channels are."""
    return {nn.Linear: (1,), nn.Conv2d: (3,), nn.Conv2dTranspose: (0,)}.get(type(layer), ())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("size", "mode"), [(16, "RGB"), (16, "L"), (32, "L"), (64, "RGB")])
def test_networks_run(preset, size, mode):
    """Forward on real arrays gives the shapes promised, pictures within [-1, 1], and finite logits."""
    channels = {"RGB": 3, "L": 1}[mode]
    both = networks(PRESETS[preset], CPU, size, channels, z_dim=8, slope=0.2, seed=0)
    with no_grad():
        images = both.generator(sample_z(PRESETS[preset], Random(0, "z", CPU), 2, 8))
        logits = both.discriminator(images)
    assert images.shape == (2, size, size, channels)
    assert (np.abs(images.numpy()) <= 1).all()
    assert logits.shape == (2, 1)
    assert np.isfinite(logits.numpy()).all()


def test_weights_are_drawn_as_the_preset_says():
    """From the seed, the same on every device, another stream for each network, within what was asked for."""
    cpu, again = built("tiny32").generator.state(), built("tiny32").generator.state()
    assert all((t.numpy() == again[name].numpy()).all() for name, t in cpu.items())
    reference = networks(PRESETS["tiny32"], kernels.device("reference"), 32, 3, 64, 0.2, 0).generator.state()
    assert all((t.numpy() == reference[name].numpy()).all() for name, t in cpu.items())

    article = networks(PRESETS["article128"], CPU, 16, 3, 8, 0.2, seed=1)
    filters = [layer.w.numpy().ravel() for layer in (article.generator.layers[3], article.discriminator.layers[2])]
    assert all(0.039 < np.abs(w).max() <= np.float32(0.04) for w in filters)  # cut at two deviations of 0.02
    assert not np.isin(filters[0][:1000], filters[1]).all()
    assert (article.generator.layers[4].scale.numpy() == 1).all()
    scale = built("tiny32").generator.layers[2].scale.numpy()
    assert 0 < np.abs(scale - 1).max() < 0.02 * 6


def test_z_is_the_presets():
    """The article's is uniform on (-1, 1), Radford's normal."""
    uniform = sample_z(PRESETS["article128"], Random(0, "z", CPU), 1000, 10).numpy()
    normal = sample_z(PRESETS["radford64"], Random(0, "z", CPU), 1000, 10).numpy()
    assert (np.abs(uniform) < 1).all()
    # 10,000 numbers: each sample variance within 5 of its deviations, sqrt((mu4 - sigma^4)/n), of 1/3 and of 1
    assert abs(uniform.var() - 1 / 3) < 5 * np.sqrt((1 / 5 - 1 / 9) / 1e4)
    assert abs(normal.var() - 1) < 5 * np.sqrt(2 / 1e4)


def test_the_layer_table_adds_up(weightless):
    """A line for each layer and one for the sums; memory is that of the results in float32."""
    both = built("radford64")
    lines = layer_table("discriminator", both.discriminator, both.picture, batch=64).splitlines()
    assert len({len(line) for line in lines}) == 1  # every column is aligned
    assert len(lines[0]) <= 80
    assert " ".join(lines[1].split()) == "Conv2d 32 x 32 x 64 3,072 3,145,728 16.00 MiB"
    assert lines[-1].split()[:3] == ["total", "2,765,568", "103,817,216"]
