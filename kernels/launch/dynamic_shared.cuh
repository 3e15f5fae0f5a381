// dynamic_shared.cuh: shared memory whose size the launch says
//
// DYNAMIC_SHARED(Type, name): `name` points to as many of Type as the launch has bytes for.
#ifdef EMULATED
#define DYNAMIC_SHARED(Type, name) Type* const name = (Type*)dynamic_shared
#else
extern __shared__ __align__(16) unsigned char dynamic_shared[];
#define DYNAMIC_SHARED(Type, name) Type* const name = reinterpret_cast<Type*>(dynamic_shared)
#endif
