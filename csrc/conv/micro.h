// The inner loops' table: one entry per instruction set, filled from micro.inc.
#pragma once

#include <cstdint>

namespace tsp3d {

// All channel counts of packed data are padded to whole vectors of `lanes` numbers.
template <class T>
struct Micro {
  int lanes;      // numbers in a vector
  int outer_rows; // input channels of a register tile of the weight gradient

  // out[o] += in[i] @ w for `count` pairs. in: rows of `in_stride`, out: rows of `out_stride`, w: (cin, vectors * lanes),
  // rows kPanel numbers apart. in_rows and out_rows are the pairs; out row numbers count from `first_out`. vectors is 1 or 2.
  // far: rows of in are in no cache near, and are asked for ahead. next: a panel of weights that is asked for ahead, or null.
  void (*conv)(const T* in, int64_t in_stride, T* out, int64_t out_stride, const T* w, int64_t cin, int vectors,
               const int32_t* in_rows, const int32_t* out_rows, int64_t count, int32_t first_out, bool far,
               const T* next);

  // sum (rows, sum_stride) += outer(in[i, :rows], grad[o, :vectors * lanes]) over `count` pairs; rows <= outer_rows. What sum
  // held is not read where it is `fresh`.
  void (*outer)(const T* in, int64_t in_stride, const T* grad, int64_t grad_stride, T* sum, int64_t sum_stride, int rows,
                int vectors, const int32_t* in_rows, const int32_t* out_rows, int64_t count, bool fresh);
};

template <class T>
const Micro<T>& micro();

}  // namespace tsp3d
