"""Winograd's algorithm (winograd.py) on the CPU: which tiles are transformed and multiplied when, and kept where.

The larger factor of a product goes through in parts that fit in a core's cache; the smaller one is transformed once.
"""

from __future__ import annotations

import math

from kernels.conv2d.tiles_cpu import (
    SLAB,
    Layout,
    Part,
    by_blocks,
    by_panels,
    by_slabs,
    correlate,
    from_points,
    multiply,
    to_points,
    transpose,
    whole,
)
from kernels.conv2d.winograd import Letter
from kernels.lanes import PANEL, ROWS
from kernels.memory import empty
from kernels.threads import share, thread_count

__all__ = ["conv2d", "conv2d_transpose", "conv2d_weight_grad"]

CACHE = 2 << 20  # bytes of transformed tiles that a thread works on at a time
SHARED = 4 * CACHE  # bytes that all threads work on together


# ---- conv2d and conv2d_transpose -------------------------------------------------------------------------------------


def conv2d(x, w, algorithm, size):
    """dT/dy (N,P,Q,K) with (P, Q) = size."""
    y = empty((len(x), *size, len(w)))
    letters = algorithm.letters(size)
    Product(x, letters["x"], FiltersByK(w, letters["w"]), y, letters["y"]).compute()
    return y


def conv2d_transpose(y, w, algorithm, size):
    """dT/dx (N,H,W,C) with (H, W) = size."""
    x = empty((len(y), *size, w.shape[3]))
    letters = algorithm.letters(y.shape[1:3])
    Product(y, letters["y"], FiltersByC(w, letters["w"]), x, letters["x"]).compute()
    return x


