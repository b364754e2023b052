// Overlap of 3D boxes (x, y, z, dx, dy, dz[, yaw]): centre, full size, counter-clockwise turn about z in radians.
#pragma once

#include "../common/tensor.h"

namespace tsp3d {

// a (M, 6 or 7), b (N, 6 or 7), float32 or float64 -> (M, N) IoU in the wider dtype of the two. Boxes without volume
// overlap nothing. Computed in float64, but for boxes without yaw on the CPU, whose borders are rounded to that dtype.
Tensor box_iou_3d(const Tensor& a, const Tensor& b);

// boxes (N, 6 or 7), scores (N,), float32 or float64 -> indices int64, best first, of the boxes whose IoU with every
// better kept box is at most iou_threshold. Equal scores keep the order of the input; one that is not a number counts as
// infinite.
Tensor nms_3d(const Tensor& boxes, const Tensor& scores, double iou_threshold);

}  // namespace tsp3d
