// moving_average.cu: average += momentum (factor value - average)      (minigan/nn.py, BatchNorm)
//
// Shapes  average and value have `size` elements, float32, C-contiguous
// Block   256 threads, a thread an element: a warp loads and stores 128 contiguous bytes
// Launch  grid (size / 256, rounded up), block (256)

extern "C" __global__ void moving_average(
    float* __restrict__ average,      // (size,), in place
    const float* __restrict__ value,  // (size,)
    int size, float factor, float momentum) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e < size) average[e] += momentum * (factor * value[e] - average[e]);
}
