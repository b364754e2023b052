// Sparse convolution over a kernel map, and the gradient of its weight.
#pragma once

#include <optional>

#include "../common/tensor.h"

namespace tsp3d {

// feats (N, Cin), weight (K, Cin, Cout) of the same dtype (float32, float64; on CUDA also float16 and bfloat16, which
// are summed in float32), any strides for weight; in_rows (L,) int32, out_rows (L,) int32, splits (K + 1,) int64: a
// kernel map (kernel_map/op.h), out rows ascending within each offset, none of them twice.
// Returns (num_out, Cout): out[o] = sum over pairs (k, i, o) of feats[i] @ weight[k]; rows without pairs are zero.
// The gradient of feats is this operator with the rows exchanged and weight.transpose(1, 2).
Tensor conv(const Tensor& feats, const Tensor& weight, const Tensor& in_rows, const Tensor& out_rows,
            const Tensor& splits, int64_t num_out);

// As conv, plus bias (Cout,), plus residual (num_out, Cout), then max(., 0) where `relu`: one pass over the result, on the
// CPU, for inference. panels (K, P, ceil(Cin / D), 32, D): the weight of each offset cut into P = ceil(Cout / 32) panels of
// output channels, D input channels side by side, padding zero; channels: Cout. D is 1, or 2 where panels are bfloat16: for
// CPUs that multiply it (AVX-512 BF16), float32 feats are rounded to it as well, and summed in float32.
Tensor conv_fused(const Tensor& feats, const Tensor& panels, int64_t channels, const std::optional<Tensor>& bias,
                  const std::optional<Tensor>& residual, const Tensor& in_rows, const Tensor& out_rows,
                  const Tensor& splits, int64_t num_out, bool relu);

// As conv_fused on integers. feats (N, Cin) float32 become
// q = min(max(round(feats * (1 / step)), -zero), 255 - zero), ties to even, NaN as the lowest; step > 0, zero 0..255. weight
// (K, ceil(Cin / 4), Cout padded to 16s, 4) int8, input channels in fours, padding zero. Sums of q @ weight are exact in
// int32, so K * Cin is bounded (op_int8.cpp); then they are multiplied by scales (Cout,), and the rest is as in conv_fused.
Tensor conv_int8(const Tensor& feats, const Tensor& weight, const Tensor& scales, double step, int64_t zero,
                 const std::optional<Tensor>& bias, const std::optional<Tensor>& residual, const Tensor& in_rows,
                 const Tensor& out_rows, const Tensor& splits, int64_t num_out, bool relu);

// feats (N, Cin), grad (M, Cout), and the kernel map of the forward.
// Returns (K, Cin, Cout): result[k] = sum over pairs (k, i, o) of outer(feats[i], grad[o]).
Tensor conv_weight_grad(const Tensor& feats, const Tensor& grad, const Tensor& in_rows, const Tensor& out_rows,
                        const Tensor& splits);

// The same two operators with a say in how CUDA does the work, which changes sums by rounding only; the CPU does as above.
// sorted: the kernel map by sort_map (../sort_map/op.h), one order or as many as shares; without it rows stay as they lie.
// tile: 0 for the kernel's choice; conv 1..3: 64 x 64, 128 x 64, 128 x 32 rows by channels; weight_grad 1..2: 64 x 64,
// 32 x 32 channels. shares: parts in which the offsets (conv, at most K) or the pairs of each (weight_grad, at most
// kMostShares) are summed, 0 for the kernel's choice.
Tensor tiled_conv(const Tensor& feats, const Tensor& weight, const Tensor& in_rows, const Tensor& out_rows,
                  const Tensor& splits, const std::optional<Tensor>& sorted, int64_t num_out, int64_t tile,
                  int64_t shares);
Tensor tiled_weight_grad(const Tensor& feats, const Tensor& grad, const Tensor& in_rows, const Tensor& out_rows,
                         const Tensor& splits, int64_t tile, int64_t shares);

}  // namespace tsp3d
