// What surrounds every CUDA kernel: device and stream of a tensor, checked launches, memory, reading numbers back.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>

#include <array>

#include "tensor.h"

// Defined by libtorch_cuda. The header of torch that declares it hides it where torch is built without CUDA.
extern "C" AOTI_TORCH_EXPORT AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

namespace tsp3d {

inline void check(cudaError_t error) {
  if (error != cudaSuccess) cudaGetLastError();  // forget it: CUB would take it for its own next launch's
  STD_TORCH_CHECK(error != cudaErrorNoKernelImageForDevice,
                  "tsp3d: the CUDA library was built for " TSP3D_CUDA_ARCHITECTURES
                  ", not for this GPU; build it again with its compute capability in TSP3D_CUDA_ARCHS");
  STD_TORCH_CHECK(error == cudaSuccess, "tsp3d: CUDA says: ", cudaGetErrorString(error));
}

// A kernel that was given an address of another device would end the whole process's use of the GPU.
template <class... Others>
void check_devices(const Tensor& t, const Others&... others) {
  const bool alike =
      ((others.is_cuda() == t.is_cuda() && others.get_device_index() == t.get_device_index()) && ... && true);
  STD_TORCH_CHECK(alike, "tsp3d: all tensors of an operator must be on one device");
}

// Makes the device of a tensor, and of others with it, the current one, and is the stream that torch works on there.
class Stream {
 public:
  template <class... Others>
  explicit Stream(const Tensor& t, const Others&... others) : guard_(t.get_device_index()) {
    check_devices(t, others...);
    void* stream = nullptr;
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream) == 0,
                    "tsp3d: torch has no CUDA stream on device ", t.get_device_index());
    stream_ = static_cast<cudaStream_t>(stream);
  }
  operator cudaStream_t() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

// Nothing is launched where the grid is empty, which CUDA would call an error.
template <class... Parameters, class... Arguments>
void launch(const Stream& stream, void (*kernel)(Parameters...), dim3 grid, int threads, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

constexpr int kThreads = 256;

inline int64_t blocks_for(int64_t count, int64_t per_block) { return (count + per_block - 1) / per_block; }

template <class F>
__global__ void __launch_bounds__(kThreads) each_kernel(F f, int64_t count) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) f(i);
}

// f(i) for i in 0..count-1, each by one thread.
template <class F>
void for_each(const Stream& stream, int64_t count, F f) {
  const int64_t blocks = blocks_for(count, kThreads), most = 1 << 20;
  launch(stream, each_kernel<F>, dim3(static_cast<unsigned>(blocks < most ? blocks : most)), kThreads, f, count);
}

inline void set_bytes(const Stream& stream, Tensor& t, int value, size_t bytes) {
  if (bytes) check(cudaMemsetAsync(t.mutable_data_ptr(), value, bytes, stream));
}

template <class T>
Tensor device_zeros(const Stream& stream, const Tensor& like, std::initializer_list<int64_t> shape) {
  Tensor t = make<T>(like, shape);
  set_bytes(stream, t, 0, static_cast<size_t>(t.numel()) * sizeof(T));
  return t;
}

// A new tensor of integers that are all -1.
template <class T>
Tensor device_absent(const Stream& stream, const Tensor& like, std::initializer_list<int64_t> shape) {
  Tensor t = make<T>(like, shape);
  set_bytes(stream, t, 0xFF, static_cast<size_t>(t.numel()) * sizeof(T));
  return t;
}

// Numbers that the device has made, as soon as it has. This waits for the stream: once per operator, for sizes.
template <size_t N, class T>
std::array<T, N> read_back(const Stream& stream, const T* source) {
  std::array<T, N> result;
  check(cudaMemcpyAsync(result.data(), source, sizeof(result), cudaMemcpyDeviceToHost, stream));
  check(cudaStreamSynchronize(stream));
  return result;
}

// First p in low..high with values[p] >= wanted, or high.
template <class T>
__device__ inline int64_t lower_bound(const T* values, int64_t low, int64_t high, int64_t wanted) {
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (static_cast<int64_t>(values[middle]) < wanted)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

}  // namespace tsp3d
