#include "op.h"

#include <algorithm>
#include <cmath>
#include <limits>
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

// Of boxes that are not turned: rows of lower corner, upper corner and volume, a plane of numbers for each. Places count
// from an origin near the boxes, so that far from 0 none of their digits are lost.
template <class T>
std::vector<T> planes(const std::vector<Box>& boxes, const double* origin) {
  const size_t n = boxes.size();
  std::vector<T> result(7 * n);
  for (size_t i = 0; i < n; ++i) {
    for (int a = 0; a < 3; ++a) {
      const double middle = boxes[i].v[a] - origin[a];
      result[a * n + i] = static_cast<T>(middle - boxes[i].v[3 + a] / 2);
      result[(3 + a) * n + i] = static_cast<T>(middle + boxes[i].v[3 + a] / 2);
    }
    result[6 * n + i] = static_cast<T>(boxes[i].volume());
  }
  return result;
}

// IoU of box i of m with each of n boxes, without branches.
template <class T>
void straight_ious(const T* a, int64_t m, int64_t i, const T* b, int64_t n, T* __restrict__ result) {
  const T low[3] = {a[i], a[m + i], a[2 * m + i]}, high[3] = {a[3 * m + i], a[4 * m + i], a[5 * m + i]};
  const T one = a[6 * m + i];
  for (int64_t j = 0; j < n; ++j) {
    T shared = 1;
    for (int axis = 0; axis < 3; ++axis) {
      const T low_b = b[axis * n + j], high_b = b[(3 + axis) * n + j];
      const T length = (high[axis] < high_b ? high[axis] : high_b) - (low[axis] > low_b ? low[axis] : low_b);
      shared *= length > 0 ? length : 0;
    }
    const T all = one + b[6 * n + j] - shared;
    result[j] = shared / (all > 0 ? all : 1);
  }
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
    if (a_.size(1) == 6 && b_.size(1) == 6) {
      double origin[3] = {0, 0, 0};
      for (int axis = 0; m && axis < 3; ++axis)
        if (std::isfinite(a[0].v[axis])) origin[axis] = a[0].v[axis];
      const std::vector<T> planes_a = planes<T>(a, origin), planes_b = planes<T>(b, origin);
      parallel_ranges(m, 2 * m * n, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) straight_ious(planes_a.data(), m, i, planes_b.data(), n, result + i * n);
      });
      return out;
    }
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
    using T = decltype(zero);
    const T* s = data<T>(scores);
    const auto score = [&](int64_t i) { return s[i] == s[i] ? s[i] : std::numeric_limits<T>::infinity(); };
    std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) { return score(i) > score(j); });
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
