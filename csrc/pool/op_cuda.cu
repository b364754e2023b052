#include "../common/primitives.h"
#include "op.h"

namespace tsp3d {
namespace {

constexpr int kLanes = 8;      // groups of threads of a block
constexpr int kChannels = 32;  // threads of a group, one channel each

struct PairMap {
  const int32_t *in_rows, *out_rows;
  const int64_t* splits;
  int64_t volume;
};

// A block is kLanes groups of kChannels threads. Where rows have few pairs each group has a row of its own; where they
// have many (a whole scene, say) the groups share one row, take its pairs in turn, and group 0 joins what they found.
struct Place {
  int64_t row, channel;
  int lane, lanes;  // this group takes pairs lane, lane + lanes, ... of each offset

  __device__ explicit Place(bool shared) {
    const int group = threadIdx.x / kChannels;
    row = shared ? int64_t{blockIdx.x} : int64_t{blockIdx.x} * kLanes + group;
    channel = int64_t{blockIdx.y} * kChannels + threadIdx.x % kChannels;
    lane = shared ? group : 0;
    lanes = shared ? kLanes : 1;
  }
};

// f(pair) for the pairs of a row that are this group's.
template <class F>
__device__ void pairs_of(const PairMap& map, const Place& at, F f) {
  for (int64_t k = 0; k < map.volume; ++k) {
    const int64_t end = map.splits[k + 1], low = lower_bound(map.out_rows, map.splits[k], end, at.row);
    for (int64_t p = low + at.lane; p < end && map.out_rows[p] == at.row; p += at.lanes) f(p);
  }
}

template <class T>
__global__ void __launch_bounds__(kLanes* kChannels) sum_kernel(const T* feats, PairMap map, int64_t rows, int64_t channels,
                                                                bool shared, T* out) {
  __shared__ T sums[kLanes * kChannels];
  const Place at(shared);
  T sum = 0;
  if (at.row < rows && at.channel < channels)
    pairs_of(map, at, [&](int64_t p) { sum += feats[map.in_rows[p] * channels + at.channel]; });
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (at.row >= rows || at.channel >= channels || at.lane > 0) return;
  for (int lane = 1; lane < at.lanes; ++lane) sum += sums[lane * kChannels + threadIdx.x];
  out[at.row * channels + at.channel] = sum;
}

// Whether a pair's value takes the place of the best so far: the greatest, what is not a number before all that is, and
// among equals the first pair.
template <class T>
__device__ bool wins(T value, int64_t pair, T best, int64_t holder) {
  if (holder < 0) return true;
  const bool nan = value != value;
  if (nan != (best != best)) return nan;
  return value > best || ((nan || value == best) && pair < holder);
}

template <class T>
__global__ void __launch_bounds__(kLanes* kChannels) max_kernel(const T* feats, PairMap map, int64_t rows, int64_t channels,
                                                                bool shared, T* out, int32_t* winners) {
  __shared__ T values[kLanes * kChannels];
  __shared__ int64_t pairs[kLanes * kChannels];
  const Place at(shared);
  T best = 0;
  int64_t pair = -1;
  if (at.row < rows && at.channel < channels)
    pairs_of(map, at, [&](int64_t p) {
      const T value = feats[map.in_rows[p] * channels + at.channel];
      if (wins(value, p, best, pair)) {
        best = value;
        pair = p;
      }
    });
  values[threadIdx.x] = best;
  pairs[threadIdx.x] = pair;
  __syncthreads();
  if (at.row >= rows || at.channel >= channels || at.lane > 0) return;
  for (int lane = 1; lane < at.lanes; ++lane) {
    const T value = values[lane * kChannels + threadIdx.x];
    const int64_t other = pairs[lane * kChannels + threadIdx.x];
    if (other >= 0 && wins(value, other, best, pair)) {
      best = value;
      pair = other;
    }
  }
  out[at.row * channels + at.channel] = best;
  winners[at.row * channels + at.channel] = pair < 0 ? -1 : map.in_rows[pair];
}

bool many_pairs(int64_t pairs, int64_t rows) { return pairs > 64 * rows; }

dim3 pool_grid(int64_t rows, int64_t channels, bool shared) {
  const int64_t columns = blocks_for(channels, kChannels);
  STD_TORCH_CHECK(columns <= 65535, "tsp3d: pooling takes at most 2,097,120 channels, got ", channels);
  return dim3(static_cast<unsigned>(shared ? rows : blocks_for(rows, kLanes)), static_cast<unsigned>(columns));
}

PairMap map_of(const Tensor& in_rows, const Tensor& out_rows, const Tensor& splits) {
  STD_TORCH_CHECK(in_rows.numel() == out_rows.numel(), "tsp3d: in_rows and out_rows differ in length");
  return {data<int32_t>(in_rows), data<int32_t>(out_rows), data<int64_t>(splits), splits.size(0) - 1};
}

template <class T>
Tensor sum_pool_t(const Tensor& feats_, const PairMap& map, int64_t pairs, int64_t num_out) {
  const Tensor feats = dense<T>(feats_, "feats");
  const Stream stream(feats);
  const int64_t channels = feats.size(1);
  const bool shared = many_pairs(pairs, num_out);
  Tensor out = make<T>(feats, {num_out, channels});
  launch(stream, sum_kernel<T>, pool_grid(num_out, channels, shared), kLanes * kChannels, data<T>(feats), map, num_out,
         channels, shared, mutable_data<T>(out));
  return out;
}

template <class T>
std::tuple<Tensor, Tensor> max_pool_t(const Tensor& feats_, const PairMap& map, int64_t pairs, int64_t num_out) {
  const Tensor feats = dense<T>(feats_, "feats");
  const Stream stream(feats);
  const int64_t channels = feats.size(1);
  const bool shared = many_pairs(pairs, num_out);
  Tensor out = make<T>(feats, {num_out, channels}), winners = make<int32_t>(feats, {num_out, channels});
  launch(stream, max_kernel<T>, pool_grid(num_out, channels, shared), kLanes * kChannels, data<T>(feats), map, num_out,
         channels, shared, mutable_data<T>(out), mutable_data<int32_t>(winners));
  return {out, winners};
}

// Gradients are sorted by the number that they go to, and each run of equal ones is summed by one thread in the order of
// the output rows.
template <class T>
Tensor max_pool_grad_t(const Tensor& grad_, const Tensor& argmax_, int64_t num_in) {
  const Tensor grad = dense<T>(grad_, "grad"), argmax = dense<int32_t>(argmax_, "argmax");
  const Stream stream(grad, argmax);
  const int64_t channels = grad.size(1), count = grad.size(0) * channels, none = num_in * channels;
  const T* g = data<T>(grad);
  const int32_t* winner = data<int32_t>(argmax);
  Tensor out = device_zeros<T>(stream, grad, {num_in, channels});
  T* result = mutable_data<T>(out);
  Tensor keys = make<int64_t>(grad, {count}), sorted_keys = make<int64_t>(grad, {count});
  Tensor places = make<int64_t>(grad, {count}), sorted_places = make<int64_t>(grad, {count});
  int64_t *key = mutable_data<int64_t>(keys), *place = mutable_data<int64_t>(places);
  for_each(stream, count, [=] __device__(int64_t e) {
    key[e] = winner[e] >= 0 && winner[e] < num_in ? winner[e] * channels + e % channels : none;
    place[e] = e;
  });
  sort_pairs(stream, keys, sorted_keys, places, sorted_places, bits_for(none));
  const int64_t *target = data<int64_t>(sorted_keys), *source = data<int64_t>(sorted_places);
  for_each(stream, count, [=] __device__(int64_t first) {
    const int64_t to = target[first];
    if (to == none || (first > 0 && target[first - 1] == to)) return;
    T sum = 0;
    for (int64_t i = first; i < count && target[i] == to; ++i) sum += g[source[i]];
    result[to] = sum;
  });
  return out;
}

}  // namespace

Tensor sum_pool(const Tensor& feats, const Tensor& in_rows_, const Tensor& out_rows_, const Tensor& splits_,
                int64_t num_out) {
  const Tensor in_rows = dense<int32_t>(in_rows_, "in_rows"), out_rows = dense<int32_t>(out_rows_, "out_rows");
  const Tensor splits = dense<int64_t>(splits_, "splits");
  check_devices(feats, in_rows, out_rows, splits);
  return dispatch_real(feats, "sum_pool", [&](auto zero) {
    return sum_pool_t<decltype(zero)>(feats, map_of(in_rows, out_rows, splits), in_rows.size(0), num_out);
  });
}

std::tuple<Tensor, Tensor> max_pool(const Tensor& feats, const Tensor& in_rows_, const Tensor& out_rows_,
                                    const Tensor& splits_, int64_t num_out) {
  const Tensor in_rows = dense<int32_t>(in_rows_, "in_rows"), out_rows = dense<int32_t>(out_rows_, "out_rows");
  const Tensor splits = dense<int64_t>(splits_, "splits");
  check_devices(feats, in_rows, out_rows, splits);
  return dispatch_real(feats, "max_pool", [&](auto zero) {
    return max_pool_t<decltype(zero)>(feats, map_of(in_rows, out_rows, splits), in_rows.size(0), num_out);
  });
}

Tensor max_pool_grad(const Tensor& grad, const Tensor& argmax, int64_t num_in) {
  STD_TORCH_CHECK(grad.dim() == 2 && argmax.dim() == 2 && grad.size(0) == argmax.size(0) && grad.size(1) == argmax.size(1),
                  "tsp3d: max_pool_grad takes grad (M, C) and argmax (M, C)");
  return dispatch_real(grad, "max_pool_grad",
                       [&](auto zero) { return max_pool_grad_t<decltype(zero)>(grad, argmax, num_in); });
}

}  // namespace tsp3d
