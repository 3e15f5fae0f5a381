// counted.h: what the threads of a block do, an instruction of PTX at a time: how often, and where in memory
//
// Before each instruction ptx.py writes ISSUED("its name"), which means something here alone. Those that go to memory ask()
// then, each thread for itself. What the lanes of a warp ask for the same number of times belongs to one request of the
// warp, as on a GPU, where they ask at once. Python reads it all through ctypes (counted.py).

struct Request {
    uint64_t addresses[WARP];  // of each lane; NOBODY's where it asks for nothing
};
static const uint64_t NOBODY = ~0ull;

struct Instruction {
    const char* name;
    unsigned times[MAX_THREADS];       // that each thread has come to it
    unsigned bytes[2];                 // that a lane asks for, in each space
    std::vector<Request> requests[2];  // number (turn, warp) of the block
};
static std::vector<Instruction*> instructions;  // that some thread has come to
static Instruction* issued;                     // by the thread that runs

static Instruction* known(const char* name) {
    instructions.push_back(new Instruction{name});
    return instructions.back();
}
#define ISSUED(NAME) \
    { \
        static Instruction* const here = known(NAME); \
        ++here->times[current->number]; \
        issued = here; \
    }

static void ask(Space space, uint64_t address, unsigned bytes) {
    const unsigned warps = (blockDim.x * blockDim.y * blockDim.z + WARP - 1) / WARP;
    const size_t number = (issued->times[current->number] - 1) * warps + current->number / WARP;
    std::vector<Request>& requests = issued->requests[space];
    if (requests.size() <= number) {
        Request nobodys;
        for (uint64_t& each : nobodys.addresses) each = NOBODY;
        requests.resize(number + 1, nobodys);
    }
    issued->bytes[space] = bytes;
    requests[number].addresses[lane()] = address;
}

// ---- for Python -----------------------------------------------------------------------------------------------------
struct Counted {
    const char* name;
    uint64_t times;  // that warps have come to it: each as often as the lane that came most often
    uint64_t bytes[2], count[2];
    const Request* requests[2];
};

// Tells of instruction i, if there is one, and returns how many there are.
extern "C" __attribute__((visibility("default"))) size_t counted(size_t i, Counted* told) {
    if (i < instructions.size()) {
        const Instruction& of = *instructions[i];
        *told = {of.name, 0, {of.bytes[0], of.bytes[1]}, {of.requests[0].size(), of.requests[1].size()},
                 {of.requests[0].data(), of.requests[1].data()}};
        for (unsigned t = 0; t < MAX_THREADS; t += WARP) {
            unsigned most = 0;
            for (unsigned u = t; u < t + WARP; ++u) most = max(most, of.times[u]);
            told->times += most;
        }
    }
    return instructions.size();
}

// Before another launch.
extern "C" __attribute__((visibility("default"))) void forget_counted() {
    for (Instruction* each : instructions) *each = Instruction{each->name};
}
