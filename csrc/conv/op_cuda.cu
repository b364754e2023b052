// Implicit GEMM over the pairs of a kernel map: no gathered copy of the features, no atomics.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "../common/cuda.cuh"
#include "checks.h"
#include "tile.cuh"

namespace tsp3d {

template <>
constexpr ScalarType scalar_type<__half>() { return ScalarType::Half; }
template <>
constexpr ScalarType scalar_type<__nv_bfloat16>() { return ScalarType::BFloat16; }

namespace {

constexpr int kOffsets = 32;  // kernel offsets whose pairs a block looks up at once

struct Map {
  const int32_t *in_rows, *out_rows;
  const int64_t* splits;
  int64_t volume;
};

// A block makes 64 output rows by 64 output channels: grid (row tiles, channel tiles, shares of the offsets). With one
// share it writes `out`; with several, share z writes its sums to partial[z], to be added up in order.
template <class Tile>
__global__ void __launch_bounds__(kTileThreads)
    conv_kernel(const typename Tile::Number* feats, const typename Tile::Number* weight, Map map, int64_t num_out,
                int64_t cin, int64_t cout, bool vectors_in, bool vectors_out, typename Tile::Number* out,
                typename Tile::Sum* partial) {
  using T = typename Tile::Number;
  using Sum = typename Tile::Sum;
  using Memory = TileMemory<Tile, kTileSide, Tile::kDepth>;
  __shared__ __align__(32) unsigned char bytes[Memory::kBytes];
  __shared__ int32_t rows[kOffsets][kTileSide];  // input row of each output row of the tile, or -1
  __shared__ int64_t borders[kOffsets][2];       // pairs of the tile
  __shared__ int present[kOffsets], count;       // offsets that have any
  static_assert(Memory::kBytes + sizeof(rows) + sizeof(borders) + sizeof(present) + sizeof(count) <= 48 * 1024,
                "shared memory that no device has to be asked for");
  const Memory memory{bytes};
  const int own = threadIdx.x;
  const int64_t first_row = int64_t{blockIdx.x} * kTileSide, first_column = int64_t{blockIdx.y} * kTileSide;
  const int64_t begin = map.volume * blockIdx.z / gridDim.z, end = map.volume * (blockIdx.z + 1) / gridDim.z;
  const int64_t slices = (cin + Tile::kDepth - 1) / Tile::kDepth;
  Tile tile;
  for (int64_t chunk = begin; chunk < end; chunk += kOffsets) {
    __syncthreads();  // all have read what the last chunk left
    const int offsets = static_cast<int>(end - chunk < kOffsets ? end - chunk : kOffsets);
    if (own < 2 * offsets) {
      const int64_t k = chunk + own / 2;
      borders[own / 2][own % 2] =
          lower_bound(map.out_rows, map.splits[k], map.splits[k + 1], first_row + own % 2 * kTileSide);
    }
    for (int e = own; e < offsets * kTileSide; e += kTileThreads) rows[e / kTileSide][e % kTileSide] = -1;
    __syncthreads();
    for (int k = own / 32; k < offsets; k += kTileThreads / 32)
      for (int64_t p = borders[k][0] + own % 32; p < borders[k][1]; p += 32) {
        const int64_t r = map.out_rows[p] - first_row;
        if (r >= 0 && r < kTileSide) rows[k][r] = map.in_rows[p];
      }
    if (own == 0) {
      count = 0;
      for (int k = 0; k < offsets; ++k)
        if (borders[k][0] < borders[k][1]) present[count++] = k;
    }
    __syncthreads();
    accumulate<false>(tile, memory, count * slices, [&](int64_t step, T* a, T* b) {
      const int k = present[step / slices];
      const int64_t c = step % slices * Tile::kDepth, first_weight = (chunk + k) * cin + c;
      gather<kTileSide, Tile::kDepth>(a, feats, cin, c, vectors_in, [&](int r) { return int64_t{rows[k][r]}; });
      gather<Tile::kDepth, kTileSide>(b, weight, cout, first_column, vectors_out,
                                      [&](int r) { return c + r < cin ? first_weight + r : int64_t{-1}; });
    });
  }
  tile.store(memory.c(), Memory::kStrideC);
  __syncthreads();
  for (int e = threadIdx.x; e < kTileSide * kTileSide; e += kTileThreads) {
    const int64_t row = first_row + e / kTileSide, column = first_column + e % kTileSide;
    if (row >= num_out || column >= cout) continue;
    const Sum sum = memory.c()[e / kTileSide * Memory::kStrideC + e % kTileSide];
    if (gridDim.z == 1)
      out[row * cout + column] = static_cast<T>(sum);
    else
      partial[(blockIdx.z * num_out + row) * cout + column] = sum;
  }
}

// A block sums one share of the pairs of one offset, for 64 input channels by 64 output channels:
// grid (offsets x shares, input tiles, output tiles), partial (offsets, shares, cin, cout).
template <class Tile>
__global__ void __launch_bounds__(kTileThreads)
    weight_grad_kernel(const typename Tile::Number* feats, const typename Tile::Number* grad, Map map, int64_t shares,
                       int64_t cin, int64_t cout, bool vectors_in, bool vectors_out, typename Tile::Sum* partial) {
  using T = typename Tile::Number;
  using Memory = TileMemory<Tile, Tile::kDepth, kTileSide>;
  __shared__ __align__(32) unsigned char bytes[Memory::kBytes];
  static_assert(Memory::kBytes <= 48 * 1024, "shared memory that no device has to be asked for");
  const Memory memory{bytes};
  const int64_t k = blockIdx.x / shares, share = blockIdx.x % shares;
  const int64_t first_in = int64_t{blockIdx.y} * kTileSide, first_out = int64_t{blockIdx.z} * kTileSide;
  const int64_t start = map.splits[k], pairs = map.splits[k + 1] - start;
  const int64_t begin = start + pairs * share / shares, end = start + pairs * (share + 1) / shares;
  Tile tile;
  accumulate<true>(tile, memory, (end - begin + Tile::kDepth - 1) / Tile::kDepth, [&](int64_t step, T* a, T* b) {
    const int64_t p = begin + step * Tile::kDepth;
    gather<Tile::kDepth, kTileSide>(a, feats, cin, first_in, vectors_in,
                                    [&](int r) { return p + r < end ? int64_t{map.in_rows[p + r]} : int64_t{-1}; });
    gather<Tile::kDepth, kTileSide>(b, grad, cout, first_out, vectors_out,
                                    [&](int r) { return p + r < end ? int64_t{map.out_rows[p + r]} : int64_t{-1}; });
  });
  tile.store(memory.c(), Memory::kStrideC);
  __syncthreads();
  for (int e = threadIdx.x; e < kTileSide * kTileSide; e += kTileThreads) {
    const int64_t row = first_in + e / kTileSide, column = first_out + e % kTileSide;
    if (row < cin && column < cout)
      partial[(blockIdx.x * cin + row) * cout + column] = memory.c()[e / kTileSide * Memory::kStrideC + e % kTileSide];
  }
}

// out[o, i] = partial[o, 0, i] + partial[o, 1, i] + ..., in this order; partial (outer, shares, inner).
template <class T, class Sum>
void add_shares(const Stream& stream, const Sum* partial, int64_t outer, int64_t shares, int64_t inner, T* out) {
  for_each(stream, outer * inner, [=] __device__(int64_t e) {
    const Sum* from = partial + e / inner * shares * inner + e % inner;
    Sum sum = 0;
    for (int64_t s = 0; s < shares; ++s) sum += from[s * inner];
    out[e] = static_cast<T>(sum);
  });
}

int64_t processors() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

template <class T>
bool whole_vectors(const T* matrix, int64_t channels) {
  return reinterpret_cast<uintptr_t>(matrix) % 16 == 0 && channels * sizeof(T) % 16 == 0;
}

template <class Tile>
Tensor conv_t(const Tensor& feats_, const Tensor& weight_, const Map& map, int64_t num_out) {
  using T = typename Tile::Number;
  using Sum = typename Tile::Sum;
  const Stream stream(feats_, weight_);
  const Tensor feats = dense<T>(feats_, "feats"), weight = dense<T>(weight_, "weight");
  const int64_t cin = feats.size(1), cout = weight.size(2);
  Tensor out = make<T>(feats, {num_out, cout});
  const int64_t row_tiles = blocks_for(num_out, kTileSide), column_tiles = blocks_for(cout, kTileSide);
  STD_TORCH_CHECK(column_tiles <= 65535, "tsp3d: conv makes at most 4,194,240 channels, got ", cout);
  if (row_tiles == 0 || column_tiles == 0) return out;
  // Where the map is small, offsets are shared out so that there is work for all processors.
  const int64_t wanted = blocks_for(2 * processors(), row_tiles * column_tiles);
  const int64_t shares = std::max<int64_t>(1, std::min({wanted, map.volume, int64_t{8}}));
  Tensor partial = make<Sum>(feats, {shares > 1 ? shares * num_out * cout : 0});
  launch(stream, conv_kernel<Tile>,
         dim3(static_cast<unsigned>(row_tiles), static_cast<unsigned>(column_tiles), static_cast<unsigned>(shares)),
         kTileThreads, data<T>(feats), data<T>(weight), map, num_out, cin, cout, whole_vectors(data<T>(feats), cin),
         whole_vectors(data<T>(weight), cout), mutable_data<T>(out), mutable_data<Sum>(partial));
  if (shares > 1) add_shares(stream, data<Sum>(partial), 1, shares, num_out * cout, mutable_data<T>(out));
  return out;
}

template <class Tile>
Tensor weight_grad_t(const Tensor& feats_, const Tensor& grad_, const Map& map, int64_t pairs) {
  using T = typename Tile::Number;
  using Sum = typename Tile::Sum;
  const Stream stream(feats_, grad_);
  const Tensor feats = dense<T>(feats_, "feats"), grad = dense<T>(grad_, "grad");
  const int64_t cin = feats.size(1), cout = grad.size(1);
  Tensor out = make<T>(feats, {map.volume, cin, cout});
  const int64_t in_tiles = blocks_for(cin, kTileSide), out_tiles = blocks_for(cout, kTileSide);
  STD_TORCH_CHECK(in_tiles <= 65535 && out_tiles <= 65535, "tsp3d: conv_weight_grad takes at most 4,194,240 channels");
  const int64_t tiles = map.volume * in_tiles * out_tiles;
  if (tiles == 0) return out;
  // Shares for all processors, but none without a few hundred pairs on average.
  const int64_t wanted = blocks_for(4 * processors(), tiles), useful = pairs / (map.volume * 256);
  const int64_t shares = std::max<int64_t>(1, std::min(wanted, useful));
  Tensor partial = make<Sum>(feats, {map.volume * shares * cin * cout});
  launch(stream, weight_grad_kernel<Tile>,
         dim3(static_cast<unsigned>(map.volume * shares), static_cast<unsigned>(in_tiles),
              static_cast<unsigned>(out_tiles)),
         kTileThreads, data<T>(feats), data<T>(grad), map, shares, cin, cout, whole_vectors(data<T>(feats), cin),
         whole_vectors(data<T>(grad), cout), mutable_data<Sum>(partial));
  add_shares(stream, data<Sum>(partial), map.volume, shares, cin * cout, mutable_data<T>(out));
  return out;
}

// TSP3D_TF32=1 trades ten bits of float32's mantissa for tensor cores.
bool use_tf32() {
  static const bool wanted = [] {
    const char* value = std::getenv("TSP3D_TF32");
    return value && std::strcmp(value, "1") == 0;
  }();
  return wanted;
}

// Calls f(tile type) for the dtype of t.
template <class Tile>
struct Kind {
  using type = Tile;
};
template <class F>
Tensor dispatch_tile(const Tensor& t, const char* op, F&& f) {
  const ScalarType type = t.scalar_type();
  if (type == ScalarType::Half) return f(Kind<HalfTile<__half>>{});
  if (type == ScalarType::BFloat16) return f(Kind<HalfTile<__nv_bfloat16>>{});
  if (type == ScalarType::Double) return f(Kind<PlainTile<double>>{});
  STD_TORCH_CHECK(type == ScalarType::Float, "tsp3d: ", op,
                  " on CUDA takes float16, bfloat16, float32 or float64 features");
  return use_tf32() ? f(Kind<Tf32Tile>{}) : f(Kind<PlainTile<float>>{});
}

// The tensors of a kernel map, kept alive while their addresses are in use.
struct Rows {
  Tensor in, out, splits;

