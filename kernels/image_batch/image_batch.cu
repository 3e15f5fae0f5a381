// image_batch.cu: batch[n] = images[indices[n]] / 127.5 - 1, mirrored where mirror[n] is 1      (minigan/data.py)
//
// Shapes  images (M,H,W,C) uint8, 0 <= indices < M; batch (N,H,W,C) float32; C-contiguous
// Block   256 threads, a thread an element of the batch: a warp stores 128 contiguous bytes and loads 32 (in reverse
//         order of pixels if mirrored, from the same 32)
// Launch  grid (size / 256, rounded up), block (256)

extern "C" __global__ void image_batch(
    const unsigned char* __restrict__ images,  // (M,H,W,C)
    const int* __restrict__ indices,           // (N,)
    const unsigned char* __restrict__ mirror,  // (N,)
    float* __restrict__ batch,                 // (N,H,W,C), `size` elements
    int size, int H, int W, int C) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= size) return;
    const int n = e / C / W / H, i = e / C / W % H, j = e / C % W, c = e % C;
    const int from = mirror[n] == 1 ? W - 1 - j : j;
    const long long row = (long long)indices[n] * H + i;  // a data set may have more than 2^31 bytes
    batch[e] = images[(row * W + from) * C + c] / 127.5f - 1.0f;
}
