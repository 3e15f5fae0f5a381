// emulated.h: CUDA's words with a host meaning, so that a .cu compiles with g++ or clang++ and runs a thread at a time.
//
// Every thread of a block is a fiber: a stack of its own, on which the kernel runs until it meets a barrier. The
// scheduler (run_block) resumes the threads in order, or shuffled by a seed, until each of them waits or has returned;
// then it opens the barriers that are complete, and goes round again. Blocks run one after the other.
//
// What a GPU leaves undefined is an error or shows: a barrier that some thread of the block never reaches, a shuffle
// that a lane of its mask never reaches; shared memory holds NaN until it is written; and under -fsanitize=address an
// access outside an array, a register array or a shared tile stops the process with the line in the .cu.
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

// ---- words of the language ------------------------------------------------------------------------------------------
#define __global__
#define __device__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

#ifdef EMULATED_SANITIZED
#define __shared__ static  // an ordinary static, for the sanitizer to put a red zone around
#else
#define __shared__ static __attribute__((section("shared")))  // one section, for run_block to fill with NaN
__shared__ char shared_is_never_empty __attribute__((used));
extern "C" char __start_shared[], __stop_shared[];  // made by the linker
#endif

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

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
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

// Rounded once, never fused: what the host's operators do under -ffp-contract=off.
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double x) { return sqrt(x); }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((uint64_t)a * b) >> 32); }
template <class To, class From> static inline To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same number of bits");
    To to;
    memcpy(&to, &from, sizeof(to));
    return to;
}
static inline int __float_as_int(float x) { return bits_as<int>(x); }
static inline float __int_as_float(int x) { return bits_as<float>(x); }
static inline unsigned __float_as_uint(float x) { return bits_as<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return bits_as<float>(x); }
static inline long long __double_as_longlong(double x) { return bits_as<long long>(x); }
static inline double __longlong_as_double(long long x) { return bits_as<double>(x); }
template <class T> static inline T __ldg(const T* pointer) { return *pointer; }

// ---- fibers ---------------------------------------------------------------------------------------------------------
#ifdef EMULATED_SANITIZED
#include <sanitizer/common_interface_defs.h>
static const size_t STACK = 1 << 18;  // bytes; red zones take room
#else
static const size_t STACK = 1 << 16;  // bytes
static void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
static void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#endif
static const int MAX_THREADS = 1024, WARP = 32;  // a block, a warp: lane i of warp v is thread 32 v + i

enum State { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, RETURNED };

struct Fiber {
    char* stack;           // STACK bytes, the lowest page unreadable
    ucontext_t beginning;  // where the fiber's first turn starts
    bool begun;            // then `here` says where the next one goes on
    jmp_buf here;
    void* sanitizer;       // the sanitizer's own notes on this stack
    uint3 index;           // threadIdx
    State state;
    int line;              // of the barrier where it waits
    unsigned mask;         // of the warp barrier where it waits
    int turn;              // 0 or 1: which of its two slots the next shuffle uses
    uint64_t slots[2];     // what it hands to the other lanes
};

static Fiber fibers[MAX_THREADS];
static Fiber* current;              // the one that runs
static jmp_buf scheduler;           // where run_block goes on
static void* scheduler_sanitizer;
static const void* scheduler_stack;
static size_t scheduler_stack_size;
static void (*kernel)(void** arguments);
static void** kernel_arguments;
static char failure[512];           // what went wrong, or ""

// The fiber gives way to the scheduler; returns when it is resumed.
static void suspend() {
    __sanitizer_start_switch_fiber(&current->sanitizer, scheduler_stack, scheduler_stack_size);
    if (_setjmp(current->here) == 0) _longjmp(scheduler, 1);
    __sanitizer_finish_switch_fiber(current->sanitizer, &scheduler_stack, &scheduler_stack_size);
}

// The fiber's whole life: a thread of this block, then the same thread of the next one.
static void fiber_main() {
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
    for (;;) {
        kernel(kernel_arguments);
        current->state = RETURNED;
        suspend();
    }
}

