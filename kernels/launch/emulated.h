// emulated.h: CUDA's words with a host meaning, so that a .cu compiles with g++ or clang++ and runs a thread at a time
// (fibers.h). The host compiler reads it before the .cu.
//
// What goes wrong silently on a GPU shows here. Shared memory holds NaN until a thread writes it. Under the address
// sanitizer, an access outside an array, a register array or a shared tile stops the process and names the .cu's line.
#include <math.h>

#include "fibers.h"

// ---- words of the language ------------------------------------------------------------------------------------------
#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define alignas(bytes) __align__(bytes)  // CUDA takes it after __shared__ too; the standard's own alignas does not

#ifdef EMULATED_SANITIZED
#define __shared__ static  // an ordinary variable, for the sanitizer to put a red zone around
static void poison_shared_memory() {}
#else
#define __shared__ static __attribute__((section("shared")))  // all in one section, so that it can be filled
extern "C" __attribute__((weak, visibility("hidden"))) char __start_shared[], __stop_shared[];  // the linker's; or null
static void poison_shared_memory() { memset(__start_shared, 0xff, __stop_shared - __start_shared); }  // NaN, -1
#endif

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// ---- barriers and shuffles ------------------------------------------------------------------------------------------
static void __syncthreads(int line = __builtin_LINE()) { wait_at(AT_BLOCK_BARRIER, 0, line); }
static void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) { wait_at(AT_WARP_BARRIER, mask, line); }

static int lane() { return (current - fibers) % WARP; }

// The value of lane `source`; NaN (all bits set) if the mask does not name it. Two slots in turn are enough: no lane
// comes to the shuffle after the next, which writes this slot again, before every lane has come to the next and so has read.
template <class T> static T exchange(unsigned mask, T value, int source, int line) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most 8 bytes");
    const Fiber* warp = fibers + (current - fibers) / WARP * WARP;
    const unsigned turn = current->turn;
    current->turn = 1 - turn;
    memcpy(&current->slots[turn], &value, sizeof(T));
    wait_at(AT_WARP_BARRIER, mask, line);
    if (mask >> source & 1)
        memcpy(&value, &warp[source].slots[turn], sizeof(T));
    else
        memset(&value, 0xff, sizeof(T));
    return value;
}

// A warp falls into segments of `width` lanes; where the source is beyond its segment, a lane gets its own value.
template <class T>
static T __shfl_sync(unsigned mask, T value, int source, int width = 32, int line = __builtin_LINE()) {
    return exchange(mask, value, lane() / width * width + (source & (width - 1)), line);
}
template <class T>
static T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    const int source = lane() - (int)delta;
    return exchange(mask, value, source < lane() / width * width ? lane() : source, line);
}
template <class T>
static T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    const int source = lane() + (int)delta;
    return exchange(mask, value, source >= (lane() / width + 1) * width ? lane() : source, line);
}
template <class T>
static T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, int line = __builtin_LINE()) {
    const int source = lane() ^ bits;
    return exchange(mask, value, source >= (lane() / width + 1) * width ? lane() : source, line);
}

// ---- arithmetic -----------------------------------------------------------------------------------------------------
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
static inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
static inline long long min(long long a, long long b) { return a < b ? a : b; }
static inline long long max(long long a, long long b) { return a > b ? a : b; }
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
template <class T> static inline T __ldg(const T* pointer) { return *pointer; }
