// fibers.h: the threads of a block on the host, each a fiber: a stack of its own, on which the kernel runs until it meets
// a barrier. run_block resumes them in order, or shuffled by a seed, until each of them waits or has returned; then it
// opens the barriers that are complete, and goes round again. Blocks run one after the other. When shuffled, a warp's
// barriers stay closed now and then, so that some warps run ahead of others, as far as the block's barriers let them.
//
// A barrier that some thread never reaches is left undefined by CUDA; here it ends the launch with a message that says
// which threads wait at which line and which have returned.

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef EMULATED_SANITIZED
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
// The sanitizer's own _longjmp makes it forget a whole stack, for the frames that a jump leaves behind, and takes longer
// than the thread's turn. A fiber leaves no frame behind: it jumps as the C library does.
static void (*const jump)(jmp_buf, int) = (void (*)(jmp_buf, int))dlsym(dlopen("libc.so.6", RTLD_LAZY), "_longjmp");
#else
static void (*const jump)(jmp_buf, int) = _longjmp;
static void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
static void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#define __asan_unpoison_memory_region(memory, size)
#endif
static const size_t STACK = EMULATED_STACK;  // bytes
static const unsigned MAX_THREADS = EMULATED_THREADS;  // of a block
static const unsigned WARP = 32;                       // threads: lane i of warp v is thread 32 v + i

struct uint3 { unsigned x, y, z; };
typedef uint3 dim3;
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;

// The place of a number in a box: x runs fastest.
static uint3 place(unsigned index, dim3 box) { return {index % box.x, index / box.x % box.y, index / box.x / box.y}; }

// ---- a fiber --------------------------------------------------------------------------------------------------------
enum State { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, RETURNED };

struct Fiber {
    char* stack;      // STACK bytes, the lowest page unreadable
    bool begun;       // it has had its first turn of this launch
    jmp_buf here;     // says where it goes on
    void* sanitizer;  // the sanitizer's notes on this stack
    unsigned number;  // of the thread in its block
    uint3 index;      // threadIdx
    State state;
    int line;         // of the barrier where it waits
    unsigned mask;    // of the warp barrier where it waits
    unsigned turn;    // 0 or 1: which of its two slots it uses next
};

static Fiber fibers[MAX_THREADS];
static Fiber* current;     // the one that runs
static jmp_buf scheduler;  // where run_block goes on
static void* scheduler_sanitizer;
static const void* scheduler_stack;
static size_t scheduler_stack_size;
static void (*kernel)(void** arguments);
static void** kernel_arguments;

// The fiber gives way to the scheduler, and returns from here when it is resumed.
static void suspend() {
    __sanitizer_start_switch_fiber(&current->sanitizer, scheduler_stack, scheduler_stack_size);
    if (_setjmp(current->here) == 0) jump(scheduler, 1);
    __sanitizer_finish_switch_fiber(current->sanitizer, &scheduler_stack, &scheduler_stack_size);
}

// A fiber's whole life: a thread of this block, then the same thread of the next one.
static void live() {
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
    for (;;) {
        kernel(kernel_arguments);
        current->state = RETURNED;
        current->line = 0;
        suspend();
    }
}

// A fiber's first turn, on its own stack.
static void begin(Fiber* fiber) {
    static ucontext_t beginning;
    fiber->begun = true;
    getcontext(&beginning);
    beginning.uc_stack.ss_sp = fiber->stack;
    beginning.uc_stack.ss_size = STACK;
    beginning.uc_link = nullptr;
    makecontext(&beginning, live, 0);
    setcontext(&beginning);
}

static __attribute__((noinline)) void resume(Fiber* fiber) {
    current = fiber;
    threadIdx = fiber->index;
    __sanitizer_start_switch_fiber(&scheduler_sanitizer, fiber->stack, STACK);
    if (_setjmp(scheduler) == 0) {
        if (fiber->begun) jump(fiber->here, 1);
        begin(fiber);
    }
    __sanitizer_finish_switch_fiber(scheduler_sanitizer, nullptr, nullptr);
}

// A thread begins again: since its last launch others may have used its stack.
static void prepare(Fiber* fiber, unsigned number, char* stacks) {
    if (!fiber->stack) {
        fiber->stack = stacks + number * STACK;
        mprotect(fiber->stack, sysconf(_SC_PAGESIZE), PROT_NONE);  // one that is too small stops, and touches no other
    }
    fiber->number = number;
    fiber->index = place(number, blockDim);
    fiber->begun = false;
}

// ---- chance ---------------------------------------------------------------------------------------------------------
static uint64_t shuffle_state;  // 0: blocks and threads run in order

static unsigned random_number() {  // xorshift64 (Marsaglia 2003)
    shuffle_state ^= shuffle_state << 13;
    shuffle_state ^= shuffle_state >> 7;
    shuffle_state ^= shuffle_state << 17;
    return shuffle_state >> 32;
}

