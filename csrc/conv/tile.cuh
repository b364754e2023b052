// Products of tiles by the threads of a block: C (rows, columns) += A (rows, depth) · B (depth, columns), A and B in shared
// memory. Three ways with one interface: plain multiply-add, tensor cores on half precision, and tensor cores on tf32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline.h>
#include <mma.h>

#include <cstdint>
#include <type_traits>

namespace tsp3d {

// Rows and columns of the result; a warp has 32 x 32 of them.
template <int kRows_, int kColumns_>
struct Shape {
  static constexpr int kRows = kRows_, kColumns = kColumns_, kThreads = kRows * kColumns / 32;
  static_assert(kRows % 32 == 0 && kColumns % 32 == 0, "whole warps");
};

// Numbers that pad a row of a tile: 16 bytes, so that rows stay aligned for vectors and start in different banks.
template <class T>
constexpr int kPad = 16 / static_cast<int>(sizeof(T));

// Rows of the result are threadIdx / kLine * 8 + i, columns threadIdx % kLine + kLine * j.
template <class T, class S>
struct PlainTile : S {
  using Number = T;
  using Sum = T;
  static constexpr int kDepth = 16, kLine = S::kColumns / 4;

  T sums[8][4] = {};

  // A is [row][depth], or [depth][row] where transposed. The strides are those of the tiles in shared memory.
  template <bool kTransposed>
  __device__ void multiply(const T* a, int a_stride, const T* b, int b_stride) {
    const int row = threadIdx.x / kLine * 8, column = threadIdx.x % kLine;
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      T left[8], right[4];
#pragma unroll
      for (int i = 0; i < 8; ++i) left[i] = kTransposed ? a[d * a_stride + row + i] : a[(row + i) * a_stride + d];
#pragma unroll
      for (int j = 0; j < 4; ++j) right[j] = b[d * b_stride + column + kLine * j];
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] += left[i] * right[j];
    }
  }

  __device__ void store(T* c, int stride) const {
    const int row = threadIdx.x / kLine * 8, column = threadIdx.x % kLine;
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) c[(row + i) * stride + column + kLine * j] = sums[i][j];
  }
};

// Each warp has 32 x 32 of the result, as 2 x 2 fragments. Sums are float32.
template <class T, class Precision, int kStep, class S>
struct TensorTile : S {
  using Number = T;
  using Sum = float;
  static constexpr int kDepth = sizeof(T) == 4 && S::kRows > 64 ? 16 : 32;  // two stages fit in shared memory

  template <class Layout>
  using Left = nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, kStep, Precision, Layout>;
  using Right = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, kStep, Precision, nvcuda::wmma::row_major>;
  using Result = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, kStep, float>;

  Result sums[2][2];

  __device__ TensorTile() {
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j) nvcuda::wmma::fill_fragment(sums[i][j], 0.0f);
  }
  static __device__ int warp_row() { return threadIdx.x / S::kColumns * 32; }
  static __device__ int warp_column() { return threadIdx.x % S::kColumns / 32 * 32; }

  template <class Fragment>
  static __device__ void round(Fragment& fragment) {
    if constexpr (sizeof(T) == 4)  // tf32 wants its numbers rounded to tf32
      for (int e = 0; e < fragment.num_elements; ++e) fragment.x[e] = nvcuda::wmma::__float_to_tf32(fragment.x[e]);
  }

  template <bool kTransposed>
  __device__ void multiply(const T* a, int a_stride, const T* b, int b_stride) {
    using namespace nvcuda::wmma;
    using Layout = std::conditional_t<kTransposed, col_major, row_major>;
#pragma unroll
    for (int d = 0; d < kDepth; d += kStep) {
      Left<Layout> left[2];
      Right right[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = warp_row() + 16 * i;
        load_matrix_sync(left[i], kTransposed ? a + d * a_stride + row : a + row * a_stride + d, a_stride);
        round(left[i]);
        load_matrix_sync(right[i], b + d * b_stride + warp_column() + 16 * i, b_stride);
        round(right[i]);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 2; ++j) mma_sync(sums[i][j], left[i], right[j], sums[i][j]);
    }
  }

  __device__ void store(float* c, int stride) const {
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j)
        nvcuda::wmma::store_matrix_sync(c + (warp_row() + 16 * i) * stride + warp_column() + 16 * j, sums[i][j], stride,
                                        nvcuda::wmma::mem_row_major);
  }
};

