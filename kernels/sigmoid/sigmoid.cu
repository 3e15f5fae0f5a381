// sigmoid.cu: y = 1 / (1 + exp(-x))      (minigan/ops/sigmoid.py)
//
// Shapes  any; x and y have `size` elements, float32, C-contiguous
// Block   256 threads, a thread an element: a warp loads and stores 128 contiguous bytes
// Launch  grid (size / 256, rounded up), block (256)

extern "C" __global__ void sigmoid(
    const float* __restrict__ x,  // (size,)
    float* __restrict__ y,        // (size,)
    int size) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) {
        const float small = expf(-fabsf(x[e]));  // at most 1: for no x does it overflow
        y[e] = (x[e] >= 0.0f ? 1.0f : small) / (1.0f + small);
    }
}
