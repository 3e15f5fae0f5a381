"""`python -m benchmarks --device cuda`: run whole on `emulated`; what only a GPU does is met by stand-ins."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
import types

import numpy as np
import pytest

import kernels
from benchmarks import __main__ as command
from benchmarks import ceilings, clocks, gpu, gpu_ceilings, gpu_steps, gpu_table, part, race, train_step, trial, work
from benchmarks.calls import Call, Training
from benchmarks.contest import Contestant, Ended
from benchmarks.gpu_steps import Entry
from benchmarks.trial import Entrant, Player, Task, Trials, Variant
from kernels.batch_norm_leaky_relu.reference import batch_norm_leaky_relu_inference
from kernels.leaky_relu.reference import leaky_relu
from kernels.threads import thread_count, use_threads
from minigan import options
from minigan.errors import UserError

LIMITS = {"copy": 1e10, "fp32": 1e12, "tf32": 1e13, "bf16": 1e13}


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


X, W, Y = normal(6, 8, 8, 7), normal(9, 4, 4, 7), normal(6, 4, 4, 9)
CONV2D = Call("conv2d", (X, W, 2, 1))


def to_normalise(x):
    columns = abs(np.random.default_rng(1).standard_normal((4, x.shape[-1]), np.float32))
    return kernels.Normalised(x, *columns, 1e-5, 0.2, batch_norm_leaky_relu_inference)


CUT = [
    CONV2D,
    Call("conv2d_transpose", (Y, W, 2, 1, (8, 8))),
    Call("conv2d_weight_grad", (X, Y, 2, 1, (4, 4))),
    Call("batch_norm", (X, normal(7), normal(7), 1e-5)),
    Call("batch_norm_leaky_relu_grad", (X, X[::-1].copy(), *abs(normal(4, 7)), 1e-5, 0.2)),
    Call("add", (X, normal(7))),
    Call("sum", (X, (0, 1, 2))),
    Call("normal", (np.arange(6, dtype=np.uint32), (50, 5000), 1.0, 2.0)),
    Call("conv2d", (to_normalise(X), W, 2, 1)),
    Call("conv2d_weight_grad", (to_normalise(X), Y, 2, 1, (4, 4))),
    Call("conv2d_weight_grad", (X, to_normalise(Y), 2, 1, (4, 4))),
    Call("conv2d", (kernels.Rectified(X, 0.2, leaky_relu), W, 2, 1)),
]
PENDING = CUT[-4:]


@pytest.mark.parametrize("call", CUT, ids=lambda call: call.kernel)
def test_a_part_of_a_call_gives_a_part_of_its_results(call, monkeypatch):
    """What a large call is checked by: the definition of the smaller call is that of the whole one, at those places."""
    monkeypatch.setattr(part, "OPERATIONS", 1)
    monkeypatch.setattr(part, "NUMBERS", 1000)
    whole = race.exact(call)
    some = part.part(call, whole)
    found = race.exact(some.call)
    assert 0 < sum(r.size for r in found) < sum(r.size for r in whole)
    for a, b in zip(some.of(whole), found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * abs(b).max())


@pytest.mark.parametrize("call", [CUT[3], CUT[6], Call("sum", (X, (3,))), CONV2D], ids=lambda call: call.kernel)
def test_a_small_call_is_checked_whole(call):
    """And so is one that does not fall apart: a sum over the channels."""
    assert part.part(call, race.exact(call)).call is call


def test_what_a_kernel_makes_as_it_reads_it():
    """It is in the calls of a device that does, of every layer after a leaky ReLU, be batch norm before it or not, and
    not of the others; a call of it is another one, with the results that the picture itself gives."""
    settings = options.new_settings(options.parse(["--preset", "radford64", "--size", "32", "--batch-size", "2"]))
    after = {"generator.4", "generator.7", "generator.10", "discriminator.2", "discriminator.5", "discriminator.8"}
    for reads, expected in [(True, after), (False, set())]:
        training = Training(settings, kernels.device("cpu"), reads)
        heard = {place.name: training.calls(place) for place in training.places}
        pending = {name: [call for call in calls if call.pending()] for name, calls in heard.items()}
        assert {name for name in pending if pending[name]} == expected
        assert any(call.kernel == "batch_norm_leaky_relu_inference" for calls in heard.values() for call in calls)
    for call in PENDING:
        whole = Call(call.kernel, tuple(map(kernels.as_array, call.arguments)))
        assert call.key() != whole.key()
        for a, b in zip(race.exact(call), race.exact(whole), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("player", ["minigan", "torch"])
@pytest.mark.parametrize("conv", ["auto", "naive"])
def test_players_of_what_is_pending(emulated, player, conv):
    """Ours, whether it can make what it reads or must do so before, and PyTorch in both layouts, are right."""
    process = contextlib.nullcontext()
    if player == "torch":
        torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'minigan[peers]'")
        process = torch.enable_grad()  # the player turns gradients off, for good: here, until this ends
    with process:
        play = trial.minigan_player("emulated") if player == "minigan" else trial.torch_player("cpu")
        for call in PENDING:
            outcomes, fit = play(Task(call, part.Part(call), race.exact(call)), Variant("fp32", conv), 1)
            assert fit
            assert len(outcomes) == (1 if player == "minigan" else 2)
            assert all(outcome["seconds"] and 0 < outcome["error"] <= 1 for outcome in outcomes.values()), outcomes


@pytest.mark.parametrize(("precision", "bits"), [("tf32", 11), ("bf16", 8)])
def test_bounds_of_rounded_factors(precision, bits):
    """Factors of so many binary digits, whether rounded or cut off, are within the bound; with two digits fewer not."""

    def rounded(a, bits, how):
        mantissa, exponent = np.frexp(a)
        return np.ldexp(how(mantissa * 2.0**bits) / 2.0**bits, exponent)

    def error(bits, how):
        x, w = (rounded(a.astype(np.float64), bits, how) for a in (X, W))
        return race.exact(Call("conv2d", (x, w, 2, 1)))

    right = race.exact(CONV2D)
    for how in (np.round, np.trunc):
        assert race.check(CONV2D, {"way": error(bits, how)}, right, precision)["way"] <= 1
    with pytest.raises(UserError, match="nothing that is wrong is timed"):
        race.check(CONV2D, {"way": error(bits - 3, np.trunc)}, right, precision)
    with pytest.raises(UserError, match="nothing that is wrong is timed"):
        race.check(CONV2D, {"way": error(bits, np.round)}, right)


@pytest.mark.parametrize(("clock", "library"), [(clocks.CupyClock, "cupy"), (clocks.TorchClock, "torch")])
@pytest.mark.parametrize(("needed", "expected"), [(1, [1]), (3, [1, 2, 4]), (1000, [1, 2, 4, 8, 16])])
def test_the_cards_clock_times_the_call_alone(monkeypatch, clock, library, needed, expected):
    """The cache is written over before the first event; the second follows the call; then the host waits for it.

    As long as Python takes longer to ask for the call than the GPU has to fill, that is no time of the GPU's alone: it
    fills for longer, and is timed again. A call that waits for the GPU itself would never be asked for in time.
    """
    happened = []

    class Event:
        def __init__(self, enable_timing=True):
            pass

        def record(self):
            happened.append("event")

        def query(self):
            assert happened[-3:] == ["event", "call", "event"]
            this_time = "".join(happened).rpartition("wait")[2]
            return this_time.count("flush") < needed

        def synchronize(self):
            happened.append("wait")

        def elapsed_time(self, end):
            return 3.0

    Event.done = property(Event.query)

    def flush(*_):
        happened.append("flush")

    stand_in = types.ModuleType(library)
    cold = types.SimpleNamespace(nbytes=5, data=types.SimpleNamespace(memset_async=flush), zero_=flush)
    stand_in.empty, stand_in.uint8 = lambda *_, **__: cold, np.uint8
    stand_in.cuda = types.SimpleNamespace(Event=Event, get_elapsed_time=Event.elapsed_time)
    monkeypatch.setitem(sys.modules, library, stand_in)
    assert clock().seconds(lambda: happened.append("call")) == 3e-3
    assert happened == [what for fills in expected for what in [*["flush"] * fills, "event", "call", "event", "wait"]]


class Clock:
    """Stands for a GPU's: every call takes a second, and after some it is spoilt."""

    def __init__(self, spoilt=False):
        self.spoilt = spoilt

    def seconds(self, compute):
        compute()
        return 1.0

    def wait(self):
        if self.spoilt:
            raise RuntimeError("an illegal memory access was encountered")


