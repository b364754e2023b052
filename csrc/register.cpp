// The CPU kernels.
#include <string>

#include "attention_layer/op.h"
#include "common/isa.h"
#include "linear/op.h"
#include "mean_mlp/op.h"
#include "top_mask/op.h"
#include "register.h"

STABLE_TORCH_LIBRARY_IMPL(tsp3d, CPU, m) {
  tsp3d::implement_operators(m);
  // ops.CPU_ALONE
  m.impl("attention_layer", TORCH_BOX(&tsp3d::attention_layer));
  m.impl("conv_fused", TORCH_BOX(&tsp3d::conv_fused));
  m.impl("conv_int8", TORCH_BOX(&tsp3d::conv_int8));
  m.impl("linear", TORCH_BOX(&tsp3d::linear));
  m.impl("mean_mlp", TORCH_BOX(&tsp3d::mean_mlp));
  m.impl("top_mask", TORCH_BOX(&tsp3d::top_mask));
}

// "key=value;..." for `python -m tsp3d.info`, read with ctypes.
extern "C" __attribute__((visibility("default"))) const char* tsp3d_build_info() {
#ifdef _OPENMP
  const char* openmp = "yes";
#else
  const char* openmp = "no";
#endif
  static const std::string info = std::string("compiler=") + __VERSION__ + ";torch=" TSP3D_BUILT_WITH_TORCH +
                                  ";torch_at_least=2.10;openmp=" + openmp + ";instruction_set=" + tsp3d::cpu_isa();
  return info.c_str();
}
