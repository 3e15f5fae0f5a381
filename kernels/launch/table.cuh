// table.cuh: several arrays, or numbers, as one parameter of a kernel      (kernels/launch/signature.py)
//
// They travel with the launch, as every number does. No table has to be copied to the GPU before it, and a launch that is
// captured in a graph keeps its own. A kernel that hands one on to a function says `const __grid_constant__ Table<..>`, so
// that it is read where it is: every thread would make a copy of its own first.

template <class T>
struct Table {
    T row[32];  // at most 32 are given; the rest are 0
};