def some_player(spoilt=False, lame=False, slow=False):
    """Has three ways to compute: a right one, a wrong one, and one that does not compile."""

    def broken():
        if lame:
            os._exit(1)
        time.sleep(60 * slow)
        raise RuntimeError("conv2d.cu(7): error: identifier")

    right = race.exact(CONV2D)
    ways = {"minigan": lambda: right, "wrong": lambda: [right[0] + 1], "broken": broken}
    return Player(lambda call, variant: ways, lambda call, found: found, Clock(spoilt))


def outcomes(**faults):
    """What an entrant with such a player says of a call, twice, and how many processes it has spoilt."""
    entrant = Entrant("minigan", some_player, *faults.values())
    try:
        right = race.exact(CONV2D)
        task = Task(CONV2D, part.part(CONV2D, right), right)
        return [entrant.outcomes(task, Variant(), 4, limit=20.0) for _ in range(3)], entrant.spoilt.total()
    finally:
        entrant.close()


@pytest.mark.parametrize(("each", "calls"), [(0.0099, 4), (0.5, 2)])
def test_warming_up(monkeypatch, each, calls):
    """Two calls are not timed; or as many as take 30 ms, in which a GPU that has waited is at its speed again."""
    now, right = [0.0], race.exact(CONV2D)
    monkeypatch.setattr(trial, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))

    def seconds(compute):
        now[0] += each
        return now[0]

    clock = types.SimpleNamespace(seconds=seconds, wait=lambda: None)
    player = Player(lambda call, variant: {"minigan": lambda: right}, lambda call, found: found, clock)
    found, fit = player(Task(CONV2D, part.part(CONV2D, right), right), Variant(), 3)
    assert found["minigan"]["seconds"][0] == pytest.approx((calls + 1) * each)
    assert fit


