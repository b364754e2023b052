// A convolution with bias, residual and ReLU on the device: a pass of its own over the result.
#include "../common/cuda.cuh"
#include "checks.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace tsp3d {
namespace {

template <class T>
void finish(Tensor& out, const std::optional<Tensor>& bias, const std::optional<Tensor>& residual, bool relu) {
  const Stream stream(out);
  const Tensor b = bias ? torch::stable::contiguous(*bias) : out, r = residual ? torch::stable::contiguous(*residual) : out;
  const T *add = bias ? static_cast<const T*>(b.const_data_ptr()) : nullptr;
  const T *more = residual ? static_cast<const T*>(r.const_data_ptr()) : nullptr;
  T* values = static_cast<T*>(out.mutable_data_ptr());
  using Wide = std::conditional_t<sizeof(T) == 8, double, float>;
  const int64_t cout = out.size(1);
  for_each(stream, out.numel(), [=] __device__(int64_t i) {
    Wide value = static_cast<Wide>(values[i]);
    if (add) value += static_cast<Wide>(add[i % cout]);
    if (more) value += static_cast<Wide>(more[i]);
    values[i] = static_cast<T>(relu && value < Wide(0) ? Wide(0) : value);
  });
}

}  // namespace

Tensor conv_fused(const Tensor& feats, const Tensor& weight, const std::optional<Tensor>& bias,
                  const std::optional<Tensor>& residual, const Tensor& in_rows, const Tensor& out_rows,
                  const Tensor& splits, int64_t num_out, bool relu) {
  check_fused(feats, num_out, weight.size(2), bias, residual);
  if (bias) check_devices(feats, *bias);
  if (residual) check_devices(feats, *residual);
  Tensor out = conv(feats, weight, in_rows, out_rows, splits, num_out);
  switch (out.scalar_type()) {
    case ScalarType::Half: finish<__half>(out, bias, residual, relu); break;
    case ScalarType::BFloat16: finish<__nv_bfloat16>(out, bias, residual, relu); break;
    case ScalarType::Double: finish<double>(out, bias, residual, relu); break;
    default: finish<float>(out, bias, residual, relu);
  }
  return out;
}

}  // namespace tsp3d
