// full.cu: y = value      (kernels/full/__init__.py says what for)
//
// Shapes  any; y has `size` elements, float32, C-contiguous
// Block   256 threads, a thread an element: a warp stores 128 contiguous bytes
// Launch  grid (size / 256, rounded up), block (256)

extern "C" __global__ void full(
    float* __restrict__ y,  // (size,)
    int size, float value) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) y[e] = value;
}