def test_what_fails_costs_its_own_row():
    """A kernel that is wrong, or does not compile, says so in its place; the others are timed."""
    [found, *_], spoilt = outcomes()
    assert found["minigan"] == {"seconds": [1.0] * 4, "error": 0.0}
    assert re.match(r"UserError: conv2d of .*: result 0 of wrong is off by 1\.00e\+00", found["wrong"]["failed"])
    assert found["broken"] == {"failed": "RuntimeError: conv2d.cu(7): error: identifier"}
    assert spoilt == 0


@pytest.mark.parametrize(("spoilt", "sent"), [(False, [True, False, False]), (True, [True, True])])
def test_a_call_is_sent_once(monkeypatch, spoilt, sent):
    """Not again for each variant; but a new process gets it as well. All are answered alike."""
    turn, found = Contestant.turn, []
    monkeypatch.setattr(
        Contestant, "turn", lambda c, *order, **limits: found.append(order[0] is not None) or turn(c, *order, **limits)
    )
    answers, _ = outcomes(spoilt=spoilt)
    assert found == sent
    assert all(answer["minigan"] == answers[0]["minigan"] for answer in answers[: len(sent)])


@pytest.mark.parametrize(
    ("faults", "message"),
    [({"spoilt": True}, None), ({"spoilt": False, "lame": True}, "Ended: minigan: its process has ended")],
)
def test_a_spoilt_process_is_replaced(monkeypatch, faults, message):
    """After a forbidden address, or a crash, the next call meets a new process; the third time it is not tried."""
    made = []
    monkeypatch.setattr(trial, "Contestant", lambda *given: made.append(given[0]) or Contestant(*given))
    found, spoilt = outcomes(**faults)
    for some in found[: trial.STRIKES]:
        assert message in some["minigan"]["failed"] if message else some["minigan"]["seconds"]
    assert found[2]["minigan"]["failed"].startswith("not tried: 2 calls")
    assert spoilt == len(made) == trial.STRIKES


def test_a_call_that_never_ends_is_ended():
    """The message says after how many seconds, and the process is gone."""
    with Contestant("sleeper", sleeper) as contestant:
        with pytest.raises(Ended, match="sleeper: no answer in 1 seconds: its process was ended"):
            contestant.turn(60, pause=0, limit=1.0)
        with pytest.raises(Ended):
            contestant.turn(0, pause=0, limit=1.0)


