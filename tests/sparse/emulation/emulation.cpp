// The CUDA kernels as one library for the CPU, for tests. The sources that it is made of, all of csrc/**/*.cu but those
// that this file stands for, are in SOURCES, which the test writes.
#include "../../../csrc/common/primitives.h"

#include <algorithm>
#include <numeric>

#include <torch/csrc/stable/library.h>

// Stand-ins for the parts of libtorch that need a GPU; the linker binds our calls to these.
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}
extern "C" AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* guard) {
  static char none;
  *guard = reinterpret_cast<DeviceGuardHandle>(&none);
  return 0;
}
extern "C" AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) { return 0; }

namespace tsp3d {

// Instead of CUB.
void sort_pairs(const Stream&, const Tensor& keys, Tensor& sorted_keys, const Tensor& values, Tensor& sorted_values,
                int bits) {
  const uint64_t mask = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  const int64_t count = keys.size(0), *k = data<int64_t>(keys), *v = data<int64_t>(values);
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) {
    return (static_cast<uint64_t>(k[i]) & mask) < (static_cast<uint64_t>(k[j]) & mask);
  });
  for (int64_t i = 0; i < count; ++i) {
    mutable_data<int64_t>(sorted_keys)[i] = k[order[i]];
    mutable_data<int64_t>(sorted_values)[i] = v[order[i]];
  }
}

void exclusive_sum(const Stream&, const Tensor& values, Tensor& sums) {
  int64_t sum = 0;
  for (int64_t i = 0; i < values.size(0); ++i) {
    const int64_t value = data<int64_t>(values)[i];
    mutable_data<int64_t>(sums)[i] = sum;
    sum += value;
  }
}

}  // namespace tsp3d

#define CUDA CPU  // the dispatch key in register_cuda.cu
#include SOURCES
