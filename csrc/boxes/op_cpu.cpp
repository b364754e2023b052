#include "op.h"

#include <algorithm>
#include <numeric>

#include "../common/parallel.h"
#include "geometry.h"

namespace tsp3d {
namespace {

std::vector<Box> read(const Tensor& boxes_, const char* name) {
  STD_TORCH_CHECK(boxes_.dim() == 2 && (boxes_.size(1) == 6 || boxes_.size(1) == 7), "tsp3d: ", name,
                  " must be (M, 6) or (M, 7) x, y, z, dx, dy, dz[, yaw]");
  const int64_t count = boxes_.size(0), columns = boxes_.size(1);
  std::vector<Box> result(count);
  dispatch_real(boxes_, name, [&](auto zero) {
    using T = decltype(zero);
    const Tensor boxes = dense<T>(boxes_, name);
    const T* p = data<T>(boxes);
    for (int64_t i = 0; i < count; ++i) result[i] = read_box(p + i * columns, columns);
    return 0;
  });
  return result;
}

}  // namespace

Tensor box_iou_3d(const Tensor& a_, const Tensor& b_) {
  const std::vector<Box> a = read(a_, "a"), b = read(b_, "b");
  const int64_t m = a.size(), n = b.size();
  const Tensor& widest = a_.scalar_type() == ScalarType::Double ? a_ : b_;
  return dispatch_real(widest, "box_iou_3d", [&](auto zero) {
    using T = decltype(zero);
    Tensor out = make<T>(a_, {m, n});
    T* result = mutable_data<T>(out);
    parallel_ranges(m, 20 * m * n, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        for (int64_t j = 0; j < n; ++j) result[i * n + j] = static_cast<T>(iou(a[i], b[j]));
    });
    return out;
  });
}

Tensor nms_3d(const Tensor& boxes_, const Tensor& scores_, double iou_threshold) {
  const std::vector<Box> boxes = read(boxes_, "boxes");
  const int64_t n = boxes.size();
  STD_TORCH_CHECK(scores_.dim() == 1 && scores_.size(0) == n, "tsp3d: scores must be (", n, ",)");
  std::vector<int64_t> order(n), kept;
  std::iota(order.begin(), order.end(), 0);
  dispatch_real(scores_, "nms_3d", [&](auto zero) {
    const Tensor scores = dense<decltype(zero)>(scores_, "scores");
    const auto* s = data<decltype(zero)>(scores);
    std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) { return s[i] > s[j]; });
    return 0;
  });
  for (const int64_t i : order) {
    const bool covered = std::any_of(kept.begin(), kept.end(),
                                     [&](int64_t j) { return iou(boxes[i], boxes[j]) > iou_threshold; });
    if (!covered) kept.push_back(i);
  }
  Tensor result = make<int64_t>(boxes_, {static_cast<int64_t>(kept.size())});
  std::copy(kept.begin(), kept.end(), mutable_data<int64_t>(result));
  return result;
}

}  // namespace tsp3d
