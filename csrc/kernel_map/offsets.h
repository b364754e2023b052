// The order of kernel offsets: x fastest, then y, then z; odd sizes are centred, even sizes start at 0.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <vector>

namespace tsp3d {

struct KernelShape {
  int64_t size[3], first[3], last[3];  // x, y, z; first and last offset in voxels
  int64_t step, volume;

  KernelShape(const std::vector<int64_t>& kernel_size, int64_t step_) : step(step_), volume(1) {
    STD_TORCH_CHECK(kernel_size.size() == 3, "tsp3d: kernel_size must hold x, y, z, got ", kernel_size.size(), " numbers");
    STD_TORCH_CHECK(step >= 1, "tsp3d: step must be positive, got ", step);
    for (int a = 0; a < 3; ++a) {
      size[a] = kernel_size[a];
      STD_TORCH_CHECK(size[a] >= 1, "tsp3d: kernel_size must be positive, got ", size[a]);
      first[a] = size[a] % 2 ? -step * (size[a] / 2) : 0;
      last[a] = first[a] + step * (size[a] - 1);
      volume *= size[a];
    }
  }
  int64_t index(int64_t i, int64_t j, int64_t k) const { return i + size[0] * (j + size[1] * k); }
  bool symmetric() const { return size[0] % 2 && size[1] % 2 && size[2] % 2; }
};

}  // namespace tsp3d