def sleeper():
    return time.sleep


class Here:
    """An entrant in this process."""

    def __init__(self, player):
        self.player, self.turns = player, 0

    def outcomes(self, *order, limit):
        self.turns += 1
        return self.player(*order)[0]


def test_a_row():
    """Rates and the share of the ceiling of that precision follow from the median; equal calls are measured once."""
    entrant = Here(some_player())
    trials = Trials([entrant], LIMITS, 4, lambda: 100.0)
    row = trials.row(CONV2D, Variant("tf32", "tensor"))
    flop = 2 * 6 * 4 * 4 * 9 * 4 * 4 * 7
    assert (row["flop"], row["precision"], row["conv"], row["checked"]) == (flop, "tf32", "tensor", 1.0)
    ours = row["ways"]["minigan"]
    assert (ours["median"], ours["flops"]) == (1.0, flop)
    assert row["ceiling"] == "copy"  # 12,000 bytes at 1e10 a second take longer than 193,536 operations at 1e13
    assert ours["share"] == row["bytes"] / LIMITS["copy"]
    assert "ratio" not in row  # nobody else has given a right result
    assert "failed: " in gpu_table.line({**row, "ways": {"minigan": row["ways"]["wrong"]}}, "generator.1")
    assert trials.row(Call("conv2d", (X.copy(), W, 2, 1)), Variant("tf32", "tensor")) is row
    assert entrant.turns == 1


def test_shapes_of_results_without_computing_them():
    """What a call's work is counted from; of a kernel in place those of its arrays."""
    for call in CUT:
        assert [a.shape for a in trial.outline(call)] == [a.shape for a in race.exact(call)]
    adam = Call("adam", (np.array(0, np.int32), 1e-3, 0.5, 0.999, 1e-8, *normal(4, 100)))
    assert [a.shape for a in trial.outline(adam)] == [(), *[(100,)] * 4]


LARGE = [  # enough tiles for Winograd's algorithm, and channels that come in fours
    Call("conv2d", (normal(40, 16, 16, 12), normal(20, 4, 4, 12), 2, 1)),
    Call("conv2d_transpose", (normal(40, 8, 8, 20), normal(20, 4, 4, 12), 2, 1, (16, 16))),
    Call("conv2d_weight_grad", (normal(40, 16, 16, 12), normal(40, 8, 8, 20), 2, 1, (4, 4))),
]


@pytest.mark.parametrize("call", LARGE, ids=lambda call: call.kernel)
def test_a_rung_times_the_file_that_it_names(call):
    """Each of the ladder's ways launches its own .cu of the room, and no way is left out."""
    files = {
        "naive": "naive.cu", "tiled": "tiled.cu", "register-tiled": "conv2d.cu", "pipelined": "pipeline.cu",
        "Winograd": "winograd.cu", "tensor cores": "pipeline.cu",
    }  # fmt: skip
    found = list(gpu.rungs(call, "emulated", kernels.PRECISIONS))
    assert [rung for _, rung in found] == list(gpu.LADDER.values())
    for variant, rung in found:
        launched = gpu.launches(call, kernels.convolution("emulated", variant.conv, variant.precision))
        names = {launch.source.name.removeprefix("kernels/conv2d/") for launch in launched}
        assert names & set(files.values()) == {files[rung]}


def test_a_rung_is_no_other_ones_kernels(monkeypatch):
    """Where Winograd's algorithm, or the copies of the pipeline, do not suit a call, or the GPU is too old for them,
    the ladder has fewer rungs."""
    few = Call("conv2d", (normal(6, 8, 8, 12), normal(20, 4, 4, 12), 2, 1))
    logit = Call("conv2d", (normal(6, 4, 4, 12), normal(1, 4, 4, 12), 1, 0))
    lower = ["naive", "tiled", "register-tiled"]
    upper = ["pipelined", "tensor cores", "tensor cores"]
    for call, expected in [(few, lower + upper), (logit, lower)]:
        assert [rung for _, rung in gpu.rungs(call, "emulated", kernels.PRECISIONS)] == expected
    monkeypatch.setitem(kernels._WAYS, "emulated", lambda: kernels.ways_of_gpu(tensor_cores=False))
    assert [rung for _, rung in gpu.rungs(LARGE[0], "emulated", ["fp32"])] == lower


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1.23456e-8, "1.23e-08"),
        (0.012345, "0.0123"),
        (12.345, "12.3"),
        (999.4, "999"),
        (999.6, "1,000"),
        (3350, "3,350"),
    ],
)
def test_small_numbers_are_seen(number, expected):
    """Three digits of each, and all those of a large one."""
    assert gpu_table.significant(number) == expected


