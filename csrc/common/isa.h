// Which instruction set the inner loops use; common/each_isa.inc compiles them for every one.
#pragma once

namespace tsp3d {

enum class Isa { baseline, avx2, avx512 };

// The best of this processor, or a lower one that TSP3D_CPU_ISA ("avx2", "baseline") asks for.
Isa isa();

// Its name: "avx512", "avx2" or "baseline".
const char* cpu_isa();

}  // namespace tsp3d
