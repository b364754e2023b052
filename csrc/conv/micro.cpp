#include "micro.h"

#include <cstdlib>
#include <cstring>

#include "op.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define TSP3D_X86 1
#endif

// Rows x 2 accumulators, 2 vectors of weights and one broadcast value fit the registers: 16 of them, 32 with AVX-512.

namespace tsp3d {
namespace baseline {
#define TSP3D_VECTOR_BYTES 16
#define TSP3D_CONV_ROWS 6
#define TSP3D_OUTER_ROWS 6
#include "micro.inc"
}  // namespace baseline

#ifdef TSP3D_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define TSP3D_VECTOR_BYTES 32
#define TSP3D_CONV_ROWS 6
#define TSP3D_OUTER_ROWS 6
#include "micro.inc"
}  // namespace avx2
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw")
#endif
namespace avx512 {
#define TSP3D_VECTOR_BYTES 64
#define TSP3D_CONV_ROWS 12
#define TSP3D_OUTER_ROWS 12
#include "micro.inc"
}  // namespace avx512
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // TSP3D_X86

namespace {

enum class Isa { baseline, avx2, avx512 };

Isa detect() {
  Isa best = Isa::baseline;
#ifdef TSP3D_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = Isa::avx2;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw"))
    best = Isa::avx512;
#endif
  const char* wanted = std::getenv("TSP3D_CPU_ISA");
  if (wanted && !std::strcmp(wanted, "avx2") && best == Isa::avx512) best = Isa::avx2;
  if (wanted && !std::strcmp(wanted, "baseline")) best = Isa::baseline;
  return best;
}

Isa isa() {
  static const Isa found = detect();
  return found;
}

}  // namespace

template <class T>
const Micro<T>& micro() {
#ifdef TSP3D_X86
  if (isa() == Isa::avx512) return avx512::table<T>;
  if (isa() == Isa::avx2) return avx2::table<T>;
#endif
  return baseline::table<T>;
}

template const Micro<float>& micro<float>();
template const Micro<double>& micro<double>();

const char* cpu_isa() {
  switch (isa()) {
    case Isa::avx512: return "avx512";
    case Isa::avx2: return "avx2";
    default: return "baseline";
  }
}

}  // namespace tsp3d
