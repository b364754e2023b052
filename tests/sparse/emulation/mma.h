// Tensor cores on the CPU, for tests: the first thread of a warp holds whole fragments, the others none.
#pragma once

#include <type_traits>

#include "cuda_runtime.h"

namespace nvcuda::wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32 {};
}  // namespace precision

inline bool first_of_warp() { return threadIdx.x % 32 == 0; }

template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
  static constexpr int kRows = std::is_same_v<Use, matrix_b> ? K : M, kColumns = std::is_same_v<Use, matrix_a> ? K : N;
  static constexpr int num_elements = kRows * kColumns;
  using Number = std::conditional_t<std::is_same_v<T, precision::tf32>, float, T>;
  Number x[num_elements];
};

// A multiply-add of numbers that were not rounded would go unnoticed, so the last bits are cut off.
inline float __float_to_tf32(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits = (bits + 0x1000) & 0xFFFFE000;
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

template <class F>
void fill_fragment(F& f, float value) {
  for (auto& x : f.x) x = value;
}

// What the hardware asks of addresses and strides: 32 bytes, and multiples of 16 bytes.
template <class T>
void check_place(const T* from, unsigned stride) {
  if (reinterpret_cast<uintptr_t>(from) % 32 || stride * sizeof(T) % 16) std::abort();
}

template <class Use, int M, int N, int K, class T, class Layout, class S>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& f, const S* from, unsigned stride) {
  check_place(from, stride);
  if (!first_of_warp()) return;
  for (int r = 0; r < f.kRows; ++r)
    for (int c = 0; c < f.kColumns; ++c)
      f.x[r * f.kColumns + c] = std::is_same_v<Layout, row_major> ? from[r * stride + c] : from[c * stride + r];
}

template <int M, int N, int K, class T, class LA, class LB>
void mma_sync(fragment<accumulator, M, N, K, float>& d, const fragment<matrix_a, M, N, K, T, LA>& a,
              const fragment<matrix_b, M, N, K, T, LB>& b, const fragment<accumulator, M, N, K, float>& c) {
  if (!first_of_warp()) return;
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < N; ++j) {
      float sum = c.x[i * N + j];
      for (int k = 0; k < K; ++k) sum += static_cast<float>(a.x[i * K + k]) * static_cast<float>(b.x[k * N + j]);
      d.x[i * N + j] = sum;
    }
}

template <int M, int N, int K>
void store_matrix_sync(float* to, const fragment<accumulator, M, N, K, float>& f, unsigned stride, layout_t) {
  check_place(to, stride);
  if (!first_of_warp()) return;
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < N; ++j) to[i * stride + j] = f.x[i * N + j];
}

}  // namespace nvcuda::wmma