template <class T, class S>
using HalfTile = TensorTile<T, T, 16, S>;
template <class S>
using Tf32Tile = TensorTile<float, nvcuda::wmma::precision::tf32, 8, S>;

// Columns first..first + kWidth of rows row_of(0..kCount - 1) of a matrix with `channels` columns, into a tile with rows
// of kWidth + kPad. Rows of -1 and columns past the last are zero. `vectors`: every row starts at a multiple of 16
// bytes and holds a whole number of them; these arrive when the pipeline says so (accumulate waits for it).
template <int kThreads, int kCount, int kWidth, class T, class RowOf>
__device__ void gather(T* tile, const T* matrix, int64_t channels, int64_t first, bool vectors, RowOf row_of) {
  constexpr int kVector = 16 / static_cast<int>(sizeof(T)), kStride = kWidth + kPad<T>;
  static_assert(kWidth % kVector == 0, "rows of a tile are whole vectors");
  if (vectors) {
    for (int e = threadIdx.x; e < kCount * (kWidth / kVector); e += kThreads) {
      const int r = e / (kWidth / kVector), c = e % (kWidth / kVector) * kVector;
      const int64_t row = row_of(r);
      const bool there = row >= 0 && first + c < channels;
      const T* from = there ? matrix + row * channels + first + c : matrix;
      __pipeline_memcpy_async(tile + r * kStride + c, from, 16, there ? 0 : 16);  // the last 16 bytes are zeros
    }
  } else {
    for (int e = threadIdx.x; e < kCount * kWidth; e += kThreads) {
      const int r = e / kWidth, c = e % kWidth;
      const int64_t row = row_of(r);
      tile[r * kStride + c] = row >= 0 && first + c < channels ? matrix[row * channels + first + c] : T(0.0f);
    }
  }
}

// Two stages of tiles of A (kRowsA, kWidthA) and B (depth, columns) while summing, and the tile of C afterwards.
template <class Tile, int kRowsA, int kWidthA>
struct TileMemory {
  using T = typename Tile::Number;
  using Sum = typename Tile::Sum;
  static constexpr int kStrideA = kWidthA + kPad<T>, kStrideB = Tile::kColumns + kPad<T>;
  static constexpr int kStrideC = Tile::kColumns + kPad<Sum>;
  static constexpr int kBytesA = kRowsA * kStrideA * sizeof(T), kBytesB = Tile::kDepth * kStrideB * sizeof(T);
  static constexpr int kStage = kBytesA + kBytesB, kBytesC = Tile::kRows * kStrideC * sizeof(Sum);
  static constexpr int kBytes = 2 * kStage > kBytesC ? 2 * kStage : kBytesC;
  static_assert(kBytesA % 32 == 0 && kStage % 32 == 0, "tiles are aligned for fragments");

  unsigned char* bytes;

  __device__ T* a(int64_t step) const { return reinterpret_cast<T*>(bytes + step % 2 * kStage); }
  __device__ T* b(int64_t step) const { return reinterpret_cast<T*>(bytes + step % 2 * kStage + kBytesA); }
  __device__ Sum* c() const { return reinterpret_cast<Sum*>(bytes); }
};

// Adds the products of all steps to the tile; load(step, a, b) fills the tiles of one, while the one before is
// multiplied. Called by all threads of the block, which meet at its end if there was a step.
template <bool kTransposed, class Tile, class Memory, class Load>
__device__ void accumulate(Tile& tile, const Memory& memory, int64_t steps, Load load) {
  if (steps > 0) load(int64_t{0}, memory.a(0), memory.b(0));
  __pipeline_commit();
  for (int64_t step = 0; step < steps; ++step) {
    if (step + 1 < steps) load(step + 1, memory.a(step + 1), memory.b(step + 1));
    __pipeline_commit();        // an empty one at the end, so that the next line can always count on one
    __pipeline_wait_prior(1);   // all but the latest have arrived
    __syncthreads();
    tile.template multiply<kTransposed>(memory.a(step), Memory::kStrideA, memory.b(step), Memory::kStrideB);
    __syncthreads();
  }
}

}  // namespace tsp3d
