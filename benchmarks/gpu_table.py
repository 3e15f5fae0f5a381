"""The report of `python -m benchmarks --device cuda` for a reader: line by line as it comes, and the README's table."""

from __future__ import annotations

import itertools
from pathlib import Path

from benchmarks.kernel_table import shapes
from benchmarks.train_step import quartiles
from minigan.errors import UserError

__all__ = [
    "MARKERS",
    "NOT_MEASURED",
    "arrays",
    "ceilings",
    "head",
    "in_a_line",
    "ladder_title",
    "legend",
    "line",
    "markdown",
    "place",
    "significant",
    "step_line",
    "steps_title",
    "tables",
    "title",
    "write",
]

LINE = "  {:<18}{:<34}{:<32}{:<5}{:>10}{:>21}{:>10}{:>10}{:>7}  {:<5}{:>7}"
STEP = "  {:<10}{:<22}{:<6}{:>10}{:>22}{:>12}{:>9}{:>10}"
MARKERS = "<!-- gpu-table -->", "<!-- /gpu-table -->"
NOT_MEASURED = "not measured yet"
DOES_NOT_SUIT = "does not suit"
OF_KERNELS = """
~         one picture is rectified, and normalised before that if batch norm comes first, while it is read; PyTorch does
          so in kernels of its own first, which are timed too, except for the gradient of the filters
us        median of the calls, by {clock}; before every call the cache is filled with something else
TFLOP/s   of the direct sum's multiplications and additions, even where an algorithm does with fewer
GB/s      of the bytes that must move: each input read once, each output written once, four bytes a number
share     of the ceiling that bounds the call: of what it could reach if it did its operations at the rate of a matrix
          product in that precision, or moved its bytes at the rate of a copy, whichever takes longer, both as measured
          in this run;
          Winograd's convolutions may have more than 100% of fp32, since they multiply less than the direct sum;
          adam may have more than 100% of copy, since it writes where it has read, and a copy writes elsewhere
torch     how many times the speed of PyTorch's same operation, in the faster of its layouts and in that precision
          (bf16: its tensors are of that type already, which is half the bytes; ours are rounded within the time)

Equal calls were measured once, and stand in every layer that makes them.
Every result, PyTorch's too, was checked against the definition in float64 before it was timed: the whole result of a
small call; of a large one those of some pictures, filters or channels, the first, the last and others at random, on all
their pixels ("checked" in the JSON says which share). Its root mean square error is less than 6 sqrt(n) 2^-24 of it for
n operations, and in less than float32 3.5 times the rounding of a factor besides: 2^-11 for tf32, 2^-8 for bf16."""
OF_STEPS = """
MiB       of a step: what the library's allocator has held at most; what CUDA itself takes is not in it

The first step's losses are those of the CPU, within bounds that follow from the roundings ("agreement" in the JSON)."""


def head(report: dict) -> str:
    """What it was measured on."""
    m = report["machine"]
    card = m["card"]
    if "driver" in m:
        card += f" ({m['architecture']}, {m['multiprocessors']} multiprocessors, {m['memory'] / 2**30:.0f} GiB), "
        card += f"driver {m['driver']}, CUDA {m['cuda']}"
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    return f"{card}\n{m['cpu']}, {m['cpus']} CPUs; {versions}; {m['date']}"


def ceilings(report: dict) -> str:
    """How fast the card is at best."""
    limits = dict(report["ceilings"])
    copy = limits.pop("copy") / 1e9
    rates = ", ".join(f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in limits.items())
    return f"ceilings: copy {copy:,.0f} GB/s, {rates} ({report['ceilings_by']})"


def title(name: str) -> str:
    """The head of the lines that follow."""
    heads = "kernel", "arrays", "", "us", "quartiles", "TFLOP/s", "GB/s", "share", "of", "torch"
    return "\n" + LINE.format(name, *heads).rstrip()


def ladder_title(place: str, preset: str, batch: int) -> str:
    """The head of the ladder's lines."""
    return f"\nthe ladder: every way of convolution, in {place} of {preset}, batch {batch}{title('')}"


def arrays(row: dict) -> str:
    """The shapes of a row's arrays, marked if one is pending."""
    return "~ " * bool(row["pending"]) + shapes(row["given"], row["made"])


def significant(number: float) -> str:
    """With three digits, however small it is."""
    return f"{number:.3g}" if number < 999.5 else f"{number:,.0f}"


def in_a_line(failed: str) -> str:
    """Why something has failed: as much of it as has room."""
    return failed.splitlines()[0][:160]


def line(row: dict, place: str) -> str:
    """One kernel in one place."""
    start = place, row["kernel"], arrays(row), row["precision"]
    ours = row["ways"].get("minigan", {})
    if "median" not in ours:
        said = LINE.format(*start, *[""] * 7).rstrip()
        return f"{said}  failed: {in_a_line(ours.get('failed', 'no answer'))}"
    low, _, high = (1e6 * q for q in quartiles(ours["seconds"]))
    failed = "" if "ratio" in row or len(row["ways"]) == 1 else "failed"
    return LINE.format(
        *start,
        f"{1e6 * ours['median']:.1f}",
        f"{low:.1f} - {high:.1f}",
        significant(ours["flops"] / 1e12) if row["flop"] else "",
        significant(ours["bandwidth"] / 1e9),
        f"{ours['share']:.0%}",
        row["ceiling"],
        f"{row['ratio']:.2f}" if "ratio" in row else failed,
    ).rstrip()


