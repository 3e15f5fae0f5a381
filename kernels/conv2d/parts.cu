// parts.cu: y = sum over parts of x[part]: what convolutions have summed in parts is added up      (parts.py)
//
// Shapes  x (parts,size)  y (size,); float32, C-contiguous; size < 2^31
//
// Over ../sum/sum.cu, which would do it too, and does where there are many parts: there several threads share a sum, since it
// is long. Here it is short, and a thread has several to itself.
//
// Block   a thread makes EACH elements, BLOCK apart (../launch/elements.cuh)
// Sums    by ascending part
// Napkin  4 (parts + 1) bytes an element, and nothing to compute. All that counts is how many loads are under way: those of
//         four parts.

#include "../launch/elements.cuh"

extern "C" __global__ void __launch_bounds__(BLOCK) whole(
    const float* __restrict__ x,  // (parts,size)
    float* __restrict__ y,        // (size,)
    int size, int parts) {
    float sum[EACH] = {};
#pragma unroll 4
    for (int part = 0; part < parts; ++part) {
        float next[EACH];
        load(next, x, size);
#pragma unroll
        for (int e = 0; e < EACH; ++e) sum[e] += next[e];
        x += size;
    }
    store(sum, y, size);
}
