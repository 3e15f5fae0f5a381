"""The direct sum of few channels, whose windows are read where they lie: right for all sizes that it takes."""

from __future__ import annotations

import cases
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_kernels import check

import kernels
from kernels.conv2d import cpu, implicit
from kernels.lanes import PANEL, ROWS


@st.composite
def sizes(draw):
    """Windows and rows of them that `multiply_tile` covers once, and that it covers in part twice."""
    r, s = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    c = draw(st.integers(-(-ROWS // s), implicit.MOST // (r * s)))
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    height, width = draw(st.integers(r, 12)), draw(st.integers(s + (ROWS - 1) * stride, 40))
    k = PANEL * draw(st.integers(1, 2))
    size = [(height + 2 * padding - r) // stride + 1, (width + 2 * padding - s) // stride + 1]
    assume(cpu.algorithm(size, (k, r, s, c), stride, padding, PANEL) is None)
    assert implicit.suits(size, (k, r, s, c))
    return draw(st.integers(1, 3)), height, width, c, k, (r, s, stride), padding


@pytest.mark.parametrize("kernel", ["conv2d", "conv2d_weight_grad"])
def test_any_sizes(kernel):
    """The derivatives are those of `reference` in float64, within the bound of their roundings, at every element."""

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32 - 1).map(np.random.default_rng), sizes())
    def law(rng, drawn):
        check(kernels.device("cpu"), kernel, cases.CASES[kernel].arguments(rng, *drawn))

    law()


def test_the_rule():
    """A layer is taken if it fills panels and rows of the registers, and its windows are short."""
    k = 2 * PANEL
    assert implicit.suits((32, 32), (k, 4, 4, 3))
    assert not implicit.suits((32, 32), (k + 1, 4, 4, 3))
    assert not implicit.suits((32, ROWS - 1), (k, 4, 4, 3))
    assert not implicit.suits((32, 32), (k, 4, ROWS - 1, 1))
    assert not implicit.suits((32, 32), (k, 5, 5, 20))
