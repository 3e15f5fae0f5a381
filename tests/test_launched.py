"""What a training step launches on a GPU that is not there."""

from __future__ import annotations

import pytest

from benchmarks import launched
from kernels.launch import Launch, Source
from minigan.errors import UserError


def test_launches():
    """A step on a large GPU takes more than one build of a product, and for its three colours the other paths."""
    for conv2d, more in [("fp32", {"winograd.cu"}), ("tf32", set()), ("bf16", set())]:
        step = launched.launches("radford64", conv2d, 132)
        files = {file for _, room, file in (launch.source.name.split("/") for launch in step) if room == "conv2d"}
        assert {"conv2d.cu", "fold.cu", "pipeline.cu"} | more <= files
        assert len({launch.defines for launch in step if "product.cuh" in launch.source.text}) > 1


def test_launches_that_differ_in_shared_memory_alone():
    """Are one line, with the most; the others are by name, constants and threads. A step has such launches."""
    source = Source("tests", "f.cu", text='extern "C" __global__ void f(float* x) { x[0] = 1; }')
    three = [Launch(source, "f", frozenset(), 128, shared) for shared in (80, 96, 64)]
    other = Launch(source, "f", frozenset({("N", 2)}), 128, 32)
    wider = Launch(source, "f", frozenset(), 256, 16)
    assert launched.ordered({other, wider, *three}) == [three[1], wider, other]
    step = launched.launches("radford64", "tf32", 132)
    assert len({launch._replace(shared=0) for launch in step}) == len(step)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--conv", "tensor"], "--conv tensor: sm_75 cannot: choose one of auto, direct, naive, tiled, registers"),
        (["--precision", "tf32"], "--precision tf32: --conv auto is in fp32 on sm_75"),
    ],
)
def test_an_old_gpu_has_no_tensor_cores_for_it(asked, said):
    """One line that says what it has."""
    with pytest.raises(UserError) as refused:
        launched.of_step(launched.parser("x", "X.").parse_args(["--architecture", "sm_75", *asked]))
    assert str(refused.value) == said