static __attribute__((noinline)) void resume(Fiber* fiber) {
    current = fiber;
    threadIdx = fiber->index;
    __sanitizer_start_switch_fiber(&scheduler_sanitizer, fiber->stack, STACK);
    if (_setjmp(scheduler) == 0) {
        if (fiber->begun) _longjmp(fiber->here, 1);
        fiber->begun = true;
        setcontext(&fiber->beginning);
    }
    __sanitizer_finish_switch_fiber(scheduler_sanitizer, nullptr, nullptr);
}

static bool prepare(Fiber* fiber) {
    if (!fiber->stack) {
        void* memory = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return false;
        mprotect(memory, sysconf(_SC_PAGESIZE), PROT_NONE);  // a stack too small stops the process, and touches no other
        fiber->stack = (char*)memory;
    }
    getcontext(&fiber->beginning);
    fiber->beginning.uc_stack.ss_sp = fiber->stack;
    fiber->beginning.uc_stack.ss_size = STACK;
    fiber->beginning.uc_link = nullptr;
    makecontext(&fiber->beginning, fiber_main, 0);
    fiber->begun = false;
    return true;
}

// ---- barriers and shuffles ------------------------------------------------------------------------------------------
static void wait_at(State barrier, unsigned mask, int line) {
    current->state = barrier;
    current->mask = mask;
    current->line = line;
    suspend();
}

static void __syncthreads(int line = __builtin_LINE()) { wait_at(AT_BLOCK_BARRIER, 0, line); }
static void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) { wait_at(AT_WARP_BARRIER, mask, line); }

// Lane `source` hands its value over. Two slots in turn: no lane can reach the second shuffle after this one, which
// would write this one's slot again, before every lane has reached the first, and so has read.
template <class T> static T exchange(unsigned mask, T value, int source, int line) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most 8 bytes");
    int thread = current - fibers, turn = current->turn;
    memcpy(&current->slots[turn], &value, sizeof(T));
    current->turn = 1 - turn;
    wait_at(AT_WARP_BARRIER, mask, line);
    memcpy(&value, &fibers[thread / WARP * WARP + source].slots[turn], sizeof(T));
    return value;
}
static int lane() { return (current - fibers) % WARP; }

// A warp falls into segments of `width` lanes; a source outside the lane's segment leaves it its own value.
template <class T>
static T __shfl_sync(unsigned mask, T value, int source, int width = 32, int line = __builtin_LINE()) {
    return exchange(mask, value, lane() / width * width + (source & (width - 1)), line);
}
template <class T>
static T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    int source = lane() - (int)delta;
    return exchange(mask, value, source < lane() / width * width ? lane() : source, line);
}
template <class T>
static T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    int source = lane() + (int)delta;
    return exchange(mask, value, source >= (lane() / width + 1) * width ? lane() : source, line);
}
template <class T>
static T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, int line = __builtin_LINE()) {
    int source = lane() ^ bits;
    return exchange(mask, value, source >= (lane() / width + 1) * width ? lane() : source, line);
}

// ---- the scheduler --------------------------------------------------------------------------------------------------
static uint64_t shuffle_state;  // 0: threads run in order

static uint64_t next_random() {  // xorshift64 (Marsaglia 2003)
    shuffle_state ^= shuffle_state << 13;
    shuffle_state ^= shuffle_state >> 7;
    return shuffle_state ^= shuffle_state << 17;
}

