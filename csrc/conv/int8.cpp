#include "int8.h"

#include <cstring>
#include <type_traits>

#include "../common/isa.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define TSP3D_VNNI 1
#include <immintrin.h>
// GCC would put all products first and the additions last, which takes more registers than there are.
#define TSP3D_KEEP_ORDER(vector) asm volatile("" : "+v"(vector))
#else
#define TSP3D_KEEP_ORDER(vector)
#endif

namespace tsp3d {

#define TSP3D_ISA_SOURCE "../conv/int8.inc"
#include "../common/each_isa.inc"

#ifdef TSP3D_VNNI

// Four products of bytes added up in one instruction (AVX-512 VNNI): features without sign, weights with one.
#define TSP3D_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

namespace {

constexpr int kVnniRows = 12;

template <int Rows, int Vectors>
TSP3D_TARGET void tile(const uint8_t* in, int64_t depths, int32_t* out, int64_t out_stride, const int8_t* w,
                       int64_t w_stride, const int32_t* start, const int32_t* in_rows, const int32_t* out_rows,
                       int32_t first_out) {
  const uint8_t* source[Rows];
  __m512i sum[Rows][Vectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    source[r] = in + in_rows[r] * depths * kInt8Depth;
    const int32_t* target = out + (out_rows[r] - first_out) * out_stride;
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v)
      sum[r][v] = _mm512_add_epi32(_mm512_loadu_si512(target + v * kInt8Lanes), _mm512_loadu_si512(start + v * kInt8Lanes));
  }
  for (int64_t d = 0; d < depths; ++d, w += w_stride) {
    __m512i weight[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) weight[v] = _mm512_loadu_si512(w + v * 4 * kInt8Lanes);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      int32_t four;
      std::memcpy(&four, source[r] + d * kInt8Depth, sizeof four);
      const __m512i value = _mm512_set1_epi32(four);
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], value, weight[v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    int32_t* target = out + (out_rows[r] - first_out) * out_stride;
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) _mm512_storeu_si512(target + v * kInt8Lanes, sum[r][v]);
  }
}

template <int Rows, int Vectors>
TSP3D_TARGET void pairs(const uint8_t* in, int64_t depths, int32_t* out, int64_t out_stride, const int8_t* w,
                        int64_t w_stride, const int32_t* start, const int32_t* in_rows, const int32_t* out_rows,
                        int64_t count, int32_t first_out) {
  if constexpr (Rows > 0) {
    for (; count >= Rows; count -= Rows, in_rows += Rows, out_rows += Rows)
      tile<Rows, Vectors>(in, depths, out, out_stride, w, w_stride, start, in_rows, out_rows, first_out);
    if (count > 0)
      pairs<Rows - 1, Vectors>(in, depths, out, out_stride, w, w_stride, start, in_rows, out_rows, count, first_out);
  }
}

void conv_vnni(const void* in, int64_t depths, int32_t* out, int64_t out_stride, const int8_t* w, int64_t w_stride,
               int vectors, const int32_t* start, const int32_t* in_rows, const int32_t* out_rows, int64_t count,
               int32_t first_out) {
  (vectors == 2 ? pairs<kVnniRows, 2> : pairs<kVnniRows, 1>)(static_cast<const uint8_t*>(in), depths, out, out_stride, w,
                                                             w_stride, start, in_rows, out_rows, count, first_out);
}

const MicroInt8 table_vnni = {kInt8Lanes, 1, &avx512::quantise<uint8_t>, &conv_vnni, &avx512::finish};

bool has_vnni() {
  __builtin_cpu_init();
  return isa() == Isa::avx512 && __builtin_cpu_supports("avx512vnni");
}

}  // namespace

const MicroInt8& micro_int8() {
  static const MicroInt8& found = has_vnni() ? table_vnni : TSP3D_FOR_ISA(table_int8);
  return found;
}

#else

const MicroInt8& micro_int8() { return TSP3D_FOR_ISA(table_int8); }

#endif

}  // namespace tsp3d
