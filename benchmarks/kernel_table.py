"""The report of `python -m benchmarks` for a reader."""

from __future__ import annotations

import itertools
import math

__all__ = ["shapes", "table"]

LINE = "  {:<18}{:<34}{:<26}{:>9}{:>9}{:>8}{:>8}  {:<6}{:>8}"
LEGEND = """
ms        median; before every call the caches are filled with something else
GFLOP/s   of the direct sum's multiplications and additions, even where an algorithm does with fewer
GB/s      of the bytes that must move: each input read once, each output written once
share     of the ceiling that bounds the call: of what it could reach if it did its operations at {sgemm:.0f} GFLOP/s
          (sgemm) or moved its bytes at {copy:.1f} GB/s (copy), whichever takes longer, both as measured in this run;
          Winograd's convolutions may have more than 100% of sgemm, since they multiply less than the direct sum;
          adam may have more than 100% of copy, since it writes where it has read, and a copy writes elsewhere
torch     how many times the speed of PyTorch's same operation, in the faster of its layouts
Every result, PyTorch's as well, was checked against the definition in float64 before it was timed: its root mean square
error is less than 6 sqrt(n) 2^-24 of it, six times the rounding of a direct float32 sum of n operations. Equal calls
were measured once, and stand in every layer that makes them."""


def table(report: dict) -> str:
    """A line for each kernel in each place; equal calls were measured once."""
    m, limits = report["machine"], {name: limit / 1e9 for name, limit in report["ceilings"].items()}
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    threads = f"{report['threads']} thread{'s' if report['threads'] > 1 else ''}"
    lines = [
        f"{m['cpu']}, {threads}, load {m['load']} before; {versions}; {m['date']}",
        f"ceilings: sgemm {limits['sgemm']:.0f} GFLOP/s, copy {limits['copy']:.1f} GB/s",
    ]
    for (preset, batch), rows in itertools.groupby(report["rows"], lambda row: (row["preset"], row["batch_size"])):
        heads = "kernel", "arrays", "ms", "GFLOP/s", "GB/s", "share", "of", "torch"
        lines += ["", LINE.format(f"{preset}, {batch}", *heads).rstrip()]
        for place, calls in itertools.groupby(rows, lambda row: row["place"]):
            names = itertools.chain([place], itertools.repeat(""))
            lines += [_line(name, row) for name, row in zip(names, calls, strict=False)]
    for preset, missing in report["not_called"].items():
        lines += [f"\nnot called in a training of {preset}: {', '.join(missing)}"] if missing else []
    return "\n".join(lines) + "\n" + LEGEND.format(**limits)


def _line(place: str, row: dict) -> str:
    ours = row["ways"]["minigan"]
    return LINE.format(
        place,
        row["kernel"],
        shapes(row["given"], row["made"]),
        f"{1e3 * ours['median']:.3f}",
        f"{ours['flops'] / 1e9:.1f}" if row["flop"] else "",
        f"{ours['bandwidth'] / 1e9:.1f}",
        f"{ours['share']:.0%}",
        row["ceiling"],
        f"{row['ratio']:.2f}" if "ratio" in row else "",
    ).rstrip()


def shapes(given: list[tuple[int, ...]], made: list[tuple[int, ...]]) -> str:
    """Of the arrays that go in, each shape once, without vectors; where there are only those, what comes out.

    Of more than a line has room for, how many numbers they have.
    """
    chosen = [shape for shape in given if len(shape) > 1] or made
    if len(chosen) > 3:
        return f"{sum(map(math.prod, chosen)):,} in {len(chosen)} arrays"
    return " ".join("x".join(map(str, shape)) or "1" for shape in dict.fromkeys(map(tuple, chosen)))
