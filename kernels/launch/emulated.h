// emulated.h: CUDA's words with a host meaning, so that a .cu compiles with g++ or clang++ and runs a thread at a time
// (fibers.h). The host compiler reads it before the .cu.
//
// What goes wrong silently on a GPU shows here. Shared memory holds NaN until a thread writes it. Under the address
// sanitizer, an access outside an array, a register array or a shared tile stops the process and names the .cu's line.
#include <math.h>

#include <vector>

#include "fibers.h"

#define EMULATED  // tensor_cores.cuh asks

// ---- words of the language ------------------------------------------------------------------------------------------
#define __global__
#define __device__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define alignas(bytes) __align__(bytes)  // CUDA takes it after __shared__ too; the standard's own alignas does not

#if defined EMULATED_SANITIZED && !defined EMULATED_PTX  // there, ptx.h looks who leaves shared memory
#define __shared__ static  // an ordinary variable, for the sanitizer to put a red zone around
static void poison_own_shared_memory() {}
#else
#define __shared__ static __attribute__((section("shared")))  // all in one section, so that it can be filled
extern "C" __attribute__((weak, visibility("hidden"))) char __start_shared[], __stop_shared[];  // the linker's; or null
static void poison_own_shared_memory() { memset(__start_shared, 0xff, __stop_shared - __start_shared); }  // NaN, -1
#endif

struct alignas(16) float4 { float x, y, z, w; };
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct alignas(16) uint4 { unsigned x, y, z, w; };
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// ---- barriers and shuffles ------------------------------------------------------------------------------------------
static void __syncthreads(int line = __builtin_LINE()) { wait_at(AT_BLOCK_BARRIER, 0, line); }
static void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) { wait_at(AT_WARP_BARRIER, mask, line); }

static int lane() { return current->number % WARP; }

struct Slot {
    uint64_t words[3];  // what a lane hands to others: at most 24 bytes at once
};
static Slot slots[2][MAX_THREADS];

// Lays out a value for the other lanes and waits until each lane of the mask has. Returns the slot that it is in. Two
// slots in turn are enough: no lane comes to the call after the next, which writes this slot again, before every lane
// has come to the next and so has read.
template <class T> static unsigned hand_out(unsigned mask, const T& value, int line) {
    static_assert(sizeof(T) <= sizeof(Slot), "a slot has 24 bytes");
    const unsigned slot = current->turn;
    current->turn = 1 - slot;
    memcpy(&slots[slot][current->number], &value, sizeof(T));
    wait_at(AT_WARP_BARRIER, mask, line);
    return slot;
}

// What lane `source` has laid out there.
template <class T> static const T& handed_out(int source, unsigned slot) {
    return reinterpret_cast<const T&>(slots[slot][current->number / WARP * WARP + source]);
}

// The value of lane `source`; NaN (all bits set) if the mask does not name it.
template <class T> static T exchange(unsigned mask, T value, int source, int line) {
    const unsigned slot = hand_out(mask, value, line);
    if (mask >> source & 1) return handed_out<T>(source, slot);
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

// ---- copies that are under way --------------------------------------------------------------------------------------
// A GPU's asynchronous copy may land at any time from its start until it is waited for. Here it does the worst of it: as
// soon as it starts its target holds NaN, and it lands at the very end of the time, when the thread waits for it. So a
// copy that is not waited for shows as NaN, and so does one that starts where another thread still reads.
constexpr size_t COPIED = 16;  // bytes
struct Copy {
    void* to;
    const void* from;  // or null: zeros
    unsigned group;    // of the copies that are waited for together
};
static std::vector<Copy> under_way[MAX_THREADS];
static unsigned copy_group[MAX_THREADS];  // of the copies that a thread starts now

static void start_copy(void* to, const void* from) {
    const unsigned thread = current->number;
    if ((uintptr_t)to % COPIED || (uintptr_t)from % COPIED) return tell("a copy of %zu bytes is not aligned to them", COPIED);
    memset(to, 0xff, COPIED);
    under_way[thread].push_back({to, from, copy_group[thread]});
}

static void close_copy_group() { ++copy_group[current->number]; }

// Lands all of this thread's copies but those of the `pending` newest closed groups and of the group that is open.
static void land_copies(unsigned pending) {
    const unsigned thread = current->number;
    std::vector<Copy> still;
    for (const Copy& copy : under_way[thread]) {
        if (copy.group + pending >= copy_group[thread])
            still.push_back(copy);
        else if (copy.from)
            memcpy(copy.to, copy.from, COPIED);
        else
            memset(copy.to, 0, COPIED);
    }
    under_way[thread].swap(still);
}

static void begin_block() {
    poison_own_shared_memory();
    memset(dynamic_shared, 0xff, dynamic_shared_size);
    for (unsigned t = 0; t < MAX_THREADS; ++t) under_way[t].clear(), copy_group[t] = 0;
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