  Rows(const Tensor& in_, const Tensor& out_, const Tensor& splits_)
      : in(dense<int32_t>(in_, "in_rows")), out(dense<int32_t>(out_, "out_rows")),
        splits(dense<int64_t>(splits_, "splits")) {
    STD_TORCH_CHECK(in.size(0) == out.size(0), "tsp3d: in_rows and out_rows differ in length");
  }
  Map map() const { return {data<int32_t>(in), data<int32_t>(out), data<int64_t>(splits), splits.size(0) - 1}; }
};

}  // namespace

Tensor conv(const Tensor& feats, const Tensor& weight, const Tensor& in_rows, const Tensor& out_rows,
            const Tensor& splits, int64_t num_out) {
  check_devices(feats, in_rows, out_rows, splits);
  const Rows rows(in_rows, out_rows, splits);
  const Map map = rows.map();
  check_conv(feats, weight, map.volume);
  return dispatch_tile(feats, "conv", [&](auto kind) {
    return conv_t<typename decltype(kind)::type>(feats, weight, map, num_out);
  });
}

Tensor conv_weight_grad(const Tensor& feats, const Tensor& grad, const Tensor& in_rows, const Tensor& out_rows,
                        const Tensor& splits) {
  check_weight_grad(feats, grad);
  check_devices(feats, in_rows, out_rows, splits);
  const Rows rows(in_rows, out_rows, splits);
  return dispatch_tile(feats, "conv_weight_grad", [&](auto kind) {
    return weight_grad_t<typename decltype(kind)::type>(feats, grad, rows.map(), in_rows.size(0));
  });
}

}  // namespace tsp3d
