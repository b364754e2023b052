// Which input rows a tile of output rows meets, offset by offset: from the pairs of a kernel map, or from a sorted map.
#pragma once

#include <cstdint>

#include "../common/cuda.cuh"
#include "../sort_map/shares.h"

namespace tsp3d {

// What a block knows of its tile for some offsets at once, in shared memory.
template <int kRows>
struct TileRows {
  static constexpr int kOffsets = 2048 / kRows;  // 32 offsets of 64 rows, 16 of 128

  int32_t rows[kOffsets][kRows];  // input row of each output row of the tile, or -1
  int64_t borders[kOffsets][2];   // pairs of the tile
  int present[kOffsets], count;   // offsets that have any
  unsigned mask;                  // the same as bits
};

// Output rows as they lie. A tile's pairs are found by binary search, as each offset's are ordered by output row.
struct PairRows {
  const int32_t *in_rows, *out_rows;
  const int64_t* splits;

  __device__ int64_t out_row(int64_t place) const { return place; }

  // The rows of offsets first..first + offsets - 1; called by all threads of the block, which meet in it.
  template <int kThreads, int kRows>
  __device__ void look_up(TileRows<kRows>& tile, int64_t first, int offsets, int64_t first_place) const {
    const int own = threadIdx.x;
    for (int e = own; e < 2 * offsets; e += kThreads) {
      const int64_t k = first + e / 2;
      tile.borders[e / 2][e % 2] = lower_bound(out_rows, splits[k], splits[k + 1], first_place + e % 2 * kRows);
    }
    for (int e = own; e < offsets * kRows; e += kThreads) tile.rows[e / kRows][e % kRows] = -1;
    __syncthreads();
    for (int k = own / 32; k < offsets; k += kThreads / 32) {
      const int64_t begin = tile.borders[k][0], end = tile.borders[k][1];
      if (begin < end && own % 32 == 0) atomicOr(&tile.mask, 1u << k);
      for (int64_t p = begin + own % 32; p < end; p += 32) {
        const int64_t r = out_rows[p] - first_place;
        if (r >= 0 && r < kRows) tile.rows[k][r] = in_rows[p];
      }
    }
  }
};

// Output rows by the mask of their offsets (sort_map/op.h), so that a tile's rows lack the same ones.
struct SortedRows {
  const int32_t *order, *table;  // (M,) of this share, (K, M)
  int64_t count;

  __device__ int64_t out_row(int64_t place) const { return order[place]; }

  template <int kThreads, int kRows>
  __device__ void look_up(TileRows<kRows>& tile, int64_t first, int offsets, int64_t first_place) const {
    unsigned found = 0;
    for (int e = threadIdx.x; e < offsets * kRows; e += kThreads) {
      const int k = e / kRows, r = e % kRows;
      const int32_t row = first_place + r < count ? table[(first + k) * count + first_place + r] : -1;
      tile.rows[k][r] = row;
      if (row >= 0) found |= 1u << k;
    }
    if (found) atomicOr(&tile.mask, found);
  }
};

// Makes the rows of a block: those of its share, where each share has an order of its own.
struct PairSource {
  PairRows rows;

  __device__ PairRows of(int64_t) const { return rows; }
};

struct SortedSource {
  const int32_t* sorted;  // (orders + K, count)
  int64_t orders, count;

  __device__ SortedRows of(int64_t share) const {
    return {sorted + (orders > 1 ? share : 0) * count, sorted + orders * count, count};
  }
};

}  // namespace tsp3d
