// The race detector's side of the host CUDA. The kernels' accesses come by themselves: g++ puts calls of ThreadSanitizer's entry points before each
// one, and races.cpp answers them in ThreadSanitizer's place. What orders accesses is told here. Without the detector all of it is nothing.
#pragma once
#include <cstddef>
#include <cstdint>

namespace tillerhost::races
{
#if defined(TILLER_HOST_CUDA_RACES)

void serialize();                                                   // what follows begins when everything before has ended
void launchBegins(bool dependent, const void* shared, std::size_t sharedBytes);
void launchEnds();                                                  // all of its blocks have
void blockBegins();
void threadWaits(unsigned thread);                                  // for the kernel before this one
void barrier();                                                     // of all of the block's living threads
void warpBarrier(unsigned warp);                                    // of all of a warp's living lanes
void fence(unsigned thread);
void counted(unsigned thread, const void* counter);                 // by an atomic operation
void copied(unsigned thread, const void* to, const void* from, std::size_t bytes, bool landed);
void forget(std::uint64_t first, std::size_t bytes);                // memory that was allocated or freed

#else

inline void serialize() {}
inline void launchBegins(bool, const void*, std::size_t) {}
inline void launchEnds() {}
inline void blockBegins() {}
inline void threadWaits(unsigned) {}
inline void barrier() {}
inline void warpBarrier(unsigned) {}
inline void fence(unsigned) {}
inline void counted(unsigned, const void*) {}
inline void copied(unsigned, const void*, const void*, std::size_t, bool) {}
inline void forget(std::uint64_t, std::size_t) {}

#endif
}