def steps_title(preset: str, batch: int) -> str:
    """The head of a game's steps."""
    heads = "", "", "ms", "quartiles", "pictures/s", "TFLOP/s", "MiB"
    return f"\none training step of {preset}, batch {batch}\n" + STEP.format("", *heads).rstrip()


def step_line(row: dict) -> str:
    """One contestant."""
    start = row["player"], row["way"], row["precision"]
    if "failed" in row:
        return f"{STEP.format(*start, *[''] * 5).rstrip()}  failed: {in_a_line(row['failed'])}"
    low, _, high = (1e3 * q for q in quartiles(row["seconds"]))
    return STEP.format(
        *start,
        f"{1e3 * row['median']:.3f}",
        f"{low:.3f} - {high:.3f}",
        f"{row['batch_size'] / row['median']:,.0f}",
        significant(row["gflop"] / row["median"] / 1e3),
        f"{row['memory'] / 2**20:,.0f}",
    )


def legend(report: dict) -> str:
    """What the columns mean, what has failed and what is missing."""
    lines = []
    if report["rows"] or report["ladder"]:
        clock = "the card's own clock (events)" if report["device"] == "cuda" else "the host's clock"
        lines.append(OF_KERNELS.format(clock=clock))
    if report["steps"]:
        lines.append(OF_STEPS)
    if report["left_out"]:
        lines.append(f"\nnot measured, because the time was over: {'; '.join(report['left_out'])}")
    failed = dict.fromkeys(
        f"failed: {row['kernel']} {row['precision']} {row['conv']} in {row['place']} of {row['preset']}, {way}: "
        f"{in_a_line(outcome['failed'])}"
        for row in report["ladder"] + report["rows"]
        for way, outcome in row["ways"].items()
        if "failed" in outcome
    )
    return "\n".join([*lines, *failed])


# ---- the README ------------------------------------------------------------------------------------------------------


def place(file: Path) -> tuple[str, str]:
    """The file's text before the table and after it. Raises UserError where it has no such place."""
    text = file.read_text() if file.exists() else ""
    start, end = (text.find(marker) for marker in MARKERS)
    if not 0 <= start < end:
        raise UserError(f"{file}: has no lines {' and '.join(MARKERS)}, between which the table would stand")
    return text[: start + len(MARKERS[0])], text[end:]


def write(report: dict, file: Path) -> None:
    """Put the table of steps and that of the ladder between the file's markers."""
    before, after = place(file)
    file.write_text(f"{before}\n{markdown(report)}\n{after}")


def markdown(report: dict) -> str:
    """On what was measured, and both tables."""
    m = report["machine"]
    card = f"{m['card']}, driver {m['driver']}" if "driver" in m else m["card"]
    return "\n\n".join([f"{card}; {m['date']}. The {ceilings(report)}.", *tables(report)])


def tables(report: dict) -> list[str]:
    """That of each game's steps, and that of the ladder. A figure that there is none of is said to be missing."""
    games = itertools.groupby(report["steps"], lambda row: (row["preset"], row["batch_size"]))
    found = [steps_markdown(list(rows)) for _, rows in games]
    return [*found, ladder(report["ladder"])] if report["ladder"] else found


def steps_markdown(rows: list[dict]) -> str:
    """Ours beside PyTorch's fastest way, precision by precision."""
    first = rows[0]
    game = f"`{first['preset']}`, batch {first['batch_size']}, {significant(first['gflop'])} GFLOP"
    lines = [
        f"| {game} | minigan | PyTorch's best | minigan's speed | memory, MiB | PyTorch's |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for precision, some in itertools.groupby(rows, lambda row: row["precision"]):
        some = [row for row in some if "median" in row]
        ours, theirs = (
            min((row for row in some if row["player"] == player), key=lambda row: row["median"], default=None)
            for player in ("minigan", "torch")
        )
        both = ours and theirs
        cells = (
            precision,
            f"{1e3 * ours['median']:.2f} ms ({ours['way']})" if ours else NOT_MEASURED,
            f"{1e3 * theirs['median']:.2f} ms ({theirs['way']})" if theirs else NOT_MEASURED,
            f"{theirs['median'] / ours['median']:.2f} times" if both else NOT_MEASURED,
            f"{ours['memory'] / 2**20:,.0f}" if ours else NOT_MEASURED,
            f"{theirs['memory'] / 2**20:,.0f}" if theirs else NOT_MEASURED,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ladder(rows: list[dict]) -> str:
    """Each way of convolution in each precision: TFLOP/s of the three derivatives, in one place."""
    first = rows[0]
    kernels = list(dict.fromkeys(row["kernel"] for row in rows))
    where = f"{first['place']} of `{first['preset']}`, batch {first['batch_size']}, TFLOP/s"
    lines = [f"| {where} | {' | '.join(kernels)} |", "| --- " * (1 + len(kernels)) + "|"]
    cells = {}
    for row in rows:
        ours = row["ways"].get("minigan", {})
        rate = significant(ours["flops"] / 1e12) if "flops" in ours else NOT_MEASURED
        cells.setdefault((row["rung"], row["precision"]), dict.fromkeys(kernels, DOES_NOT_SUIT))[row["kernel"]] = rate
    lines += [f"| {', '.join(rung)} | {' | '.join(rates.values())} |" for rung, rates in cells.items()]
    return "\n".join(lines)
