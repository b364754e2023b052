#include "coords.cuh"

namespace tsp3d {
namespace {

constexpr int kBlocks = 256;

// Threads walk the rows, a block joins its threads' bounds, and blocks join theirs by atomics: the lowest and highest
// number do not depend on the order.
__global__ void __launch_bounds__(kThreads) bounds_kernel(const int32_t* coords, int64_t rows, long long* bounds) {
  __shared__ long long best[kThreads];
  for (int axis = 0; axis < 4; ++axis)
    for (int side = 0; side < 2; ++side) {
      const int own = threadIdx.x;
      long long value = side ? INT64_MIN : INT64_MAX;
      for (int64_t i = int64_t{blockIdx.x} * kThreads + own; i < rows; i += int64_t{gridDim.x} * kThreads) {
        const long long c = coords[4 * i + axis];
        if (side ? c > value : c < value) value = c;
      }
      best[own] = value;
      __syncthreads();
      for (int half = kThreads / 2; half > 0; half /= 2) {
        if (own < half) {
          const long long other = best[own + half];
          if (side ? other > best[own] : other < best[own]) best[own] = other;
        }
        __syncthreads();
      }
      if (own == 0 && side) atomicMax(bounds + 4 + axis, best[0]);
      if (own == 0 && !side) atomicMin(bounds + axis, best[0]);
      __syncthreads();
    }
}

}  // namespace

Tensor device_bounds(const Stream& stream, const Tensor& coords) {
  const int64_t rows = coords.size(0);
  Tensor bounds = make<int64_t>(coords, {8});
  int64_t* b = mutable_data<int64_t>(bounds);
  for_each(stream, 8, [=] __device__(int64_t i) { b[i] = i < 4 ? INT64_MAX : INT64_MIN; });
  const int64_t blocks = std::min<int64_t>(blocks_for(rows, kThreads), kBlocks);
  launch(stream, bounds_kernel, dim3(static_cast<unsigned>(blocks)), kThreads, data<int32_t>(coords), rows,
         reinterpret_cast<long long*>(b));
  return bounds;
}

}  // namespace tsp3d
