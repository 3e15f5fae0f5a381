"""Launches winograd.cu between the transforms of tiles.cu: Winograd's algorithm (winograd.py) on a GPU.

What it takes of memory: the filters' points, which are n² fold² / (R S) times the filters (6.25 of 4x4 with stride 2),
and of a weight gradient as many of them as its sums have parts; and at a time as many pictures' points as take no more
than the filters', or than AT_ONCE if that is more. So pictures go through in groups, one after the other.
"""

from __future__ import annotations

from kernels.conv2d import fp32_direct
from kernels.conv2d.format import number_cuh
from kernels.conv2d.operand import operand
from kernels.conv2d.parts import whole
from kernels.conv2d.plan import Tile, plan
from kernels.conv2d.tiles_cuda import Tiles
from kernels.launch import Source, empty, multiprocessors

__all__ = ["conv2d", "conv2d_transpose", "conv2d_weight_grad"]

SOURCE = Source(__package__, "winograd.cu", written={"number.cuh": number_cuh("float")})
AT_ONCE = 64 << 20  # bytes: blocks enough for a GPU, and few enough that much of it is in the L2 cache when it is read


def conv2d(x, w, algorithm, size):
    """y (N,P,Q,K) = dT/dy of x (N,H,W,C) and w (K,R,S,C), with (P, Q) = size."""
    tiles = Tiles(algorithm, size)
    y = empty(w, (len(x), *size, len(w)))
    filters = tiles.to_points("w", w)  # (n²,K,F)
    for group in groups(tiles, len(x), *filters.shape[1:]):
        points = tiles.to_points("x", x[group])  # (n²,tiles,F)
        sums, tile = planned(points, tiles.points, points.shape[1], len(w), points.shape[2])
        stage = tile.depth_tile(tile.rows) + tile.depth_tile(tile.columns)
        launch("conv2d", tile, stage, points, filters, sums, points.shape[2])
        tiles.from_points("y", whole(sums), y[group])
    return y


def conv2d_transpose(y, w, algorithm, size):
    """x (N,H,W,C) = dT/dx of y (N,P,Q,K) and w (K,R,S,C), with (H, W) = size."""
    tiles = Tiles(algorithm, y.shape[1:3])
    x = empty(w, (len(y), *size, w.shape[3]))
    filters = tiles.to_points("w", w)  # (n²,K,F)
    for group in groups(tiles, len(y), *filters.shape[1:]):
        points = tiles.to_points("y", y[group])  # (n²,tiles,K)
        sums, tile = planned(points, tiles.points, points.shape[1], filters.shape[2], len(w))
        stage = tile.depth_tile(tile.rows) + tile.line_tile(tile.columns)
        launch("conv2d_transpose", tile, stage, points, filters, sums, len(w))
        tiles.from_points("x", whole(sums), x[group])
    return x


def conv2d_weight_grad(x, y, algorithm, size):
    """w (K,R,S,C) = dT/dw of x (N,H,W,C) and y (N,P,Q,K), with (R, S) = size: the groups' sums added in their order."""
    tiles = Tiles(algorithm, y.shape[1:3])
    k, f = y.shape[3], algorithm.stride**2 * x.shape[3]
    w = empty(operand(x).pixels, (k, *size, x.shape[3]))
    cut = groups(tiles, len(x), k, f)
    sums, tile = planned(w, tiles.points, k, f, cut[0].stop * tiles.each)
    stage = tile.line_tile(tile.rows) + tile.line_tile(tile.columns)
    for group in cut:
        left, right = tiles.to_points("y", y[group]), tiles.to_points("x", x[group])  # (n²,tiles,K) and (n²,tiles,F)
        launch("conv2d_weight_grad", tile, stage, left, right, sums, left.shape[1], int(group.start > 0))
    tiles.from_points("w", whole(sums), w)
    return w


def groups(tiles: Tiles, n: int, k: int, f: int) -> list[slice]:
    """The n pictures, of F and of K channels at each point, in groups of one size; the last may be smaller."""
    filters, pictures = 4 * tiles.points * k * f, 4 * tiles.points * n * tiles.each * (f + k)  # bytes
    size = -(-n // min(n, -(-pictures // max(AT_ONCE, filters))))
    return [slice(first, min(n, first + size)) for first in range(0, n, size)]


def planned(like, points: int, rows: int, columns: int, depth: int) -> tuple:
    """Memory (parts,points,rows,columns) for sums of `depth` terms, where `like` lives, and the tile of a block."""
    tile, parts = plan(rows, columns, depth, points, multiprocessors(like), fp32_direct.PIPELINE.format)
    return empty(like, (parts, points, rows, columns)), tile


def launch(kernel: str, tile: Tile, stage: int, a, b, sums, depth: int, *more: int) -> None:
    """sums = a b at every point. stage: bytes that the tiles of a and b take."""
    parts, points, rows, columns = sums.shape
    grid = (-(-rows // tile.rows), -(-columns // tile.columns), parts * points)
    block, constants = (32 * tile.warps,), tile.constants(fp32_direct.PIPELINE.format)
    numbers = points, rows, columns, depth, parts, *more
    SOURCE.launch(kernel, grid, block, a, b, sums, *numbers, shared=stage * tile.stages, aligned=16, **constants)
