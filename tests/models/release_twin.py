"""A checkpoint with the release's names and shapes, and its network written out on dense grids.

Independent of the package: names and formulas come from the specification alone. One scene, one sentence; features are
dense tensors (C, X, Y, Z) with a mask (X, Y, Z) of the voxels that exist.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = (3, 4, 6, 3)
CHANNELS = (64, 128, 128, 128)


def release_state(generator: torch.Generator, text: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random tensors under every name of the release (without wrappers); ``text``: the text encoder's."""
    state: dict[str, Tensor] = {f"text_encoder.{name}": value for name, value in text.items()}

    def put(name: str, *shape: int, scale: float = 1.0) -> None:
        state[name] = torch.randn(*shape, generator=generator) * scale

    def kernel(name: str, *shape: int) -> None:
        fan_in = shape[-2] * (shape[0] if len(shape) == 3 else 1)
        put(f"{name}.kernel", *shape, scale=(2 / fan_in) ** 0.5)

    def norm(name: str, channels: int, running: bool = True) -> None:
        state[f"{name}.weight"] = 1 + 0.2 * torch.randn(channels, generator=generator)
        put(f"{name}.bias", channels, scale=0.2)
        if running:
            put(f"{name}.running_mean", channels, scale=0.2)
            state[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=generator)
            state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def linear(name: str, *shape: int) -> None:
        put(f"{name}.weight", *shape, scale=shape[1] ** -0.5)
        put(f"{name}.bias", shape[0], scale=0.2)

    def attention(name: str) -> None:
        put(f"{name}.in_proj_weight", 384, 128, scale=0.1)
        put(f"{name}.in_proj_bias", 384, scale=0.1)
        linear(f"{name}.out_proj", 128, 128)

    def stack(name: str) -> None:
        for layer in (f"{name}.layers.0", f"{name}.layers.1"):
            for kind in ("lang", "visual"):
                attention(f"{layer}.self_attention_{kind}.self_attn")
                norm(f"{layer}.self_attention_{kind}.norm1", 128, running=False)
            for way in ("lv", "vl"):
                attention(f"{layer}.cross_layer.cross_{way}")
                norm(f"{layer}.cross_layer.norm_{way}", 128, running=False)
                norm(f"{layer}.cross_layer.norm_{way}2", 128, running=False)
                linear(f"{layer}.cross_layer.ffn_{way}.0", 128, 128)
                linear(f"{layer}.cross_layer.ffn_{way}.3", 128, 128)

    kernel("vision_backbone.conv1", 27, 6, 64)
    norm("vision_backbone.norm1.bn", 64)
    cin = 64
    for stage, (blocks, cout) in enumerate(zip(BLOCKS, CHANNELS, strict=True), 1):
        for i in range(blocks):
            block = f"vision_backbone.layer{stage}.{i}"
            kernel(f"{block}.conv1", 27, cin, cout)
            norm(f"{block}.norm1.bn", cout)
            kernel(f"{block}.conv2", 27, cout, cout)
            norm(f"{block}.norm2.bn", cout)
            if i == 0:
                kernel(f"{block}.downsample.0", cin, cout)
                norm(f"{block}.downsample.1.bn", cout)
            cin = cout
    linear("text_projector.0", 128, 768)
    norm("text_projector.1", 128, running=False)
    heads = (("bbox_conv", 6, 0.02), ("cls_conv", 1, 0.1), ("keep_conv.0", 1, 0.1), ("keep_conv.1", 1, 0.1))
    for name, out, scale in heads:
        put(f"head.{name}.kernel", 128, out, scale=scale)
        put(f"head.{name}.bias", 1, out, scale=0.1)
    put("head.pos_embed.position_embedding_head.0.weight", 128, 3, 1)
    put("head.pos_embed.position_embedding_head.0.bias", 128)
    norm("head.pos_embed.position_embedding_head.1", 128)
    put("head.pos_embed.position_embedding_head.3.weight", 128, 128, 1, scale=0.1)
    put("head.pos_embed.position_embedding_head.3.bias", 128, scale=0.1)
    for name in ("keep_trans.0", "keep_trans.1", "com_trans"):
        stack(f"head.{name}")
    put("head.com_cls.weight", 1, 128, 1, scale=0.2)
    put("head.com_cls.bias", 1)
    for name in ("up_block_1", "up_block_2", "lateral_block_0", "lateral_block_1", "lateral_block_2", "out_block_0"):
        kernel(f"head.{name}.0", 27, 128, 128)
        norm(f"head.{name}.1.bn", 128)
    kernel("head.fuse.conv", 256, 128)
    norm("head.fuse.norm.bn", 128)
    return state


def dense_kernel(kernel: Tensor) -> Tensor:
    """(27, Cin, Cout) with k = (x+1) + 3(y+1) + 9(z+1) -> torch's (Cout, Cin, 3, 3, 3) over x, y, z."""
    cin, cout = kernel.shape[1:]
    dense = torch.empty(cout, cin, 3, 3, 3)
    for x in range(3):
        for y in range(3):
            for z in range(3):
                dense[:, :, x, y, z] = kernel[x + 3 * y + 9 * z].T
    return dense


