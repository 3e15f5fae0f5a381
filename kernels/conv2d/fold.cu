// fold.cu: the second half of conv2d_transpose, x = dT/dx, for pictures x of few channels      (minigan/ops/conv2d.py)
//
// Shapes  products (N,P,Q,R,S,C)  x (N,H,W,C); float32, C-contiguous; x has less than 2^31 elements
//
// The sums over k and over the taps, x[n,i,j,c] = sum over r, s, k of y[n,p,q,k] w[k,r,s,c], can be made in either order.
// conv2d.cu makes them as one, in tiles of 64 channels of x: of three colours that would be 61 channels of nothing.
// The idea over it: first each tap by itself, products[n,p,q,r,s,c] = sum over k of y[n,p,q,k] w[k,r,s,c]. That is a product
// of matrices with a row for each pixel of y and R S C columns, 48 of three colours, and whatever convolves on this GPU
// makes it: a transposed convolution whose window is one pixel. Then, here, what the overlapping windows put on a pixel is
// added up. The price is to write R S C numbers for each pixel of y, and to read them again. Gained: not measured yet.
//
// Block   a thread makes EACH elements of x, BLOCK apart (../launch/elements.cuh)
// Loads   Neighbouring threads have the colours of neighbouring pixels, which neighbouring taps of neighbouring pixels of y
//         reach: of 4 x 4 taps with stride 2 they read runs of two taps, 6 floats; and the other two with the next load.
// Sums    by ascending (r, s)

#include "../launch/elements.cuh"

// ---- fold -----------------------------------------------------------------------------------------------------------
// Tap r of row p leads to row i = p stride + r - padding: r is the remainder of i + padding, or some strides more, and p as
// many rows less (phase.cuh).
extern "C" __global__ void __launch_bounds__(BLOCK) fold(
    const float* __restrict__ products,  // (N,P,Q,R,S,C)
    float* __restrict__ x,               // (N,H,W,C)
    int size, int H, int W, int C, int P, int Q, int R, int S, int stride, int padding) {
    float sum[EACH] = {};
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        const unsigned at = element(e), pixel = at / C, row = pixel / W;  // at is (n, i, j, c)
        if (at >= size) break;
        const int i = row % H + padding, j = pixel % W + padding;
        const float* const picture = products + (long long)(row / H) * P * Q * (R * S * C) + at % C;
        for (int r = i % stride, p = i / stride; r < R; r += stride, --p) {
            for (int s = j % stride, q = j / stride; s < S; s += stride, --q) {
                if (0 <= p && p < P && 0 <= q && q < Q) sum[e] += picture[(((p * Q + q) * R + r) * S + s) * C];
            }
        }
    }
    store(sum, x, size);
}
