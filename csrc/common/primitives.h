// Sorting and sums over whole arrays on the device, by CUB. All arrays are in device memory.
#pragma once

#include "cuda.cuh"

namespace tsp3d {

// Stable ascending sort by the lower `bits` bits of the keys (N,) int64, read without sign; values (N,) int64 go along.
void sort_pairs(const Stream& stream, const Tensor& keys, Tensor& sorted_keys, const Tensor& values,
                Tensor& sorted_values, int bits);

// sums[i] = values[0] + ... + values[i - 1], both (N,) int64; they may be the same tensor.
void exclusive_sum(const Stream& stream, const Tensor& values, Tensor& sums);

// Number of bits that hold 0..largest.
inline int bits_for(int64_t largest) {
  int bits = 1;
  while (bits < 63 && (largest >> bits) != 0) ++bits;
  return bits;
}

}  // namespace tsp3d