class DenseRelease:
    """The release's inference on dense grids: coordinates from 0, every cell 64 voxels a multiple."""

    def __init__(self, state: dict[str, Tensor], margin: int = 1) -> None:
        self.w = state
        self.margin = margin
        """Cells of level 2 added around the scene, where the generative convolutions may grow into."""

    # Layers, each (C, X, Y, Z) with its mask ------------------------------------------------------------------------

    def norm(self, x: Tensor, name: str) -> Tensor:
        w, b, m, v = (self.w[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
        return F.batch_norm(x[None], m, v, w, b)[0]

    def conv(self, x: Tensor, mask: Tensor, name: str, stride: int = 1) -> tuple[Tensor, Tensor]:
        """out[u] = sum of W_k in[u + offset_k] on the voxels, or on the cells of 2 that hold one."""
        kernel = self.w[f"{name}.kernel"]
        if stride == 2:
            out_mask = F.max_pool3d(mask[None].float(), 2)[0] > 0
        else:
            out_mask = mask
        if kernel.ndim == 2:
            out = torch.einsum("cxyz,cd->dxyz", x[:, ::stride, ::stride, ::stride], kernel)
        else:
            out = F.conv3d((x * mask)[None], dense_kernel(kernel), stride=stride, padding=1)[0]
        return out * out_mask, out_mask

    def block(self, x: Tensor, mask: Tensor, name: str, stride: int) -> tuple[Tensor, Tensor]:
        out, out_mask = self.conv(x, mask, f"{name}.conv1", stride)
        out = self.norm(out, f"{name}.norm1.bn").relu() * out_mask
        out = self.norm(self.conv(out, out_mask, f"{name}.conv2")[0], f"{name}.norm2.bn")
        if f"{name}.downsample.0.kernel" in self.w:
            x = self.norm(self.conv(x, mask, f"{name}.downsample.0", stride)[0], f"{name}.downsample.1.bn")
        return (out + x).relu() * out_mask, out_mask

    def backbone(self, x: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        x, mask = self.conv(x, mask, "vision_backbone.conv1", 2)
        x = self.norm(x, "vision_backbone.norm1.bn").relu()
        x = x.masked_fill(~mask, -torch.inf)
        x, mask = F.max_pool3d(x[None], 2)[0], F.max_pool3d(mask[None].float(), 2)[0] > 0
        x = x.masked_fill(~mask, 0)
        levels = []
        for stage, blocks in enumerate(BLOCKS, 1):
            for i in range(blocks):
                x, mask = self.block(x, mask, f"vision_backbone.layer{stage}.{i}", 2 if i == 0 else 1)
            levels.append((x, mask))
        return levels[1:]

    def up(self, x: Tensor, mask: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """Every voxel makes the 27 at its corner: out[2u + offset_k] += W_k in[u]."""
        weight = dense_kernel(self.w[f"{name}.0.kernel"]).transpose(0, 1)
        out = F.conv_transpose3d((x * mask)[None], weight, stride=2, padding=1, output_padding=1)[0]
        ones = torch.ones(1, 1, 3, 3, 3)
        made = F.conv_transpose3d(mask[None, None].float(), ones, stride=2, padding=1, output_padding=1)[0, 0] > 0
        return self.norm(out, f"{name}.1.bn").relu() * made, made

    def conv_norm_relu(self, x: Tensor, mask: Tensor, name: str) -> Tensor:
        return self.norm(self.conv(x, mask, f"{name}.0")[0], f"{name}.1.bn").relu() * mask

    # Attention, (N, 128) --------------------------------------------------------------------------------------------

    def layer_norm(self, x: Tensor, name: str, eps: float = 1e-5) -> Tensor:
        return F.layer_norm(x, (128,), self.w[f"{name}.weight"], self.w[f"{name}.bias"], eps)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, name: str) -> Tensor:
        layer = nn.MultiheadAttention(128, 8)
        parts = {key: self.w[f"{name}.{key}"] for key in layer.state_dict()}
        layer.load_state_dict(parts)
        return layer.eval()(q[:, None], k[:, None], v[:, None])[0][:, 0]

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def stack(self, voxels: Tensor, xyz: Tensor, text: Tensor, name: str) -> tuple[Tensor, Tensor]:
        embed = "head.pos_embed.position_embedding_head"
        hidden = F.conv1d(xyz.T[None], self.w[f"{embed}.0.weight"], self.w[f"{embed}.0.bias"])
        hidden = self.norm(hidden[0][..., None, None], f"{embed}.1")[None, ..., 0, 0].relu()
        place = F.conv1d(hidden, self.w[f"{embed}.3.weight"], self.w[f"{embed}.3.bias"])[0].T
        for layer in (f"{name}.layers.0", f"{name}.layers.1"):
            own, said = f"{layer}.self_attention_visual", f"{layer}.self_attention_lang"
            moved = self.attention(voxels + place, voxels + place, voxels, f"{own}.self_attn")
            voxels = self.layer_norm(voxels + moved, f"{own}.norm1")
            text = self.layer_norm(text + self.attention(text, text, text, f"{said}.self_attn"), f"{said}.norm1")
            cross = f"{layer}.cross_layer"
            to_text = self.attention(text, voxels, voxels, f"{cross}.cross_lv")
            to_voxels = self.attention(voxels + place, text, text, f"{cross}.cross_vl")
            text = self.feed_forward(text + to_text, cross, "lv")
            voxels = self.feed_forward(voxels + to_voxels, cross, "vl")
        return voxels, text

    def feed_forward(self, x: Tensor, cross: str, way: str) -> Tensor:
        x = self.layer_norm(x, f"{cross}.norm_{way}")
        update = self.linear(self.linear(x, f"{cross}.ffn_{way}.0").relu(), f"{cross}.ffn_{way}.3")
        return self.layer_norm(x + update, f"{cross}.norm_{way}2")

    # The whole ------------------------------------------------------------------------------------------------------

    def attend(self, x: Tensor, mask: Tensor, stride: int, text: Tensor, name: str) -> tuple[Tensor, Tensor]:
        xyz = (mask.nonzero() - self.margin * 64 // stride) * (stride * 0.01)  # minimum corners, metres
        rows, text = self.stack(x[:, mask].T, xyz, text, name)
        out = torch.zeros_like(x)
        out[:, mask] = rows.T
        return out, text

    def split(self, name: str, logits: Tensor, share: float, probability: float) -> None:
        """Set the bias ``name`` so that ``share`` of the logits (without it) have at most ``probability``."""
        ordered = logits.sort().values
        place = max(1, round(share * len(ordered)))
        wanted = torch.tensor(probability).logit()
        self.w[name] = (wanted - (ordered[place - 1] + ordered[place]) / 2).reshape(self.w[name].shape)

    def ground(
        self, voxels: Tensor, mask: Tensor, tokens: Tensor
    ) -> tuple[list[tuple[Tensor, Tensor]], dict[str, Tensor]]:
        """voxels (6, X, Y, Z) at 1 cm with their mask; tokens (T, 768) -> the backbone's levels, and boxes (N, 6),
        logits (N,) and counts.

        The biases that pruning and completion depend on are set on the way, so that some voxels stay and some go.
        """
        found_levels, levels = self.backbone(voxels, mask), []
        for level, (x, m) in enumerate(found_levels):
            pad = [self.margin * 4 >> level] * 6
            levels.append((F.pad(x, pad), F.pad(m, pad)))
        text = self.layer_norm(self.linear(tokens, "text_projector.0"), "text_projector.1", 1e-12)
        (x, m), counts, made = levels[2], [], levels[2]
        for level, threshold in ((2, 0.7), (1, 0.3)):
            x, text = self.attend(x, m, 16 << level, text, f"head.keep_trans.{level - 1}")
            prune = torch.einsum("cxyz,cd->xyz", x, self.w[f"head.keep_conv.{level - 1}.kernel"])
            self.split(f"head.keep_conv.{level - 1}.bias", prune[m], 0.4, 1 - threshold)
            keep = 1 - (prune + self.w[f"head.keep_conv.{level - 1}.bias"].item()).sigmoid()
            x = self.conv_norm_relu(x, m, f"head.lateral_block_{level}")
            kept = m & (keep > threshold)
            counts += [int(m.sum()), int(kept.sum())]
            made = self.up(x, kept, f"head.up_block_{level}")
            finer, there = levels[level - 1]
            x, m = made[0] + finer * (there & made[1]), made[1]
        finer, there = levels[0]
        found, text = self.attend(finer, there, 16, text, "head.com_trans")
        logit = torch.einsum("cxyz,c->xyz", found, self.w["head.com_cls.weight"][0, :, 0])
        self.split("head.com_cls.bias", logit[there], 0.3, 0.15)
        add = there & ((logit + self.w["head.com_cls.bias"]).sigmoid() > 0.15) & ~m
        x, before = x + (made[0] + found) * add, int(m.sum())
        m = m | add
        counts += [before, int(add.sum())]
        for name in ("head.lateral_block_0", "head.out_block_0"):
            x = self.conv_norm_relu(x, m, name)
        rows = torch.cat([x[:, m].T, text[:1].expand(int(m.sum()), -1)], 1)
        rows = (rows @ self.w["head.fuse.conv.kernel"]).T
        rows = self.norm(rows[..., None, None], "head.fuse.norm.bn")[..., 0, 0].T.relu()
        raw = rows @ self.w["head.bbox_conv.kernel"] + self.w["head.bbox_conv.bias"]
        corner = (m.nonzero() - self.margin * 4) * 0.16
        score = (rows @ self.w["head.cls_conv.kernel"] + self.w["head.cls_conv.bias"])[:, 0]
        return found_levels, {
            "boxes": torch.cat([corner + raw[:, :3], raw[:, 3:].exp()], 1),
            "logits": score,
            "counts": torch.tensor(counts),
        }
