// Shares of the offsets of a kernel map.
#pragma once

#include <cstdint>

namespace tsp3d {

#ifdef __CUDACC__
__host__ __device__
#endif
// First offset of a share; its last one comes before the first of the next.
constexpr int64_t share_begin(int64_t volume, int64_t share, int64_t shares) { return volume * share / shares; }

constexpr int64_t kMaskBits = 48;  // offsets of a share that its rows are sorted by; further ones are not looked at

}  // namespace tsp3d
