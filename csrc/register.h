// The operators that a library serves, under the names whose schemas tsp3d/sparse/library.py defines: the same list for every
// device. register.cpp adds those of the CPU alone.
#pragma once

#include <torch/csrc/stable/library.h>

#include "attention/op.h"
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
#include "sort_map/op.h"
#include "unique_coords/op.h"

namespace tsp3d {

template <class Library>
void implement_operators(Library& m) {
  m.impl("attention", TORCH_BOX(&attention));
  m.impl("box_iou_3d", TORCH_BOX(&box_iou_3d));
  m.impl("conv", TORCH_BOX(&conv));
  m.impl("conv_weight_grad", TORCH_BOX(&conv_weight_grad));
  m.impl("dilate_coords", TORCH_BOX(&dilate_coords));
  m.impl("filter_map", TORCH_BOX(&filter_map));
  m.impl("interpolate", TORCH_BOX(&interpolate));
  m.impl("interpolation_weights", TORCH_BOX(&interpolation_weights));
  m.impl("is_coordinate_set", TORCH_BOX(&is_coordinate_set));
  m.impl("kernel_map", TORCH_BOX(&kernel_map));
  m.impl("lookup", TORCH_BOX(&lookup));
  m.impl("max_pool", TORCH_BOX(&max_pool));
  m.impl("max_pool_grad", TORCH_BOX(&max_pool_grad));
  m.impl("merge_coords", TORCH_BOX(&merge_coords));
  m.impl("merge_feats", TORCH_BOX(&merge_feats));
  m.impl("nms_3d", TORCH_BOX(&nms_3d));
  m.impl("replicate_map", TORCH_BOX(&replicate_map));
  m.impl("spatial_attention", TORCH_BOX(&spatial_attention));
  m.impl("sort_map", TORCH_BOX(&sort_map));
  m.impl("splat", TORCH_BOX(&splat));
  m.impl("sum_pool", TORCH_BOX(&sum_pool));
  m.impl("tiled_conv", TORCH_BOX(&tiled_conv));
  m.impl("tiled_weight_grad", TORCH_BOX(&tiled_weight_grad));
  m.impl("unique_coords", TORCH_BOX(&unique_coords));
}

}  // namespace tsp3d
