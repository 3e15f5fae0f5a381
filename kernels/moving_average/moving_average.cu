// moving_average.cu: average += momentum (factor value - average)      (minigan/nn.py, BatchNorm)
//
// Shapes  average i and value i have sizes[i] elements, float32, C-contiguous
// Block   a thread makes EACH elements of one average, BLOCK apart
// Launch  grid (blocks of the largest, averages), block (BLOCK): batch norm's two averages take one launch
#include "../launch/elements.cuh"
#include "../launch/table.cuh"

extern "C" __global__ void moving_average(
    const Table<float*> averages,  // in place
    const Table<const float*> values,
    const Table<float> factors,
    const Table<int> sizes,
    float momentum) {
    const int i = blockIdx.y, size = sizes.row[i];
    float average[EACH], value[EACH];
    load(average, averages.row[i], size);
    load(value, values.row[i], size);
#pragma unroll
    for (int e = 0; e < EACH; ++e) average[e] += momentum * (factors.row[i] * value[e] - average[e]);
    store(average, averages.row[i], size);
}