def slab_width(channels: int, phases: int) -> int:
    """How many of the channels that are summed over are a slab: with their phases about SLAB terms, and whole panels.

    Of several phases it is one panel: a left factor has the phases of a panel side by side, a slab of filters the
    channels of a phase, and only so are they the same order.
    """
    return PANEL if phases > 1 else PANEL * math.gcd(channels // PANEL, max(1, SLAB // PANEL))


class Filters:
    """w (K,R,S,C) as the right factor of a matrix product: its rows are what is summed over.

    width: channels in a slab of rows. channels: in all.
    """

    def __init__(self, w, letter: Letter, channels: int, phases: int):
        self.w, self.letter, self.channels = w, letter, channels
        self.width = slab_width(channels, phases)

    def turned(self, part: Part, first: int, last: int):
        """Filters of channels first to last, (last - first, R, S, columns), and which of these columns the part is."""
        raise NotImplementedError

    def layout(self, part: Part) -> Layout:
        """Where the points of a slab with these columns are."""
        raise NotImplementedError

    def to_points(self, turned, slab: int, part: Part, points) -> None:
        """The slab of that number of what `turned` gave, transformed, to `points`."""
        filters, columns = turned
        first, last = slab * self.width, (slab + 1) * self.width
        to_points(first, last, filters, self.letter, columns, first, points, self.layout(part))


class FiltersByK(Filters):
    """Of y = x w: a row for each phase and channel of x, a column for each of K."""

    def __init__(self, w, letter: Letter):
        super().__init__(w, letter, w.shape[3], letter.fold**2)

    def turned(self, part, first, last):
        w = self.w[part.first_panel * PANEL : part.end_panel * PANEL]
        result = empty((last - first, *w.shape[1:3], len(w)))
        transpose(first, w, result)
        return result, whole(self.letter, result)

    def layout(self, part):
        """(points, panels of K, phases, width, PANEL)."""
        rows = self.letter.fold**2 * self.width
        return by_panels(part, rows)._replace(phase=self.width * PANEL, panel=rows * PANEL)


class FiltersByC(Filters):
    """Of x = y w: a row for each of K, a column for each phase and channel of x."""

    def __init__(self, w, letter: Letter):
        super().__init__(w, letter, len(w), 1)

    def turned(self, part, first, last):
        return self.w[first:last], part  # they are as they should be

    def layout(self, part):
        """(points, phases, panels of C, width, PANEL)."""
        return by_panels(part, self.width)


class Product:
    """target = what becomes of the points of source times those of the filters; a and b are their letters.

    The larger factor goes through in parts, the smaller one is transformed once and kept.
    """

    def __init__(self, source, a: Letter, filters: Filters, target, b: Letter):
        self.source, self.a, self.filters, self.target, self.b = source, a, filters, target, b
        self.inner = whole(a, source)  # the channels that are summed over
        self.outer = whole(b, target)  # and those of the result
        self.points = len(a.to) ** 2
        self.tiles = a.rows * a.columns  # of a picture
        self.slabs = filters.channels // filters.width

    def compute(self) -> None:
        """Fill the target."""
        if len(self.source) * self.tiles >= self.outer.size() * PANEL:
            self.by_pictures()
        else:
            self.by_panels()

    def by_pictures(self) -> None:
        """The filters are kept, and groups of pictures go through."""
        n, group, width = len(self.source), self.group_size(), self.filters.width
        factors = empty((self.slabs, self.points * self.filters.layout(self.outer).point))

        def transform(first, last):
            for slab in range(first, last):
                turned = self.filters.turned(self.outer, slab * width, (slab + 1) * width)
                self.filters.to_points(turned, 0, self.outer, factors[slab])

        def pictures(first, last):
            layout = by_slabs(self.inner, group * self.tiles)
            left = empty(self.points * layout.point)
            for start in range(first * group, min(n, last * group), group):
                end = min(n, start + group)
                to_points(start, end, self.source, self.a, self.inner, start, left, layout)
                self.multiply(left, layout, factors.__getitem__, self.outer, start, end)

        share(transform, self.slabs)
        share(pictures, -(-n // group))

    def by_panels(self) -> None:
        """The pictures are kept, and panels of the target's channels go through, each with its filters."""
        n = len(self.source)
        layout = by_slabs(self.inner, n * self.tiles)
        left = empty(self.points * layout.point)

        def panels(first, last):
            for part in self.outer.one_by_one(first, last):
                turned = self.filters.turned(part, 0, self.filters.channels)
                factor = empty(self.points * self.filters.layout(part).point)

                def right(slab, turned=turned, part=part, factor=factor):
                    self.filters.to_points(turned, slab, part, factor)
                    return factor

                self.multiply(left, layout, right, part, 0, n)

        share(to_points, n, self.source, self.a, self.inner, 0, left, layout)
        share(panels, self.outer.size())

    def multiply(self, left, left_layout: Layout, right, part: Part, first: int, last: int) -> None:
        """A part of the target's channels in pictures first to last; right(slab) are the filters' points."""
        rows = (last - first) * self.tiles
        layout, right_layout = by_blocks(part, rows), self.filters.layout(part)
        product = empty(self.points * layout.point)
        terms = self.inner.end_phase * self.filters.width
        for slab in range(self.slabs):
            start = slab * terms // PANEL * ROWS * PANEL
            sizes = self.points, rows, part.size(), terms
            multiply(*sizes, left, start, left_layout, right(slab), right_layout.point, product, layout, slab > 0)
        from_points(first, last, product, layout, self.b, part, first, self.target)

    def group_size(self) -> int:
        """How many pictures go through at a time.

        Their points fit in the cache and fill the rows of `multiply_tile`, and each thread gets about as many groups.
        """
        n, threads = len(self.source), thread_count()
        picture = 4 * self.points * self.tiles * PANEL * (self.inner.size() + self.outer.size())  # bytes
        groups = -(-n * picture // (CACHE * threads)) * threads
        even = ROWS // math.gcd(ROWS, self.tiles)
        return min(n, -(-n // (groups * even)) * even)


# ---- conv2d_weight_grad ----------------------------------------------------------------------------------------------


def conv2d_weight_grad(x, y, algorithm, size):
    """dT/dw (K,R,S,C) with (R, S) = size."""
    w = empty((y.shape[3], *size, x.shape[3]))
    letters = algorithm.letters(y.shape[1:3])
    tiles = len(x) * letters["x"].rows * letters["x"].columns
    (sum_of_groups if tiles >= len(w) else panel_by_panel)(x, letters["x"], y, letters["y"], w, letters["w"])
    return w


def sum_of_groups(x, a: Letter, y, b: Letter, w, filters: Letter) -> None:
    """The points of w are kept, and groups of pictures go through: their products are added up in their order."""
    n, k = len(x), len(w)
    tiles, points = a.rows * a.columns, len(a.to) ** 2
    of_x, of_y = whole(a, x), whole(b, y)
    group = min(n, max(1, SHARED // (4 * points * tiles * PANEL * (of_x.size() + of_y.size()))))
    xl, yl, wl = by_panels(of_x, group * tiles), by_panels(of_y, group * tiles), by_panels(of_x, k)
    xs, ys, ws = (empty(points * layout.point) for layout in (xl, yl, wl))
    for start in range(0, n, group):
        end = min(n, start + group)
        share(to_points, end - start, x[start:end], a, of_x, 0, xs, xl)
        share(to_points, end - start, y[start:end], b, of_y, 0, ys, yl)
        sizes = (end - start) * tiles, 0, k, of_x.size()
        share(correlate, points * of_x.size(), *sizes, ys, yl, xs, xl, ws, wl, start > 0)
    share(from_points, k, ws, wl, filters, of_x, 0, w)


def panel_by_panel(x, a: Letter, y, b: Letter, w, filters: Letter) -> None:
    """The points of y are kept, and panels of x's channels go through, a slab of filters after the other."""
    n, k = len(x), len(w)
    tiles, points = n * a.rows * a.columns, len(a.to) ** 2
    of_x, of_y = whole(a, x), whole(b, y)
    yl = by_panels(of_y, tiles)
    ys = empty(points * yl.point)

    def panels(first, last):
        for part in of_x.one_by_one(first, last):
            xl, wl = by_panels(part, tiles), by_panels(part, SLAB)
            xs, ws = empty(points * xl.point), empty(points * wl.point)
            to_points(0, n, x, a, part, 0, xs, xl)
            for row in range(0, k, SLAB):
                rows = min(k, row + SLAB) - row
                correlate(0, points, tiles, row, rows, 1, ys, yl, xs, xl, ws, wl, False)
                from_points(row, row + rows, ws, wl, filters, part, row, w)

    share(to_points, n, y, b, of_y, 0, ys, yl)
    share(panels, of_x.size())
