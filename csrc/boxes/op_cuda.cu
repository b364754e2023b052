#include "../common/ranking.cuh"
#include "geometry.h"
#include "op.h"

namespace tsp3d {
namespace {

constexpr int kWord = 64;  // boxes of a word of the table of overlaps

template <class T>
void read_t(const Stream& stream, const Tensor& boxes_, Box* out) {
  const Tensor boxes = dense<T>(boxes_, "boxes");
  const int64_t columns = boxes.size(1);
  const T* p = data<T>(boxes);
  for_each(stream, boxes.size(0), [=] __device__(int64_t i) { out[i] = read_box(p + i * columns, columns); });
}

// (M, size of a box in doubles)
Tensor read(const Stream& stream, const Tensor& boxes, const char* name) {
  STD_TORCH_CHECK(boxes.dim() == 2 && (boxes.size(1) == 6 || boxes.size(1) == 7), "tsp3d: ", name,
                  " must be (M, 6) or (M, 7) x, y, z, dx, dy, dz[, yaw]");
  static_assert(sizeof(Box) % sizeof(double) == 0, "a box is made of doubles");
  Tensor result = make<double>(boxes, {boxes.size(0), static_cast<int64_t>(sizeof(Box) / sizeof(double))});
  Box* out = reinterpret_cast<Box*>(mutable_data<double>(result));
  dispatch_real(boxes, name, [&](auto zero) {
    read_t<decltype(zero)>(stream, boxes, out);
    return 0;
  });
  return result;
}

const Box* boxes_in(const Tensor& t) { return reinterpret_cast<const Box*>(data<double>(t)); }

template <class T>
Tensor iou_t(const Stream& stream, const Tensor& a_, const Tensor& b_) {
  const int64_t m = a_.size(0), n = b_.size(0);
  const Box *a = boxes_in(a_), *b = boxes_in(b_);
  Tensor out = make<T>(a_, {m, n});
  T* result = mutable_data<T>(out);
  for_each(stream, m * n, [=] __device__(int64_t e) { result[e] = static_cast<T>(iou(a[e / n], b[e % n])); });
  return out;
}

// A key, of 64 bits without sign, whose ascending order is the descending order of the scores.
__device__ int64_t descending_key(double score) {
  const uint64_t bits = static_cast<uint64_t>(__double_as_longlong(score == 0 ? 0.0 : score));  // -0.0 equals 0.0
  const uint64_t sign = uint64_t{1} << 63;
  return static_cast<int64_t>(bits & sign ? bits : ~(bits | sign));
}

template <class T>
void keys_t(const Stream& stream, const Tensor& scores_, int64_t* key, int64_t* row) {
  const Tensor scores = dense<T>(scores_, "scores");
  const T* s = data<T>(scores);
  for_each(stream, scores.size(0), [=] __device__(int64_t i) {
    key[i] = descending_key(s[i] == s[i] ? static_cast<double>(s[i]) : INFINITY);
    row[i] = i;
  });
}

// One block walks the boxes from best to worst. `covered` has a bit for each box that a kept one overlaps too much.
__global__ void __launch_bounds__(kThreads) keep_kernel(const uint64_t* overlaps, const int64_t* order, int64_t n,
                                                        uint64_t* covered, int64_t* kept, int64_t* count) {
  const int64_t words = (n + kWord - 1) / kWord;
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    const bool keep = !(covered[i / kWord] >> (i % kWord) & 1);
    __syncthreads();  // all have read before any writes
    if (keep) {
      if (threadIdx.x == 0) kept[found] = order[i];
      ++found;
      for (int64_t word = i / kWord + threadIdx.x; word < words; word += kThreads)
        covered[word] |= overlaps[i * words + word];
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) *count = found;
}

}  // namespace

Tensor box_iou_3d(const Tensor& a_, const Tensor& b_) {
  const Stream stream(a_, b_);
  const Tensor a = read(stream, a_, "a"), b = read(stream, b_, "b");
  const bool wide = a_.scalar_type() == ScalarType::Double || b_.scalar_type() == ScalarType::Double;
  return wide ? iou_t<double>(stream, a, b) : iou_t<float>(stream, a, b);
}

Tensor nms_3d(const Tensor& boxes_, const Tensor& scores, double iou_threshold) {
  const Stream stream(boxes_, scores);
  const Tensor all = read(stream, boxes_, "boxes");
  const int64_t n = boxes_.size(0), words = blocks_for(n, kWord);
  STD_TORCH_CHECK(scores.dim() == 1 && scores.size(0) == n, "tsp3d: scores must be (", n, ",)");
  if (n == 0) return make<int64_t>(boxes_, {0});
  Tensor keys = make<int64_t>(boxes_, {n}), sorted = make<int64_t>(boxes_, {n});
  Tensor rows = make<int64_t>(boxes_, {n}), order = make<int64_t>(boxes_, {n});
  dispatch_real(scores, "nms_3d", [&](auto zero) {
    keys_t<decltype(zero)>(stream, scores, mutable_data<int64_t>(keys), mutable_data<int64_t>(rows));
    return 0;
  });
  sort_pairs(stream, keys, sorted, rows, order, 64);

  // Bit j of row i: box j, which comes after box i, overlaps it by more than the threshold.
  Tensor overlaps = make<int64_t>(boxes_, {n, words});
  Tensor covered = device_zeros<int64_t>(stream, boxes_, {words});
  Tensor kept = make<int64_t>(boxes_, {n}), found = make<int64_t>(boxes_, {1});
  const Box* box = boxes_in(all);
  const int64_t* ord = data<int64_t>(order);
  auto* table = reinterpret_cast<uint64_t*>(mutable_data<int64_t>(overlaps));
  for_each(stream, n * words, [=] __device__(int64_t e) {
    const int64_t i = e / words, first = e % words * kWord;
    uint64_t bits = 0;
    for (int64_t j = first > i ? first : i + 1; j < first + kWord && j < n; ++j)
      if (iou(box[ord[j]], box[ord[i]]) > iou_threshold) bits |= uint64_t{1} << (j - first);
    table[e] = bits;
  });
  launch(stream, keep_kernel, dim3(1), kThreads, table, ord, n, reinterpret_cast<uint64_t*>(mutable_data<int64_t>(covered)),
         mutable_data<int64_t>(kept), mutable_data<int64_t>(found));
  const int64_t count = read_back<1>(stream, data<int64_t>(found))[0];
  Tensor result = make<int64_t>(boxes_, {count});
  const int64_t* from = data<int64_t>(kept);
  int64_t* to = mutable_data<int64_t>(result);
  for_each(stream, count, [=] __device__(int64_t i) { to[i] = from[i]; });
  return result;
}

}  // namespace tsp3d