def test_a_legend_stands_below_its_table():
    """Of kernels, of steps, of both, or of neither; with the clock by which they were timed."""
    row = {"ways": {}}
    report = {"device": "cuda", "rows": [], "ladder": [], "steps": [], "left_out": []}
    for key, kernels_too, steps_too in [("rows", True, False), ("ladder", True, False), ("steps", False, True)]:
        said = gpu_table.legend({**report, key: [row]})
        assert ("\nshare  " in said, "\nMiB  " in said) == (kernels_too, steps_too)
        assert ("the card's own clock (events)" in said) == kernels_too
    assert gpu_table.legend(report) == ""
    assert gpu_table.tables(report) == []


def test_only_a_gpu_has_pytorchs_captured_ways(monkeypatch):
    """Elsewhere they would fail, which says nothing of them."""
    monkeypatch.setattr(gpu_steps.kernels, "device", lambda name: types.SimpleNamespace(graph=None))
    for device, expected in [("cuda", gpu_steps.PEERS), ("emulated", ("eager", "channels_last", "compile"))]:
        found = gpu_steps.entries(device, ("tf32",), "torch")
        assert tuple(entry.way for entry in found if entry.player == "torch") == expected


def test_what_does_not_suit_is_not_called_missing():
    """In the README's table: a rung without a row has no such kernel, one with a row that failed was not measured."""
    row = {"place": "discriminator.2", "preset": "tiny32", "batch_size": 2, "precision": "fp32"}
    fine, failed = {"minigan": {"flops": 2e12}}, {"minigan": {"failed": "no"}}
    rows = [
        {**row, "rung": "naive", "kernel": "conv2d", "ways": fine},
        {**row, "rung": "naive", "kernel": "conv2d_transpose", "ways": failed},
        {**row, "rung": "Winograd", "kernel": "conv2d", "ways": fine},
    ]
    assert gpu_table.ladder(rows).splitlines()[2:] == [
        "| naive, fp32 | 2 | not measured yet |",
        "| Winograd, fp32 | 2 | does not suit |",
    ]


@pytest.fixture
def threads():
    """Of this process, which a command changes: as they were."""
    count = thread_count()
    yield
    use_threads(count)


def small(monkeypatch):
    """Ceilings of a moment, and few steps."""
    monkeypatch.setattr(gpu_steps, "WARM_UP", 1)
    monkeypatch.setattr(gpu_steps, "FEW", 1)
    monkeypatch.setattr(gpu_steps, "TURN", 0)
    monkeypatch.setattr(ceilings, "SIDE", 64)
    monkeypatch.setattr(ceilings, "COPIED", 1 << 20)


TINY = ["--preset", "tiny32", "--size", "16", "--batch-size", "2", "--device", "emulated", "--rounds", "1"]


