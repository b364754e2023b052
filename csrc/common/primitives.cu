#include "primitives.h"

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

namespace tsp3d {
namespace {

// CUB says how much memory it wants when called without any, and works when called with it.
template <class Call>
void with_memory(const Tensor& like, Call call) {
  size_t bytes = 0;
  check(call(nullptr, bytes));
  Tensor memory = make<int64_t>(like, {static_cast<int64_t>(bytes / sizeof(int64_t)) + 1});
  check(call(memory.mutable_data_ptr(), bytes));
}

}  // namespace

void sort_pairs(const Stream& stream, const Tensor& keys, Tensor& sorted_keys, const Tensor& values,
                Tensor& sorted_values, int bits) {
  const int64_t count = keys.size(0);
  if (count == 0) return;
  const auto* from = reinterpret_cast<const uint64_t*>(data<int64_t>(keys));
  auto* to = reinterpret_cast<uint64_t*>(mutable_data<int64_t>(sorted_keys));
  const int64_t* v = data<int64_t>(values);
  int64_t* sorted_v = mutable_data<int64_t>(sorted_values);
  const cudaStream_t on = stream;
  with_memory(keys, [&](void* memory, size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(memory, bytes, from, to, v, sorted_v, count, 0, bits, on);
  });
}

void exclusive_sum(const Stream& stream, const Tensor& values, Tensor& sums) {
  const int64_t count = values.size(0);
  if (count == 0) return;
  const int64_t* from = data<int64_t>(values);
  int64_t* to = mutable_data<int64_t>(sums);
  const cudaStream_t on = stream;
  with_memory(values, [&](void* memory, size_t& bytes) {
    return cub::DeviceScan::ExclusiveSum(memory, bytes, from, to, count, on);
  });
}

}  // namespace tsp3d
