// Whole multiples of a number.
#pragma once

#include <cstdint>

namespace tsp3d {

inline int64_t ceil_div(int64_t v, int64_t by) { return (v + by - 1) / by; }
inline int64_t round_up(int64_t v, int64_t to) { return (v + to - 1) / to * to; }

}  // namespace tsp3d
