"""How fast minigan is, beside what else there is: measured on this machine, in one run, checked before it is timed.

    python -m benchmarks                              every kernel at every layer's shapes, ours and PyTorch's in turn
    python -m benchmarks --device cuda                everything about a GPU: its ceilings, kernels and whole steps
    python -m benchmarks.train_step --peer torch      one whole training step, ours and PyTorch's in turn
    python -m benchmarks.tiles --device cuda          which tile each convolution should take, and in how many parts
    python -m benchmarks.occupancy                    what each kernel of a step takes of a multiprocessor; needs no GPU
    python -m benchmarks.profile                      what each launch of a step asks of one, counted; needs no GPU
    python -m benchmarks.machine_code                 what its loops are made of, by kind or by line; needs no GPU

Run from a checkout: this folder is not installed.
"""
