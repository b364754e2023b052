// Compaction: which of many flagged items is each, in order, and how many there are.
#pragma once

#include "primitives.h"

namespace tsp3d {

constexpr int kTile = kThreads;  // items of a block

template <class Flag>
__global__ void __launch_bounds__(kTile) count_kernel(Flag flag, int64_t count, int64_t* counts) {
  const int64_t i = int64_t{blockIdx.x} * kTile + threadIdx.x;
  const int found = __syncthreads_count(i < count && flag(i));
  if (threadIdx.x == 0) counts[blockIdx.x] = found;
}

template <class Flag, class Write>
__global__ void __launch_bounds__(kTile) write_kernel(Flag flag, Write write, int64_t count, const int64_t* starts) {
  __shared__ int sums[kTile];
  const int own = threadIdx.x;
  const int64_t i = int64_t{blockIdx.x} * kTile + own;
  const bool on = i < count && flag(i);
  sums[own] = on;
  __syncthreads();
  for (int reach = 1; reach < kTile; reach *= 2) {
    const int add = own >= reach ? sums[own - reach] : 0;
    __syncthreads();
    sums[own] += add;
    __syncthreads();
  }
  if (i < count) write(i, starts[blockIdx.x] + sums[own] - on, on);
}

template <class Flag, class PlaceOf>
struct RankOf {
  Flag flag;
  PlaceOf place_of;
  const int64_t* starts;
  int64_t* ranks;

  __device__ void operator()(int64_t j) const {
    const int64_t place = place_of(j), tile = place / kTile;
    int64_t rank = starts[tile];
    for (int64_t i = tile * kTile; i < place; ++i) rank += flag(i) ? 1 : 0;
    ranks[j] = rank;
  }
};

// flag(i) says whether item i of `count` is taken; it is a __device__ lambda.
template <class Flag>
class Ranking {
 public:
  Ranking(const Stream& stream, const Tensor& like, int64_t count, Flag flag)
      : stream_(stream), flag_(flag), count_(count), tiles_(blocks_for(count, kTile)),
        starts_(device_zeros<int64_t>(stream, like, {tiles_ + 1})) {
    STD_TORCH_CHECK(tiles_ < INT32_MAX, "tsp3d: more than 2^39 items in one tensor");
    launch(stream_, count_kernel<Flag>, dim3(static_cast<unsigned>(tiles_)), kTile, flag_, count_, mutable_data<int64_t>(starts_));
    exclusive_sum(stream_, starts_, starts_);
  }

  // Device address of the number of items taken.
  const int64_t* total() const { return data<int64_t>(starts_) + tiles_; }

  // write(i, rank, taken) for all items; rank counts the items taken before i.
  template <class Write>
  void write(Write write) const {
    launch(stream_, write_kernel<Flag, Write>, dim3(static_cast<unsigned>(tiles_)), kTile, flag_, write, count_, data<int64_t>(starts_));
  }

  // ranks[j] = number of items taken before place_of(j) <= count, for j in 0..places-1.
  template <class PlaceOf>
  void ranks(int64_t places, PlaceOf place_of, int64_t* ranks) const {
    for_each(stream_, places, RankOf<Flag, PlaceOf>{flag_, place_of, data<int64_t>(starts_), ranks});
  }

 private:
  const Stream& stream_;
  Flag flag_;
  int64_t count_, tiles_;
  Tensor starts_;
};

}  // namespace tsp3d
