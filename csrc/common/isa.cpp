#include "isa.h"

#include <cstdlib>
#include <cstring>

namespace tsp3d {
namespace {

Isa detect() {
  Isa best = Isa::baseline;
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
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

}  // namespace

Isa isa() {
  static const Isa found = detect();
  return found;
}

const char* cpu_isa() {
  switch (isa()) {
    case Isa::avx512: return "avx512";
    case Isa::avx2: return "avx2";
    default: return "baseline";
  }
}

}  // namespace tsp3d
