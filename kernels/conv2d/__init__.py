"""Convolution: slide a small filter over a picture and, at every place, weigh what lies under it.

    y[p, q] = sum over r, s, c of x[p * stride + r - padding, q * stride + s - padding, c] * w[r, s, c]

is one filter w (R, S, C) on one picture x (H, W, C); K filters give y its K channels. Multiply by y and sum over it,
and the three arrays stand side by side in one trilinear form, T(x, w, y) = sum x[n,i,j,c] w[k,r,s,c] y[n,p,q,k]. Its
derivative by each array is a kernel of this room: `conv2d` is dT/dy, `conv2d_transpose` is dT/dx (it turns small
pictures into larger ones), and `conv2d_weight_grad` is dT/dw.

On a GPU the room is a ladder, a file for each idea:

    naive.cu    a thread an element of the output                                             --conv naive
    tiled.cu    a block a tile of it: what its threads share is fetched once                  --conv tiled
    conv2d.cu   a thread 4 x 4 elements, from registers; long sums in parts                   --conv registers
    pipeline.cu a thread 8 x 16, while copies are under way; a GPU of sm_80 has them          --conv direct
                and a warp 16 x 8 at once, on tensor cores                                    --precision tf32, bf16
    winograd.cu fewer multiplications, between the transforms of tiles.cu                     --precision fp32
    operand.cu  before pipeline.cu: what is multiplied as bf16 is rounded once
    fold.cu     behind them: windows that overlap, where pictures have three colours
    dot.cu      beside them: one logit
    phase.cuh   of conv2d_transpose: which taps reach which pixels

On the CPU it is `direct.py`, matrix products by the definition, and `winograd_cpu.py`, with fewer multiplications; why
fewer are enough is said in `winograd.py`.
"""
