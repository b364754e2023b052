// The CUDA kernels under the names whose schemas tsp3d/sparse/ops.py defines.
#include <torch/csrc/stable/library.h>

#include "boxes/op.h"
#include "conv/op.h"
#include "dilate_coords/op.h"
#include "filter_map/op.h"
#include "interpolate/op.h"
#include "kernel_map/op.h"
#include "lookup/op.h"
#include "merge_coords/op.h"
#include "pool/op.h"
#include "replicate_map/op.h"
#include "unique_coords/op.h"

STABLE_TORCH_LIBRARY_IMPL(tsp3d, CUDA, m) {
  m.impl("box_iou_3d", TORCH_BOX(&tsp3d::box_iou_3d));
  m.impl("conv", TORCH_BOX(&tsp3d::conv));
  m.impl("conv_weight_grad", TORCH_BOX(&tsp3d::conv_weight_grad));
  m.impl("dilate_coords", TORCH_BOX(&tsp3d::dilate_coords));
  m.impl("filter_map", TORCH_BOX(&tsp3d::filter_map));
  m.impl("interpolate", TORCH_BOX(&tsp3d::interpolate));
  m.impl("interpolation_weights", TORCH_BOX(&tsp3d::interpolation_weights));
  m.impl("is_coordinate_set", TORCH_BOX(&tsp3d::is_coordinate_set));
  m.impl("kernel_map", TORCH_BOX(&tsp3d::kernel_map));
  m.impl("lookup", TORCH_BOX(&tsp3d::lookup));
  m.impl("max_pool", TORCH_BOX(&tsp3d::max_pool));
  m.impl("max_pool_grad", TORCH_BOX(&tsp3d::max_pool_grad));
  m.impl("merge_coords", TORCH_BOX(&tsp3d::merge_coords));
  m.impl("merge_feats", TORCH_BOX(&tsp3d::merge_feats));
  m.impl("nms_3d", TORCH_BOX(&tsp3d::nms_3d));
  m.impl("replicate_map", TORCH_BOX(&tsp3d::replicate_map));
  m.impl("splat", TORCH_BOX(&tsp3d::splat));
  m.impl("sum_pool", TORCH_BOX(&tsp3d::sum_pool));
  m.impl("unique_coords", TORCH_BOX(&tsp3d::unique_coords));
}

// "key=value;..." for `python -m tsp3d.info`, read with ctypes.
extern "C" __attribute__((visibility("default"))) const char* tsp3d_build_info() {
  return "compiler=nvcc " TSP3D_NVCC_VERSION ";torch=" TSP3D_BUILT_WITH_TORCH
         ";torch_at_least=2.10;architectures=" TSP3D_CUDA_ARCHITECTURES;
}