def test_the_whole_run(emulated, threads, monkeypatch, tmp_path, capsys):
    """On `emulated`, from the ceilings to the steps, the roofline and the README's table."""
    small(monkeypatch)
    monkeypatch.setattr(trial, "WARM_UP", 0)
    everyone = gpu_steps.entries("emulated", ("fp32", "tf32", "bf16"), "torch")
    assert len(everyone) == 3 * (2 + 3)  # of PyTorch's ways, those that capture nothing with CUDA
    some = [Entry("minigan", "graph", "fp32"), Entry("minigan", "no graph", "tf32"), Entry("minigan", "graph", "bf16")]
    assert set(some) < set(everyone)
    monkeypatch.setattr(gpu_steps, "entries", lambda *_: some)
    file, picture, readme = tmp_path / "gpu.json", tmp_path / "gpu.png", tmp_path / "README.md"
    readme.write_text(f"before\n{gpu_table.MARKERS[0]}\nnot measured yet\n{gpu_table.MARKERS[1]}\nafter\n")
    options = ["--peer", "none", "--threads", "2", "--json", file, "--plot", picture, "--readme", readme]
    command.main([*TINY, *map(str, options)])

    report = json.loads(file.read_text())
    assert report["precisions"] == ["fp32", "tf32", "bf16"]
    assert report["ceilings"].keys() == {"copy", *report["precisions"]}
    failed = [row for row in report["rows"] + report["ladder"] if "median" not in row["ways"]["minigan"]]
    assert not failed
    assert not report["left_out"]
    convolutions = {row["precision"] for row in report["rows"] if row["kernel"] == "conv2d_weight_grad"}
    assert convolutions == {"fp32", "tf32", "bf16"}
    assert {row["precision"] for row in report["rows"] if row["kernel"] == "adam"} == {"fp32"}
    rungs = [rung for rung, _ in dict.fromkeys((row["rung"], row["precision"]) for row in report["ladder"])]
    assert rungs == ["naive", "tiled", "register-tiled", "pipelined", "tensor cores", "tensor cores"]
    assert not any(row["pending"] for row in report["ladder"])
    assert any(row["pending"] for row in report["rows"])
    kernels_of_a_rung = [row["kernel"] for row in report["ladder"] if row["rung"] == "naive"]
    assert kernels_of_a_rung == ["conv2d", "conv2d_transpose", "conv2d_weight_grad"]
    assert {step["precision"] for step in report["steps"]} == {"fp32", "tf32", "bf16"}
    assert all(step["player"] == "minigan" and step["median"] > 0 for step in report["steps"])
    assert all(step["agreement"]["d_loss"] < 0.1 for step in report["steps"])

    said = capsys.readouterr().out
    assert "\nthe ladder: every way of convolution, in discriminator.2 of tiny32, batch 2\n" in said
    assert re.search(r" conv2d_transpose_with_statistics ", said)
    assert len({at for line in said.splitlines() for at in [line.find("  tf32 ")] if at > 60}) == 1  # none is too wide
    assert re.search(r"^  discriminator\.2 +conv2d +2x8x8x32 64x4x4x32 +tf32 +[\d.,]+ +[\d.,]+ - ", said, re.MULTILINE)
    assert re.search(
        r"^  minigan +graph +bf16 +[\d.,]+ +[\d.,]+ - [\d.,]+ +[\d,]+ +[\de.-]+ +[\d,]+$", said, re.MULTILINE
    )
    assert said.count("ceilings: ") == 1
    assert said.count("Equal calls were measured once") == 1
    assert "by the host's clock" in said
    assert "driver" not in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = readme.read_text()
    assert text.startswith(f"before\n{gpu_table.MARKERS[0]}\n")
    assert text.endswith(f"\n{gpu_table.MARKERS[1]}\nafter\n")
    assert re.search(r"^\| tf32 \| [\d.,]+ ms \(.*\) \| not measured yet \| ", text, re.MULTILINE)
    assert re.search(r"^\| tensor cores, bf16( \| [\de.-]+){3} \|$", text, re.MULTILINE)


def test_no_time(emulated, threads, monkeypatch, tmp_path, capsys):
    """A run whose time is over ends in order and names what it has left out."""
    small(monkeypatch)
    monkeypatch.setattr(command.gpu.Trials, "over", True)
    file = tmp_path / "gpu.json"
    command.main([*TINY, "--peer", "none", "--only", "kernels", "--json", str(file)])
    report = json.loads(file.read_text())
    assert report["left_out"][0] == "tiny32, 2: generator.0"
    assert not report["rows"]
    assert "not measured, because the time was over: tiny32, 2: generator.0; " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([], ("fp32", "tf32", "bf16")),
        (["--conv", "naive"], ("fp32",)),
        (["--conv", "tensor"], ("tf32", "bf16")),
        (["--precision", "tf32"], ("tf32",)),
        (["--conv", "tensor", "--precision", "bf16"], ("bf16",)),
    ],
)
def test_precisions_that_are_measured(emulated, threads, monkeypatch, asked, expected):
    """All that the device has in that way of convolution, or the one that is asked for: of the ladder, of every call
    and of whole steps. What is no convolution is float32, whatever they are."""
    met, players = set(), []

    def row(trials, call, variant):
        assert variant.precision in trials.limits
        met.add((call.kernel in gpu.LETTERS, variant.precision))
        return {"kernel": call.kernel, **variant._asdict(), "pending": [], "given": [], "made": [], "ways": {}}

    monkeypatch.setattr(gpu_ceilings, "of_device", lambda *given: ({"copy": 1.0} | dict.fromkeys(given[-1], 1.0), ""))
    monkeypatch.setattr(Trials, "row", row)
    monkeypatch.setattr(gpu_steps, "measure", lambda settings, everyone, *_: players.extend(everyone) or iter(()))
    command.main([*TINY, "--peer", "none", *asked])
    assert met == {(False, "fp32")} | {(True, precision) for precision in expected}
    assert tuple(dict.fromkeys(player.precision for player in players)) == expected


