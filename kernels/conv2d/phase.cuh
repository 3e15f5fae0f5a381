// phase.cuh: conv2d_transpose, x = dT/dx, in phases: the pixels of x that the same taps reach
//
// Under tap r row p of y meets row i = p stride + r - padding of x. So only the r with i + padding - r a multiple of stride
// reach row i: r = r0, r0 + stride, ... where r0 is the remainder of i + padding. Rows of one r0 and columns of one s0 form a
// phase, of stride^2; within it every tap counts, none is multiplied by a zero that stride put between the rows of y, and
// p = p0 - tap for the tap-th of these r. With R = 4, stride 2 and padding 1:
//
//     row i of x               0       1       2       3
//     r0 = (i + 1) % 2         1       0       1       0
//     r that reach it          1, 3    0, 2    1, 3    0, 2
//     p = (i + 1 - r) / 2      0, -1   1, 0    1, 0    2, 1      (-1: outside, 0)
//
// A phase without taps (R < stride) and pixels that no window reaches get the empty sum: 0.

struct Phase {
    int r0, s0;          // its taps: r0, r0 + stride, ... < R by s0, s0 + stride, ... < S
    int taps_r, taps_s;  // so many by so many
    int i0, j0;          // its pixels of x: rows i0, i0 + stride, ... < H by columns j0, j0 + stride, ... < W
    int height, width;   // so many by so many
};

// Phase `number`, below stride^2. r_size and s_size are R and S, which a kernel may have as macros.
__device__ Phase phase_of(int number, int stride, int padding, int H, int W, int r_size, int s_size) {
    const int r0 = number / stride, s0 = number % stride;
    const int i0 = ((r0 - padding) % stride + stride) % stride, j0 = ((s0 - padding) % stride + stride) % stride;
    const auto steps = [&](int first, int end) { return (end - first + stride - 1) / stride; };  // first, ... < end
    return {r0, s0, steps(r0, r_size), steps(s0, s_size), i0, j0, steps(i0, H), steps(j0, W)};
}
