#include "bf16.h"

#include <cstdlib>
#include <cstring>

#include "../common/isa.h"
#include "../common/panel.h"

#if defined(__x86_64__) && defined(__has_include)
#if (defined(__clang__) && __clang_major__ >= 9) || (!defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 10)
#define TSP3D_BF16 1
#include <immintrin.h>
#endif
#endif

namespace tsp3d {

void to_bf16(const float* numbers, int64_t rows, int64_t columns, int64_t padded, uint16_t* result) {
  for (int64_t r = 0; r < rows; ++r, numbers += columns, result += padded) {
    for (int64_t c = 0; c < columns; ++c) {
      uint32_t bits;
      std::memcpy(&bits, numbers + c, sizeof bits);
      const bool nan = (bits & 0x7fffffff) > 0x7f800000;
      const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
      result[c] = static_cast<uint16_t>(nan ? (bits >> 16) | 0x40 : rounded);
    }
    for (int64_t c = columns; c < padded; ++c) result[c] = 0;
  }
}

#ifdef TSP3D_BF16

bool has_bf16() {
  static const bool found = [] {
    __builtin_cpu_init();
    return isa() == Isa::avx512 && __builtin_cpu_supports("avx512bf16");
  }();
  return found;
}

#define TSP3D_TARGET __attribute__((target("avx512f,avx512bf16")))

namespace {

constexpr int kRows = 12;

template <int Rows, int Vectors>
TSP3D_TARGET void tile(const uint16_t* in, int64_t cin, float* out, int64_t out_stride, const uint16_t* w,
                       const int32_t* in_rows, const int32_t* out_rows, int32_t first_out) {
  const uint16_t* source[Rows];
  __m512 sum[Rows][Vectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    source[r] = in + in_rows[r] * cin;
    const float* target = out + (out_rows[r] - first_out) * out_stride;
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_loadu_ps(target + v * kBf16Lanes);
  }
  for (int64_t c = 0; c < cin; c += 2, w += 2 * kPanel) {
    __m512bh weight[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) weight[v] = (__m512bh)_mm512_loadu_si512(w + v * 2 * kBf16Lanes);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      int32_t pair;
      std::memcpy(&pair, source[r] + c, sizeof pair);
      const __m512bh value = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], weight[v], value);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    float* target = out + (out_rows[r] - first_out) * out_stride;
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) _mm512_storeu_ps(target + v * kBf16Lanes, sum[r][v]);
  }
}

template <int Rows, int Vectors>
TSP3D_TARGET void rest(const uint16_t* in, int64_t cin, float* out, int64_t out_stride, const uint16_t* w,
                       const int32_t* in_rows, const int32_t* out_rows, int64_t count, int32_t first_out) {
  if constexpr (Rows > 0) {
    if (count == Rows)
      tile<Rows, Vectors>(in, cin, out, out_stride, w, in_rows, out_rows, first_out);
    else
      rest<Rows - 1, Vectors>(in, cin, out, out_stride, w, in_rows, out_rows, count, first_out);
  }
}

template <int Vectors>
TSP3D_TARGET void pairs(const uint16_t* in, int64_t cin, float* out, int64_t out_stride, const uint16_t* w,
                        const int32_t* in_rows, const int32_t* out_rows, int64_t count, int32_t first_out) {
  int64_t p = 0;
  for (; p + kRows <= count; p += kRows)
    tile<kRows, Vectors>(in, cin, out, out_stride, w, in_rows + p, out_rows + p, first_out);
  rest<kRows - 1, Vectors>(in, cin, out, out_stride, w, in_rows + p, out_rows + p, count - p, first_out);
}

}  // namespace

void conv_bf16(const uint16_t* in, int64_t cin, float* out, int64_t out_stride, const uint16_t* w, int vectors,
               const int32_t* in_rows, const int32_t* out_rows, int64_t count, int32_t first_out) {
  if (vectors == 2)
    pairs<2>(in, cin, out, out_stride, w, in_rows, out_rows, count, first_out);
  else
    pairs<1>(in, cin, out, out_stride, w, in_rows, out_rows, count, first_out);
}

#else

bool has_bf16() { return false; }

void conv_bf16(const uint16_t*, int64_t, float*, int64_t, const uint16_t*, int, const int32_t*, const int32_t*, int64_t,
               int32_t) {
  std::abort();  // never called where has_bf16() is false
}

#endif

}  // namespace tsp3d
