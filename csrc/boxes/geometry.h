// Geometry of turned boxes, for the CPU and the device alike.
#pragma once

#include <cmath>
#include <cstdint>

#include "../common/anywhere.h"

namespace tsp3d {

struct Point {
  double x, y;
};

struct Box {
  double v[7];
  Point corners[4];  // footprint, counter-clockwise

  TSP3D_ANYWHERE double volume() const { return v[3] * v[4] * v[5]; }
};

// Row (x, y, z, dx, dy, dz[, yaw]) of `columns` numbers.
template <class T>
TSP3D_ANYWHERE Box read_box(const T* row, int64_t columns) {
  Box box;
  box.v[6] = 0;
  for (int64_t a = 0; a < columns; ++a) box.v[a] = row[a];
  const double cos = std::cos(box.v[6]), sin = std::sin(box.v[6]);
  for (int c = 0; c < 4; ++c) {
    const double x = (c == 0 || c == 3 ? -0.5 : 0.5) * box.v[3], y = (c < 2 ? -0.5 : 0.5) * box.v[4];
    box.corners[c] = {box.v[0] + x * cos - y * sin, box.v[1] + x * sin + y * cos};
  }
  return box;
}

TSP3D_ANYWHERE double overlap_along(const Box& a, const Box& b, int axis) {
  const double a_low = a.v[axis] - a.v[axis + 3] / 2, b_low = b.v[axis] - b.v[axis + 3] / 2;
  const double a_high = a.v[axis] + a.v[axis + 3] / 2, b_high = b.v[axis] + b.v[axis + 3] / 2;
  const double length = (a_high < b_high ? a_high : b_high) - (a_low > b_low ? a_low : b_low);
  return length > 0 ? length : 0;
}

// Positive to the left of the line from p to q.
TSP3D_ANYWHERE double side(const Point& p, const Point& q, const Point& r) {
  return (q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x);
}

// Area of the intersection of two turned rectangles: a's footprint is cut by each edge of b's in turn
// (Sutherland and Hodgman, 1974).
TSP3D_ANYWHERE double footprint_overlap(const Box& a, const Box& b) {
  constexpr int kRoom = 16;  // eight corners at most, and room for rounding
  Point polygon[kRoom], cut[kRoom];
  int count = 4;
  for (int i = 0; i < 4; ++i) polygon[i] = {a.corners[i].x - a.v[0], a.corners[i].y - a.v[1]};
  for (int e = 0; e < 4 && count > 0; ++e) {
    const Point p = {b.corners[e].x - a.v[0], b.corners[e].y - a.v[1]};
    const Point q = {b.corners[(e + 1) % 4].x - a.v[0], b.corners[(e + 1) % 4].y - a.v[1]};
    int kept = 0;
    for (int i = 0; i < count && kept + 2 <= kRoom; ++i) {
      const Point from = polygon[i], to = polygon[(i + 1) % count];
      const double s = side(p, q, from), t = side(p, q, to);
      if (s >= 0) cut[kept++] = from;
      if ((s > 0 && t < 0) || (s < 0 && t > 0)) {
        const double f = s / (s - t);
        cut[kept++] = {from.x + f * (to.x - from.x), from.y + f * (to.y - from.y)};
      }
    }
    count = kept;
    for (int i = 0; i < count; ++i) polygon[i] = cut[i];
  }
  double area = 0;
  for (int i = 0; i < count; ++i) {
    const Point &p = polygon[i], &q = polygon[(i + 1) % count];
    area += p.x * q.y - q.x * p.y;
  }
  return fmax(area / 2, 0.0);
}

// 0 where the boxes share no volume, or one has none.
TSP3D_ANYWHERE double iou(const Box& a, const Box& b) {
  for (int axis = 3; axis < 6; ++axis)
    if (!(a.v[axis] > 0 && b.v[axis] > 0)) return 0;
  double shared = overlap_along(a, b, 2);
  if (shared <= 0) return 0;
  if (a.v[6] == 0 && b.v[6] == 0)
    shared *= overlap_along(a, b, 0) * overlap_along(a, b, 1);
  else
    shared *= footprint_overlap(a, b);
  if (!(shared > 0)) return 0;
  shared = fmin(shared, fmin(a.volume(), b.volume()));  // turned boxes round
  return shared / (a.volume() + b.volume() - shared);
}

}  // namespace tsp3d
