// Tensors through LibTorch's stable ABI, and the checks and allocations that every operator needs.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <vector>

namespace tsp3d {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class T>
constexpr ScalarType scalar_type();
template <>
constexpr ScalarType scalar_type<float>() { return ScalarType::Float; }
template <>
constexpr ScalarType scalar_type<double>() { return ScalarType::Double; }
template <>
constexpr ScalarType scalar_type<int32_t>() { return ScalarType::Int; }
template <>
constexpr ScalarType scalar_type<int64_t>() { return ScalarType::Long; }
template <>
constexpr ScalarType scalar_type<bool>() { return ScalarType::Bool; }

// A new tensor of the given shape on the device of `like`; its contents are undefined.
template <class T>
Tensor make(const Tensor& like, std::initializer_list<int64_t> shape) {
  const std::vector<int64_t> sizes(shape);
  return torch::stable::new_empty(like, {sizes.data(), sizes.size()}, scalar_type<T>());
}

// Row-major copy where needed, with the dtype checked.
template <class T>
Tensor dense(const Tensor& t, const char* name) {
  STD_TORCH_CHECK(t.scalar_type() == scalar_type<T>(), "tsp3d: ", name, " has dtype number ",
                  static_cast<int>(t.scalar_type()), ", this operator takes number ",
                  static_cast<int>(scalar_type<T>()), " (torch/headeronly/core/ScalarType.h)");
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

inline Tensor dense_coords(const Tensor& t, const char* name) {
  STD_TORCH_CHECK(t.dim() == 2 && t.size(1) == 4, "tsp3d: ", name, " must be (N, 4) [batch, x, y, z]");
  return dense<int32_t>(t, name);
}

template <class T>
const T* data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}

template <class T>
T* mutable_data(Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

template <class T>
Tensor zeros(const Tensor& like, std::initializer_list<int64_t> shape) {
  Tensor t = make<T>(like, shape);
  std::memset(t.mutable_data_ptr(), 0, static_cast<size_t>(t.numel()) * sizeof(T));
  return t;
}

// Calls f(float{}) or f(double{}) by the dtype of t.
template <class F>
auto dispatch_real(const Tensor& t, const char* op, F&& f) {
  const ScalarType type = t.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, "tsp3d: ", op,
                  " takes float32 or float64 features; convert with .float()");
  return type == ScalarType::Float ? f(float{}) : f(double{});
}

}  // namespace tsp3d
