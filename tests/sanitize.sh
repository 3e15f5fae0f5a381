#!/bin/sh
# Every kernel under each tool of NVIDIA's compute-sanitizer, on small cases. Needs a GPU, CuPy, and compute-sanitizer:
# of the CUDA toolkit, or of `pip install nvidia-cuda-sanitizer-api`, which puts it where no shell looks, but this one.
# It has not run on a card yet: on `emulated`, the suite itself looks for the same faults (tests/test_emulator.py).
#
#   memcheck   accesses outside an array             racecheck  shared memory that two threads touch at the same time
#   initcheck  memory that nobody wrote              synccheck  barriers that not every thread meets
#
# --no-pool: each array is an allocation of its own, or one kernel could run on into another's array unseen.
set -eu
cd "$(dirname "$0")/.."
PATH="$PATH:$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13/bin"
for tool in memcheck racecheck initcheck synccheck; do
    echo "compute-sanitizer: $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 1 \
        python -m pytest -q -n0 --device cuda --no-pool tests/test_kernels.py tests/test_convolution_ladder.py \
        tests/test_tensor_cores.py tests/test_winograd.py \
        -k "awkward_sizes or plain_rungs or few_channels or few_filters or parts or pipeline or copies or pieces or products or on_a_gpu"
done
