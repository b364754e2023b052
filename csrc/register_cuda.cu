// The CUDA kernels.
#include "register.h"

STABLE_TORCH_LIBRARY_IMPL(tsp3d, CUDA, m) { tsp3d::implement_operators(m); }

// "key=value;..." for `python -m tsp3d.info`, read with ctypes.
extern "C" __attribute__((visibility("default"))) const char* tsp3d_build_info() {
  return "compiler=nvcc " TSP3D_NVCC_VERSION ";torch=" TSP3D_BUILT_WITH_TORCH
         ";torch_at_least=2.10;architectures=" TSP3D_CUDA_ARCHITECTURES;
}