def test_a_precision_that_there_is_not():
    """Is refused before anything is measured, on the CPU too."""
    for asked in (["--conv", "naive", "--precision", "tf32"], ["--precision", "bf16", "--device", "cpu"]):
        with pytest.raises(kernels.DeviceError, match=r"no (tf32|bf16) convolution here"):
            command.main([*TINY, *asked])


def test_a_part_takes_no_whole_runs_place(monkeypatch):
    """Neither the table in a README, which is refused, nor the files that all of `--device cuda` writes unasked."""
    given = {}
    monkeypatch.setitem(command.PROGRAMS, "cuda", lambda found, *_: given.update(vars(found)))
    with pytest.raises(UserError, match=r"^--readme: its table is of a whole run, and --only measures a part"):
        command.main(["--device", "cuda", "--readme", "README.md", "--only", "steps"])
    command.main(["--device", "cuda", "--peer", "none"])
    assert (str(given["json"]), str(given["plot"])) == ("benchmarks-cuda.json", "benchmarks-cuda.png")
    command.main(["--device", "cuda", "--peer", "none", "--only", "steps"])
    assert (given["json"], given["plot"]) == (None, None)
    command.main(["--device", "cuda", "--peer", "none", "--only", "steps", "--json", "steps.json"])
    assert (str(given["json"]), given["plot"]) == ("steps.json", None)


def game(*arguments):
    """The settings of a small game."""
    return options.new_settings(options.parse([*TINY[:8], *arguments]))


def test_who_plays_another_game_is_out(emulated, monkeypatch):
    """And so is a process that fails: both are said, and the others are timed."""
    z, right = gpu_steps.first_step(game())
    settings = game("--device", "cpu")
    entries = [Entry("minigan", "no graph", "fp32"), Entry("minigan", "no graph", "tf32")]
    until = time.perf_counter() + 60
    fine, failed = gpu_steps.heat_of(settings, entries, z, right, 2, until)
    assert len(fine.outcome["seconds"]) == 2
    assert fine.outcome["memory"] > 2**20
    assert "DeviceError: cpu: no tf32 convolution here" in failed.outcome["failed"]
    [wrong] = gpu_steps.heat_of(settings, entries[:1], z, {**right, "d_loss": 9.0}, 2, until)
    assert re.match(r"d_loss of the first step differs by .*, minigan no graph fp32", wrong.outcome["failed"])
    assert "seconds" not in wrong.outcome


def test_nobody_warms_up_beside_another_but_compilers(monkeypatch):
    """PyTorch times its library's algorithms as it warms up, and chooses. A compiler begins first, and is waited for
    last; all of them must be warm early enough for the rounds."""
    log, limits = [], []

    class FakeContestant(contextlib.nullcontext):
        def __init__(self, name, *_):
            super().__init__()
            self.name, self.seconds = name, [0.01]

        def ask(self, order, *_):
            log.append((order, self.name))

        def answer(self, limit):
            limits.append(limit)
            log.append(("answer", self.name))
            return {"d_loss": 1.0, "g_loss": 1.0}

        def dismiss(self):
            """It has no process."""

    monkeypatch.setattr(gpu_steps, "Contestant", FakeContestant)
    entries = [Entry("torch", way, "fp32") for way in ("eager", "compile", "graph")]
    right = {"d_loss": 1.0, "g_loss": 1.0}
    gpu_steps.heat_of(game(), entries, None, right, 1, time.perf_counter() + 100)
    eager, compiler, graph = (f"torch {way} fp32" for way in ("eager", "compile", "graph"))
    one_by_one = [(order, name) for name in (eager, graph) for order in ("first", "answer")]
    assert log[:6] == [("first", compiler), *one_by_one, ("answer", compiler)]
    assert all(limit <= 60 for limit in limits[:3])
    assert all(limit > 60 for limit in limits[3:])