static void shuffle(unsigned* order, unsigned count) {  // Fisher-Yates
    if (!shuffle_state) return;
    for (unsigned i = count - 1; i > 0; --i) {
        unsigned j = random_number() % (i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

// ---- barriers -------------------------------------------------------------------------------------------------------
static void wait_at(State barrier, unsigned mask, int line) {
    current->state = barrier;
    current->mask = mask;
    current->line = line;
    suspend();
}

// Whether every lane of the mask with which thread t waits has come to the same warp barrier.
static bool warp_is_complete(unsigned t, unsigned threads) {
    const Fiber& one = fibers[t];
    for (unsigned lane = 0; lane < WARP; ++lane) {
        unsigned u = t / WARP * WARP + lane;
        bool comes = u < threads && fibers[u].state == AT_WARP_BARRIER && fibers[u].mask == one.mask &&
                     fibers[u].line == one.line;
        if (one.mask >> lane & 1 ? !comes : u == t) return false;  // or the thread is not in its own mask
    }
    return true;
}

// Opens all that are complete, or those of some of the warps.
static bool open_warp_barriers(unsigned threads) {
    bool complete = false, opened = false, held = false;
    do {
        for (unsigned t = 0; t < threads; ++t) {
            if (t % WARP == 0) held = shuffle_state && random_number() % 2;
            if (fibers[t].state != AT_WARP_BARRIER || (held && complete) || !warp_is_complete(t, threads)) continue;
            complete = true;
            if (held) continue;
            for (unsigned lane = 0; lane < WARP; ++lane)
                if (fibers[t].mask >> lane & 1) fibers[t / WARP * WARP + lane].state = READY;
            opened = true;
        }
    } while (complete && !opened);
    return opened;
}

static bool open_block_barrier(unsigned threads) {
    for (unsigned t = 0; t < threads; ++t)
        if (fibers[t].state != AT_BLOCK_BARRIER || fibers[t].line != fibers[0].line) return false;
    for (unsigned t = 0; t < threads; ++t) fibers[t].state = READY;
    return true;
}

// ---- what went wrong ------------------------------------------------------------------------------------------------
static char failure[512];  // "" while nothing has
static size_t failure_length;

static void tell(const char* format, ...) {
    va_list values;
    va_start(values, format);
    failure_length += vsnprintf(failure + failure_length, sizeof(failure) - failure_length, format, values);
    va_end(values);
    if (failure_length >= sizeof(failure)) failure_length = sizeof(failure) - 1;  // it was cut
}

// "block (0, 0, 0): thread 0 and 7 more at the block barrier of line 12; thread 8 and 23 more returned"
static void tell_deadlock(unsigned threads) {
    tell("block (%u, %u, %u)", blockIdx.x, blockIdx.y, blockIdx.z);
    bool told[MAX_THREADS] = {};
    for (unsigned t = 0; t < threads; ++t) {
        if (told[t]) continue;
        unsigned others = 0;
        for (unsigned u = t + 1; u < threads; ++u)
            if (fibers[u].state == fibers[t].state && fibers[u].line == fibers[t].line) told[u] = true, ++others;
        tell("%s thread %u", t ? ";" : ":", t);
        if (others) tell(" and %u more", others);
        if (fibers[t].state == AT_BLOCK_BARRIER) tell(" at the block barrier of line %d", fibers[t].line);
        if (fibers[t].state == AT_WARP_BARRIER) tell(" at the warp barrier of line %d", fibers[t].line);
        if (fibers[t].state == RETURNED) tell(" returned");
    }
}

// ---- the scheduler --------------------------------------------------------------------------------------------------
static char* dynamic_shared;    // the launch's shared memory
static size_t dynamic_shared_size;

static void begin_block();  // emulated.h: as a block finds its memory

static bool run_block(unsigned threads) {
    static unsigned order[MAX_THREADS];
    for (unsigned t = 0; t < threads; ++t) {
        order[t] = t;
        fibers[t].state = READY;
        fibers[t].turn = 0;
    }
    begin_block();
    for (;;) {
        shuffle(order, threads);
        for (unsigned i = 0; i < threads; ++i)
            if (fibers[order[i]].state == READY) resume(&fibers[order[i]]);
        bool all_returned = true;
        for (unsigned t = 0; t < threads; ++t)
            if (fibers[t].state != RETURNED) all_returned = false;
        if (all_returned) return true;
        if (open_warp_barriers(threads) || open_block_barrier(threads)) continue;
        tell_deadlock(threads);
        return false;
    }
}

// Runs blocks `first` to before `last` of a kernel's grid and returns "", or what went wrong. Python calls it through ctypes.
// entry takes a pointer to each argument; `shared` is the launch's bytes of shared memory beside the kernel's own;
// `stacks` has MAX_THREADS times STACK bytes, which all libraries share: one launch is over before the next begins;
// seed 0 runs blocks, and threads between barriers, in order, another shuffles them, all blocks of the grid before it takes
// those.
extern "C" __attribute__((visibility("default"))) const char* emulated_launch(
    void (*entry)(void**), void** arguments, const unsigned* grid, const unsigned* block, size_t shared, char* stacks,
    uint64_t seed, size_t first, size_t last) {
    kernel = entry;
    kernel_arguments = arguments;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    shuffle_state = seed * 0x9e3779b97f4a7c15;  // spreads the bits of a small seed
    failure_length = 0;
    failure[0] = 0;

    const unsigned threads = block[0] * block[1] * block[2];
    for (unsigned t = 0; t < threads; ++t) prepare(&fibers[t], t, stacks);

    const size_t blocks = (size_t)grid[0] * grid[1] * grid[2];
    unsigned* order = (unsigned*)malloc(blocks * sizeof(unsigned));
    if (!order) return "no memory for the order of the blocks";
    dynamic_shared = (char*)malloc(shared);  // of just this size, for the sanitizer to put a red zone behind
    dynamic_shared_size = shared;
    if (shared && !dynamic_shared) return "no memory for the shared memory";
    for (size_t b = 0; b < blocks; ++b) order[b] = b;
    shuffle(order, blocks);
    bool interrupted = false;
    for (size_t b = first; b < last && !interrupted; ++b) {
        blockIdx = place(order[b], gridDim);
        interrupted = !run_block(threads);
    }
    if (interrupted)  // threads stopped in the middle of the kernel, and left what the sanitizer notes on a stack
        for (unsigned t = 0; t < threads; ++t) __asan_unpoison_memory_region(fibers[t].stack, STACK);
    free(order);
    free(dynamic_shared);
    return failure;
}
