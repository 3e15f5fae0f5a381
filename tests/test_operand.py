"""What a convolution's pipeline reads: numbers of its format, in whole copies of 16 bytes."""

from __future__ import annotations

import cases
import numpy as np
import pytest
from test_tensor_cores import to_bf16

import kernels
from kernels.conv2d import bf16, fp32_direct, tf32
from kernels.conv2d.operand import NORMALISE, in_format
from kernels.launch import host, recording

FORMATS = {module.__name__.rsplit(".", 1)[1]: module.PIPELINE.format for module in (fp32_direct, tf32, bf16)}


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("make", [None, cases.to_normalise, cases.to_rectify])
@pytest.mark.parametrize("channels", [1, 3, 6, 12, 20, 2056])
def test_whole_copies(gpu, format, make, channels, seed):
    """Each number is the nearest of the format, of what batch norm or the rectifier make of it if that is pending; and
    what channels leave of the last copy is 0, which batch norm would not have left it."""
    device = kernels.device(gpu)
    rng = np.random.default_rng(seed)
    x = cases.floats(rng, 2, 3, 5, channels)  # 30 rows, where a thread has four
    picture, whole = device.array(x), x
    if make:
        picture = make(rng, x)
        picture = picture.through(device.array, device.kernels[picture.kernel])
        whole = device.numpy(picture.array())
    with host.emulation(order=seed):
        read = in_format(picture, format)
    given = picture.array() if read.pending else read.pixels
    want = np.zeros((2, 3, 5, -(-channels // format.copy) * format.copy), np.float32)
    want[..., :channels] = whole
    bits = to_bf16(want).view(np.uint32) >> 16 if format is FORMATS["bf16"] else want.view(np.uint32)
    np.testing.assert_array_equal(device.numpy(given).view(f"u{format.dtype.itemsize}"), bits)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_read_as_it_is(emulated, name):
    """Floats whose channels come in fours are not copied; nor are they made an array, if there is a table for them."""
    x = cases.floats(np.random.default_rng(0), 1, 2, 2, 8)
    with recording() as launched:
        plain = in_format(x, FORMATS[name])
        picture = in_format(cases.to_normalise(np.random.default_rng(0), x), FORMATS[name])
    copied = name == "bf16"
    assert (plain.pixels is x) == (not copied)
    assert picture.pending == (0 if copied else NORMALISE)
    assert picture.table(8) == (0 if copied else 3 * 8 * 4)
    assert {launch.kernel for launch in launched} == ({"operand"} if copied else set())
