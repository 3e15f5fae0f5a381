// image_batch.cu: batch[n] = images[indices[n]] / 127.5 - 1, mirrored where mirror[n] is 1      (minigan/batches.py)
//
// Shapes  images (M,H,W,C) uint8, 0 <= indices < M; batch (N,H,W,C) float32; C-contiguous
// Block   a thread makes EACH elements of one picture, BLOCK apart: a warp loads 32 contiguous bytes, or if the picture is
//         mirrored the same pixels in reverse order, and stores 128
// Launch  grid (size / (EACH * BLOCK), rounded up, N), block (BLOCK), where a picture has `size` elements
// Napkin  5 bytes an element. A block works on one picture, so that finding it takes no division: an element that is mirrored
//         takes two, another none.
#include "../launch/elements.cuh"

extern "C" __global__ void image_batch(
    const unsigned char* __restrict__ images,  // (M,H,W,C)
    const int* __restrict__ indices,           // (N,)
    const unsigned char* __restrict__ mirror,  // (N,)
    float* __restrict__ batch,                 // (N,H,W,C)
    int size, int W, int C) {
    const long long n = blockIdx.y;
    const unsigned char* image = images + indices[n] * (long long)size;  // a data set may have more than 2^31 bytes
    const bool mirrored = mirror[n] == 1;
    float mine[EACH] = {};
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        unsigned e = element(i);  // of column e / C % W
        if (e >= size) continue;
        if (mirrored) e += (W - 1 - 2 * (e / C % W)) * C;
        mine[i] = image[e];
    }
    for (float& value : mine) value = value / 127.5f - 1.0f;
    store(mine, batch + n * size, size);
}