static void shuffle(int* order, int count) {  // Fisher and Yates
    if (!shuffle_state) return;
    for (int i = count - 1; i > 0; --i) {
        int j = next_random() % (i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

// Opens the warp barriers whose every lane has come; says whether there was one.
static bool open_warp_barriers(int threads) {
    bool opened = false;
    for (int t = 0; t < threads; ++t) {
        if (fibers[t].state != AT_WARP_BARRIER) continue;
        int first = t / WARP * WARP;
        unsigned mask = fibers[t].mask;
        bool complete = mask >> (t - first) & 1;  // a lane outside its own mask waits for ever
        for (int i = 0; i < WARP; ++i) {
            const Fiber& other = fibers[first + i];
            if (mask >> i & 1)
                complete &= first + i < threads && other.state == AT_WARP_BARRIER && other.mask == mask &&
                            other.line == fibers[t].line;
        }
        if (!complete) continue;
        for (int i = 0; i < WARP; ++i)
            if (mask >> i & 1) fibers[first + i].state = READY;
        opened = true;
    }
    return opened;
}

// Opens the block's barrier if every thread has come to the same one.
static bool open_block_barrier(int threads) {
    for (int t = 0; t < threads; ++t)
        if (fibers[t].state != AT_BLOCK_BARRIER || fibers[t].line != fibers[0].line) return false;
    for (int t = 0; t < threads; ++t) fibers[t].state = READY;
    return true;
}

// Where the threads of a block that cannot go on are: "thread 0 (and 7 more) waits at __syncthreads() of line 12; ..."
static void describe_deadlock(int threads) {
    int length = snprintf(failure, sizeof(failure), "block (%u, %u, %u) cannot go on", blockIdx.x, blockIdx.y, blockIdx.z);
    bool told[MAX_THREADS] = {};
    for (int t = 0; t < threads; ++t) {
        if (told[t]) continue;
        int others = -1;
        for (int u = t; u < threads; ++u) {
            if (fibers[u].state != fibers[t].state || fibers[u].line != fibers[t].line) continue;
            told[u] = true;
            ++others;
        }
        if (length >= (int)sizeof(failure)) return;
        length += snprintf(failure + length, sizeof(failure) - length, "; thread %d", t);
        if (length < (int)sizeof(failure) && others)
            length += snprintf(failure + length, sizeof(failure) - length, " and %d more", others);
        if (length >= (int)sizeof(failure)) return;
        if (fibers[t].state == RETURNED)
            length += snprintf(failure + length, sizeof(failure) - length, " returned");
        else
            length += snprintf(failure + length, sizeof(failure) - length, " at the %s barrier of line %d",
                               fibers[t].state == AT_BLOCK_BARRIER ? "block" : "warp", fibers[t].line);
    }
}

static bool run_block(int threads) {
    static int order[MAX_THREADS];
    for (int t = 0; t < threads; ++t) {
        order[t] = t;
        fibers[t].state = READY;
        fibers[t].line = fibers[t].turn = 0;
    }
#ifndef EMULATED_SANITIZED
    memset(__start_shared, 0xff, __stop_shared - __start_shared);
#endif
    for (;;) {
        shuffle(order, threads);
        for (int i = 0; i < threads; ++i)
            if (fibers[order[i]].state == READY) resume(&fibers[order[i]]);
        bool all_returned = true;
        for (int t = 0; t < threads; ++t) all_returned &= fibers[t].state == RETURNED;
        if (all_returned) return true;
        if (!open_warp_barriers(threads) && !open_block_barrier(threads)) {
            describe_deadlock(threads);
            return false;
        }
    }
}

// Runs a kernel's whole grid; returns "" or what went wrong. Python calls it through ctypes.
// seed: 0 runs threads in order, any other shuffles them between barriers.
extern "C" __attribute__((visibility("default"))) const char* emulated_launch(
    void (*entry)(void**), void** arguments, const unsigned* grid, const unsigned* block, uint64_t seed) {
    kernel = entry;
    kernel_arguments = arguments;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    shuffle_state = seed;
    failure[0] = 0;
    static bool interrupted = false;  // fibers of the last launch stand in the middle of a kernel
    int threads = block[0] * block[1] * block[2];
    for (int t = 0; t < threads; ++t) {
        unsigned u = t;
        fibers[t].index = {u % block[0], u / block[0] % block[1], u / block[0] / block[1]};
    }
    for (int t = 0; t < MAX_THREADS; ++t) {
        Fiber& fiber = fibers[t];
        if ((t < threads && !fiber.stack) || (interrupted && fiber.stack))
            if (!prepare(&fiber)) return "no memory for the threads' stacks";
    }
    interrupted = false;
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                blockIdx = {x, y, z};
                if (!run_block(threads)) {
                    interrupted = true;
                    return failure;
                }
            }
    return failure;
}
