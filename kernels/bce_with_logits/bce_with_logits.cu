// bce_with_logits.cu: mean of max(l, 0) - l t + log(1 + exp(-|l|))      (minigan/ops/bce_with_logits.py)
//
// Shapes  logits l of any shape, n elements; float32, C-contiguous. The target t is one number for all of them
#include "../launch/elements.cuh"

// ---- bce_with_logits ------------------------------------------------------------------------------------------------
// Block   one block does it all: there is a logit a picture, not a pixel
// Launch  grid (1), block (BLOCK)
// Shared  partial (BLOCK,): 1024 bytes; neighbouring threads read neighbouring floats: no bank conflict
// Sums    thread t adds elements t, t + BLOCK, ... in this order; then a tree: 0..127 take
//         128..255, 0..63 take 64..127, and so on
extern "C" __global__ void __launch_bounds__(BLOCK) bce_with_logits(
    const float* __restrict__ logits,  // (n,)
    float* __restrict__ loss,          // ()
    int n, float target) {
    __shared__ float partial[BLOCK];
    float sum = 0.0f;
    for (int e = threadIdx.x; e < n; e += BLOCK) {
        const float l = logits[e];
        sum += fmaxf(l, 0.0f) - l * target + log1pf(expf(-fabsf(l)));
    }
    partial[threadIdx.x] = sum;
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) loss[0] = partial[0] / n;
}

// ---- bce_with_logits_grad -------------------------------------------------------------------------------------------
// g (sigmoid(l) - t) / n
// Block   a thread makes EACH elements, BLOCK apart
extern "C" __global__ void bce_with_logits_grad(
    const float* __restrict__ g,       // ()
    const float* __restrict__ logits,  // (n,)
    float* __restrict__ glogits,       // (n,)
    int n, float target) {
    const float arrived = g[0];
    float mine[EACH];  // of logits, then of glogits
    load(mine, logits, n);
    for (float& value : mine) {
        const float small = expf(-fabsf(value));  // at most 1: it never overflows
        const float sigmoid = (value >= 0.0f ? 1.0f : small) / (1.0f + small);
        value = arrived * (sigmoid - target) / n;
    }
    store(mine, glogits, n);
}