def test_ways_of_pytorch(monkeypatch):
    """Eager PyTorch plays our game; a graph, which the CPU has none of, is out and says why."""
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'minigan[peers]'")
    z, right = gpu_steps.first_step(game())
    entries = [Entry("torch", way, "bf16") for way in ("channels_last", "graph")]
    eager, graph = gpu_steps.heat_of(game(), entries, z, right, 1, time.perf_counter() + 60)
    assert len(eager.outcome["seconds"]) == 1
    assert 0 < eager.outcome["agreement"]["d_loss"] < gpu_steps.loss_bounds(game())["bf16"]
    assert "CUDA" in graph.outcome["failed"]


def test_pytorchs_captured_step_begins_where_the_game_did(monkeypatch):
    """Weights, statistics and Adam are as before the steps that a capture needs; the capture itself needs a GPU."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'minigan[peers]'")
    from benchmarks import torch_steps

    nothing = types.SimpleNamespace(wait_stream=lambda other: None)
    for name, stand_in in {
        "Stream": lambda: nothing,
        "current_stream": lambda: nothing,
        "stream": contextlib.nullcontext,
        "CUDAGraph": lambda: nothing,
        "graph": contextlib.nullcontext,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    z, right = gpu_steps.first_step(game())
    player = torch_steps.TorchSteps(game(), "graph", "fp32")
    player.z.copy_(torch.from_numpy(z))
    torch_steps.graphed(player.game, player.z, player.real)
    scores = player.game.step(player.z, player.real)
    train_step.agreement({"minigan": right, "torch": scores}, gpu_steps.loss_bounds(game())["fp32"])


def test_every_way_of_pytorch_is_known():
    """The names that play are those that there are."""
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'minigan[peers]'")
    from benchmarks.torch_steps import WAYS

    assert tuple(WAYS) == gpu_steps.PEERS


def test_the_readmes_place_is_looked_for_first(tmp_path):
    """A file without the markers is refused before anything is measured."""
    with pytest.raises(UserError, match=r"nowhere.md: has no lines <!-- gpu-table -->"):
        command.main([*TINY, "--readme", str(tmp_path / "nowhere.md")])


@pytest.mark.parametrize("peer", ["none", "torch"])
def test_cupys_ceilings(monkeypatch, capsys, peer):
    """Without PyTorch every precision is a process of its own, which tells CuPy what float32 may be.

    So it is where PyTorch fails; and that is said.
    """
    asked = []

    class Process:
        def __init__(self, name, make, precision="PyTorch"):
            self.precision = precision

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def turn(self, name, pause, limit):
            if self.precision == "PyTorch":
                raise Ended("ceilings: its process has ended: no kernel image")
            asked.append((name, self.precision))
            return 1.0

    monkeypatch.setattr(gpu_ceilings, "Contestant", Process)
    found, who = gpu_ceilings.of_card(peer, ("fp32", "tf32", "bf16"))
    assert found == dict.fromkeys(("copy", "fp32", "tf32", "bf16"), 1.0)
    assert asked == [(name, name) for name in found]
    assert "CuPy" in who
    assert ("no kernel image: CuPy measures the ceilings instead" in capsys.readouterr().out) == (peer == "torch")


def test_work_in_less_than_float32():
    """A bound has a part that more operations do not shrink: the factors' own rounding."""
    right = race.exact(CONV2D)
    bounds = [work.bound("conv2d", CONV2D.arguments, right, right[0], p) for p in ("fp32", "tf32", "bf16")]
    assert bounds[1] - bounds[0] == pytest.approx(2 * 3**0.5 * 2**-11)
    assert bounds[2] - bounds[0] == pytest.approx(2 * 3**0.5 * 2**-8)
