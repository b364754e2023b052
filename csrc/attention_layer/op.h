// Attention with the projections before and after it, its residual and layer norms.
#pragma once

#include <optional>

#include "../common/tensor.h"

namespace tsp3d {

// query (Nq, C) and value (Nk, C), the query itself where absent, ragged over the same sequences with borders q_splits and
// k_splits (S + 1,) int64; `heads` of D = C / heads channels. before (where present, a layer norm of both) gives the inputs
// of two linear layers as linear/op.h packs them: `first` of the query, `second` of the value. Together they make, in this
// order and each (rows, heads, D), q, k and v: first as many of them as its `channels` hold, second the rest.
// xyz (Nq, 3): attention knows where rows are, as spatial_attention (attention/op.h); first then makes what they ask for
// last, (Nq, heads, 6). `out` projects what was attended, (Nq, heads * (D + 7 with xyz)), to C channels.
// Returns (Nq, C): after(residual + out(attention)), without what is absent. One dtype, float32 or float64.
Tensor attention_layer(const Tensor& query, const std::optional<Tensor>& value,
                       const std::optional<Tensor>& before_weight, const std::optional<Tensor>& before_bias,
                       const Tensor& first, int64_t channels, const std::optional<Tensor>& second, const Tensor& out,
                       const std::optional<Tensor>& xyz, const Tensor& q_splits, const Tensor& k_splits, int64_t heads,
                       const std::optional<Tensor>& residual, const std::optional<Tensor>& after_weight,
                       const std::optional<Tensor>& after_bias, double eps);

}  // namespace tsp3d
