// How weights that are packed for the inner loops lie.
#pragma once

#include <cstdint>

namespace tsp3d {

constexpr int64_t kPanel = 32;  // output channels of a panel of weights

}  // namespace tsp3d
