#include "op.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "../common/parallel.h"

namespace tsp3d {
namespace {

struct Point {
  double x, y;
};

struct Box {
  double v[7];
  Point corners[4];  // footprint, counter-clockwise

  double volume() const { return v[3] * v[4] * v[5]; }
};

std::vector<Box> read(const Tensor& boxes_, const char* name) {
  STD_TORCH_CHECK(boxes_.dim() == 2 && (boxes_.size(1) == 6 || boxes_.size(1) == 7), "tsp3d: ", name,
                  " must be (M, 6) or (M, 7) x, y, z, dx, dy, dz[, yaw]");
  const int64_t count = boxes_.size(0), columns = boxes_.size(1);
  std::vector<Box> result(count);
  dispatch_real(boxes_, name, [&](auto zero) {
    using T = decltype(zero);
    const Tensor boxes = dense<T>(boxes_, name);
    const T* p = data<T>(boxes);
    for (int64_t i = 0; i < count; ++i) {
      Box& box = result[i];
      box.v[6] = 0;
      std::copy_n(p + i * columns, columns, box.v);
      const double cos = std::cos(box.v[6]), sin = std::sin(box.v[6]);
      constexpr double sx[4] = {-0.5, 0.5, 0.5, -0.5}, sy[4] = {-0.5, -0.5, 0.5, 0.5};
      for (int c = 0; c < 4; ++c) {
        const double x = sx[c] * box.v[3], y = sy[c] * box.v[4];
        box.corners[c] = {box.v[0] + x * cos - y * sin, box.v[1] + x * sin + y * cos};
      }
    }
    return 0;
  });
  return result;
}

double overlap_along(const Box& a, const Box& b, int axis) {
  const double low = std::max(a.v[axis] - a.v[axis + 3] / 2, b.v[axis] - b.v[axis + 3] / 2);
  const double high = std::min(a.v[axis] + a.v[axis + 3] / 2, b.v[axis] + b.v[axis + 3] / 2);
  return std::max(high - low, 0.0);
}

// Area of the intersection of two turned rectangles: a's footprint is cut by each edge of b's in turn
// (Sutherland and Hodgman, 1974).
double footprint_overlap(const Box& a, const Box& b) {
  constexpr int kRoom = 16;  // eight corners at most, and room for rounding
  Point polygon[kRoom], cut[kRoom];
  int count = 4;
  for (int i = 0; i < 4; ++i) polygon[i] = {a.corners[i].x - a.v[0], a.corners[i].y - a.v[1]};
  for (int e = 0; e < 4 && count > 0; ++e) {
    const Point p = {b.corners[e].x - a.v[0], b.corners[e].y - a.v[1]};
    const Point q = {b.corners[(e + 1) % 4].x - a.v[0], b.corners[(e + 1) % 4].y - a.v[1]};
    const auto side = [&](const Point& r) { return (q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x); };
    int kept = 0;
    for (int i = 0; i < count && kept + 2 <= kRoom; ++i) {
      const Point from = polygon[i], to = polygon[(i + 1) % count];
      const double s = side(from), t = side(to);
      if (s >= 0) cut[kept++] = from;
      if ((s > 0 && t < 0) || (s < 0 && t > 0)) {
        const double f = s / (s - t);
        cut[kept++] = {from.x + f * (to.x - from.x), from.y + f * (to.y - from.y)};
      }
    }
    count = kept;
    std::copy(cut, cut + count, polygon);
  }
  double area = 0;
  for (int i = 0; i < count; ++i) {
    const Point &p = polygon[i], &q = polygon[(i + 1) % count];
    area += p.x * q.y - q.x * p.y;
  }
  return std::max(area / 2, 0.0);
}

double iou(const Box& a, const Box& b) {
  double shared = overlap_along(a, b, 2);
  if (shared <= 0) return 0;
  if (a.v[6] == 0 && b.v[6] == 0)
    shared *= overlap_along(a, b, 0) * overlap_along(a, b, 1);
  else
    shared *= footprint_overlap(a, b);
  return shared > 0 ? shared / (a.volume() + b.volume() - shared) : 0;
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
