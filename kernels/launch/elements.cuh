// elements.cuh: which elements are a thread's, in a kernel that makes every element of y by itself
//
// Block   BLOCK threads; a thread makes EACH elements, BLOCK apart. Neighbouring threads have neighbouring elements: a
//         warp loads and stores 128 contiguous bytes at a time, whatever the size.
// Launch  grid (size / (EACH * BLOCK), rounded up), block (BLOCK): `elements(size)` of elements.py. size < 2^31
// Napkin  an H200 has a memory of 4.8 TB/s, from which a load takes some 700 ns. So 3.4 MB must be under way at any time:
//         25 KB for each of 132 multiprocessors. 2,048 threads with one float each under way are 8 KB, a third of that;
//         with EACH, all of them loaded before one is waited for, they are 32 KB.
//         Loads of four neighbours at once (float4) would gain nothing: 4.8 TB/s are 20 bytes a clock for each
//         multiprocessor, and a warp that loads a float a thread asks for 128. They would need aligned arrays.

constexpr int BLOCK = 256, EACH = 4;

// The number of this thread's element i. Unsigned: that of a thread beyond the end may be 2^31 or more.
__device__ unsigned element(int i, unsigned block = blockIdx.x) {
    return (block * EACH + i) * BLOCK + threadIdx.x;
}

// This thread's elements of x (size,); 0 beyond the end.
__device__ void load(float (&mine)[EACH], const float* x, int size, unsigned block = blockIdx.x) {
#pragma unroll
    for (int i = 0; i < EACH; ++i) mine[i] = element(i, block) < size ? x[element(i, block)] : 0.0f;
}

// Put into y (size,).
__device__ void store(const float (&mine)[EACH], float* y, int size, unsigned block = blockIdx.x) {
#pragma unroll
    for (int i = 0; i < EACH; ++i)
        if (element(i, block) < size) y[element(i, block)] = mine[i];
}
