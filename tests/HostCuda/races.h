// The calls by which the host CUDA tells the race detector what orders memory accesses. The accesses themselves need no calls: g++ puts a call of an
// entry point of ThreadSanitizer before each one, and races.cpp has those in its place. Without the detector all these functions do nothing.
#pragma once
#include <cstddef>
#include <cstdint>

namespace tillerhost::races
{
#if defined(TILLER_HOST_CUDA_RACES)

void serialize();                                                   // all that follows begins after all that came before has ended
void launchBegins(bool dependent, const void* shared, std::size_t sharedBytes);
void launchEnds();                                                  // all blocks have ended
void blockBegins();
void threadWaits(unsigned thread);                                  // a thread has waited for the kernel before this one
void barrier();                                                     // of all threads of the block that have not ended
void warpBarrier(unsigned warp);                                    // of all lanes of a warp that have not ended
void fence(unsigned thread);
void counted(unsigned thread, const void* counter);                 // a thread counted in an atomic operation
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
