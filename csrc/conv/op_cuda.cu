// Implicit GEMM over the pairs of a kernel map: no gathered copy of the features, no atomics.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "../common/cuda.cuh"
#include "checks.h"
#include "rows.cuh"
#include "tile.cuh"

namespace tsp3d {

template <>
constexpr ScalarType scalar_type<__half>() { return ScalarType::Half; }
template <>
constexpr ScalarType scalar_type<__nv_bfloat16>() { return ScalarType::BFloat16; }

namespace {

struct Map {
  const int32_t *in_rows, *out_rows;
  const int64_t* splits;
  int64_t volume;
};

// A block makes Tile::kRows output rows by Tile::kColumns output channels: grid (row tiles, channel tiles, shares of the
// offsets). With one share it writes `out`; with several, share z writes its sums to partial[z], to be added up in order.
template <class Tile, class Source>
__global__ void __launch_bounds__(Tile::kThreads)
    conv_kernel(const typename Tile::Number* feats, const typename Tile::Number* weight, Source source, int64_t volume,
                int64_t num_out, int64_t cin, int64_t cout, bool vectors_in, bool vectors_out,
                typename Tile::Number* out, typename Tile::Sum* partial) {
  using T = typename Tile::Number;
  using Sum = typename Tile::Sum;
  using Memory = TileMemory<Tile, Tile::kRows, Tile::kDepth>;
  using Rows = TileRows<Tile::kRows>;
  constexpr int kRows = Tile::kRows, kColumns = Tile::kColumns, kThreads = Tile::kThreads;
  __shared__ __align__(32) unsigned char bytes[Memory::kBytes];
  __shared__ Rows near;
  static_assert(Memory::kBytes + sizeof(Rows) <= 48 * 1024, "shared memory that no device has to be asked for");
  const Memory memory{bytes};
  const auto rows = source.of(blockIdx.z);
  const int64_t first_row = int64_t{blockIdx.x} * kRows, first_column = int64_t{blockIdx.y} * kColumns;
  const int64_t begin = share_begin(volume, blockIdx.z, gridDim.z), end = share_begin(volume, blockIdx.z + 1, gridDim.z);
  const int64_t slices = (cin + Tile::kDepth - 1) / Tile::kDepth;
  Tile tile;
  for (int64_t chunk = begin; chunk < end; chunk += Rows::kOffsets) {
    __syncthreads();  // all have read what the last chunk left
    const int offsets = static_cast<int>(end - chunk < Rows::kOffsets ? end - chunk : Rows::kOffsets);
    if (threadIdx.x == 0) near.mask = 0;
    __syncthreads();
    rows.template look_up<kThreads>(near, chunk, offsets, first_row);
    __syncthreads();
    if (threadIdx.x == 0) {
      near.count = 0;
      for (int k = 0; k < offsets; ++k)
        if (near.mask >> k & 1) near.present[near.count++] = k;
    }
    __syncthreads();
    accumulate<false>(tile, memory, near.count * slices, [&](int64_t step, T* a, T* b) {
      const int k = near.present[step / slices];
      const int64_t c = step % slices * Tile::kDepth, first_weight = (chunk + k) * cin + c;
      gather<kThreads, kRows, Tile::kDepth>(a, feats, cin, c, vectors_in,
                                            [&](int r) { return int64_t{near.rows[k][r]}; });
      gather<kThreads, Tile::kDepth, kColumns>(b, weight, cout, first_column, vectors_out,
                                               [&](int r) { return c + r < cin ? first_weight + r : int64_t{-1}; });
    });
  }
  tile.store(memory.c(), Memory::kStrideC);
  __syncthreads();
  for (int e = threadIdx.x; e < kRows * kColumns; e += kThreads) {
    const int64_t place = first_row + e / kColumns, column = first_column + e % kColumns;
    if (place >= num_out || column >= cout) continue;
    const int64_t row = rows.out_row(place);
    const Sum sum = memory.c()[e / kColumns * Memory::kStrideC + e % kColumns];
    if (gridDim.z == 1)
      out[row * cout + column] = static_cast<T>(sum);
    else
      partial[(blockIdx.z * num_out + row) * cout + column] = sum;
  }
}

// A block sums one share of the pairs of one offset, for Tile::kRows input channels by Tile::kColumns output channels:
// grid (offsets x shares, input tiles, output tiles), partial (offsets, shares, cin, cout). Its tiles are full but for
// the last of a share, whatever the order of rows.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads)
    weight_grad_kernel(const typename Tile::Number* feats, const typename Tile::Number* grad, Map map, int64_t shares,
                       int64_t cin, int64_t cout, bool vectors_in, bool vectors_out, typename Tile::Sum* partial) {
  using T = typename Tile::Number;
  using Memory = TileMemory<Tile, Tile::kDepth, Tile::kRows>;
  constexpr int kRows = Tile::kRows, kColumns = Tile::kColumns, kThreads = Tile::kThreads;
  __shared__ __align__(32) unsigned char bytes[Memory::kBytes];
  static_assert(Memory::kBytes <= 48 * 1024, "shared memory that no device has to be asked for");
  const Memory memory{bytes};
  const int64_t k = blockIdx.x / shares, share = blockIdx.x % shares;
  const int64_t first_in = int64_t{blockIdx.y} * kRows, first_out = int64_t{blockIdx.z} * kColumns;
  const int64_t start = map.splits[k], pairs = map.splits[k + 1] - start;
  const int64_t begin = start + pairs * share / shares, end = start + pairs * (share + 1) / shares;
  Tile tile;
  accumulate<true>(tile, memory, (end - begin + Tile::kDepth - 1) / Tile::kDepth, [&](int64_t step, T* a, T* b) {
    const int64_t p = begin + step * Tile::kDepth;
    gather<kThreads, Tile::kDepth, kRows>(
        a, feats, cin, first_in, vectors_in,
        [&](int r) { return p + r < end ? int64_t{map.in_rows[p + r]} : int64_t{-1}; });
    gather<kThreads, Tile::kDepth, kColumns>(
        b, grad, cout, first_out, vectors_out,
        [&](int r) { return p + r < end ? int64_t{map.out_rows[p + r]} : int64_t{-1}; });
  });
  tile.store(memory.c(), Memory::kStrideC);
  __syncthreads();
  for (int e = threadIdx.x; e < kRows * kColumns; e += kThreads) {
    const int64_t row = first_in + e / kColumns, column = first_out + e % kColumns;
    if (row < cin && column < cout)
      partial[(blockIdx.x * cin + row) * cout + column] = memory.c()[e / kColumns * Memory::kStrideC + e % kColumns];
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

template <class Tile, class Source>
Tensor conv_t(const Tensor& feats_, const Tensor& weight_, const Source& source, int64_t volume, int64_t num_out,
              int64_t shares) {
  using T = typename Tile::Number;
  using Sum = typename Tile::Sum;
  const Stream stream(feats_, weight_);
  const Tensor feats = dense<T>(feats_, "feats"), weight = dense<T>(weight_, "weight");
  const int64_t cin = feats.size(1), cout = weight.size(2);
  Tensor out = make<T>(feats, {num_out, cout});
  const int64_t row_tiles = blocks_for(num_out, Tile::kRows), column_tiles = blocks_for(cout, Tile::kColumns);
  STD_TORCH_CHECK(column_tiles <= 65535, "tsp3d: conv makes at most ", 65535 * Tile::kColumns, " channels, got ", cout);
  if (row_tiles == 0 || column_tiles == 0) return out;
  if (shares == 0) {  // where the map is small, offsets are shared out so that there is work for all processors
    const int64_t wanted = blocks_for(2 * processors(), row_tiles * column_tiles);
    shares = std::max<int64_t>(1, std::min({wanted, volume, int64_t{8}}));
  }
  Tensor partial = make<Sum>(feats, {shares > 1 ? shares * num_out * cout : 0});
  launch(stream, conv_kernel<Tile, Source>,
         dim3(static_cast<unsigned>(row_tiles), static_cast<unsigned>(column_tiles), static_cast<unsigned>(shares)),
         Tile::kThreads, data<T>(feats), data<T>(weight), source, volume, num_out, cin, cout,
         whole_vectors(data<T>(feats), cin), whole_vectors(data<T>(weight), cout), mutable_data<T>(out),
         mutable_data<Sum>(partial));
  if (shares > 1) add_shares(stream, data<Sum>(partial), 1, shares, num_out * cout, mutable_data<T>(out));
  return out;
}

template <class Tile>
Tensor weight_grad_t(const Tensor& feats_, const Tensor& grad_, const Map& map, int64_t pairs, int64_t shares) {
  using T = typename Tile::Number;
  using Sum = typename Tile::Sum;
  const Stream stream(feats_, grad_);
  const Tensor feats = dense<T>(feats_, "feats"), grad = dense<T>(grad_, "grad");
  const int64_t cin = feats.size(1), cout = grad.size(1);
  Tensor out = make<T>(feats, {map.volume, cin, cout});
  const int64_t in_tiles = blocks_for(cin, Tile::kRows), out_tiles = blocks_for(cout, Tile::kColumns);
  STD_TORCH_CHECK(in_tiles <= 65535 && out_tiles <= 65535, "tsp3d: conv_weight_grad takes at most ",
                  65535 * Tile::kRows, " channels");
  const int64_t tiles = map.volume * in_tiles * out_tiles;
  if (tiles == 0) return out;
  if (shares == 0) {  // for all processors, but none without a few hundred pairs on average
    const int64_t wanted = blocks_for(4 * processors(), tiles), useful = pairs / (map.volume * 256);
    shares = std::max<int64_t>(1, std::min(wanted, useful));
  }
  Tensor partial = make<Sum>(feats, {map.volume * shares * cin * cout});
  launch(stream, weight_grad_kernel<Tile>,
         dim3(static_cast<unsigned>(map.volume * shares), static_cast<unsigned>(in_tiles),
              static_cast<unsigned>(out_tiles)),
         Tile::kThreads, data<T>(feats), data<T>(grad), map, shares, cin, cout, whole_vectors(data<T>(feats), cin),
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

// Calls f(tile type) for the dtype of t. float64 has one shape, which is what fits in shared memory.
template <class Tile>
struct Kind {
  using type = Tile;
};
template <class S, class F>
Tensor dispatch_tile(const Tensor& t, const char* op, F&& f) {
  const ScalarType type = t.scalar_type();
  if (type == ScalarType::Half) return f(Kind<HalfTile<__half, S>>{});
  if (type == ScalarType::BFloat16) return f(Kind<HalfTile<__nv_bfloat16, S>>{});
  if (type == ScalarType::Double) return f(Kind<PlainTile<double, Shape<64, 64>>>{});
  STD_TORCH_CHECK(type == ScalarType::Float, "tsp3d: ", op,
                  " on CUDA takes float16, bfloat16, float32 or float64 features");
  return use_tf32() ? f(Kind<Tf32Tile<S>>{}) : f(Kind<PlainTile<float, S>>{});
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

template <class Source>
Tensor conv_over(const Tensor& feats, const Tensor& weight, const Source& source, int64_t volume, int64_t num_out,
                 int64_t tile, int64_t shares) {
  const auto run = [&](auto kind) {
    return conv_t<typename decltype(kind)::type>(feats, weight, source, volume, num_out, shares);
  };
  if (tile == 0) tile = weight.size(2) <= 32 ? 3 : 1;
  if (tile == 2) return dispatch_tile<Shape<128, 64>>(feats, "conv", run);
  if (tile == 3) return dispatch_tile<Shape<128, 32>>(feats, "conv", run);
  return dispatch_tile<Shape<64, 64>>(feats, "conv", run);
}

}  // namespace

Tensor tiled_conv(const Tensor& feats, const Tensor& weight, const Tensor& in_rows, const Tensor& out_rows,
                  const Tensor& splits, const std::optional<Tensor>& sorted_, int64_t num_out, int64_t tile,
                  int64_t shares) {
  const Rows rows(in_rows, out_rows, splits);
  const Map map = rows.map();
  check_conv(feats, weight, map.volume);
  check_tiles(tile, kConvTiles, shares, map.volume);
  if (!sorted_) {
    check_devices(feats, in_rows, out_rows, splits);
    const PairSource source{{map.in_rows, map.out_rows, map.splits}};
    return conv_over(feats, weight, source, map.volume, num_out, tile, shares);
  }
  check_devices(feats, *sorted_);
  const Tensor sorted = dense<int32_t>(*sorted_, "sorted");
  const int64_t orders = check_sorted(sorted, map.volume, num_out, shares);
  return conv_over(feats, weight, SortedSource{data<int32_t>(sorted), orders, num_out}, map.volume, num_out, tile,
                   orders > 1 ? orders : shares);
}

Tensor tiled_weight_grad(const Tensor& feats, const Tensor& grad, const Tensor& in_rows, const Tensor& out_rows,
                         const Tensor& splits, int64_t tile, int64_t shares) {
  check_weight_grad(feats, grad);
  check_devices(feats, in_rows, out_rows, splits);
  check_tiles(tile, kWeightGradTiles, shares, kMostShares);
  const Rows rows(in_rows, out_rows, splits);
  const auto run = [&](auto kind) {
    return weight_grad_t<typename decltype(kind)::type>(feats, grad, rows.map(), in_rows.size(0), shares);
  };
  if (tile == 2) return dispatch_tile<Shape<32, 32>>(feats, "conv_weight_grad", run);
  return dispatch_tile<Shape<64, 64>>(feats, "conv_weight_grad", run);
}

Tensor conv(const Tensor& feats, const Tensor& weight, const Tensor& in_rows, const Tensor& out_rows,
            const Tensor& splits, int64_t num_out) {
  return tiled_conv(feats, weight, in_rows, out_rows, splits, std::nullopt, num_out, 0, 0);
}

Tensor conv_weight_grad(const Tensor& feats, const Tensor& grad, const Tensor& in_rows, const Tensor& out_rows,
                        const Tensor& splits) {
  return tiled_weight_grad(feats, grad, in_rows, out_rows, splits, 0, 0);
}

}  // namespace tsp3d
