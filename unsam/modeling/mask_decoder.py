"""Prompts and image embedding to one mask per prompt and the quality of that mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unsam.modeling.image_encoder import EncodedImages
from unsam.modeling.layers import Mlp, upscale_cells
from unsam.modeling.prompts import spread
from unsam.modeling.two_way_transformer import TwoWayTransformer


class MaskDecoder(nn.Module):
    """SAM 2's mask decoder with UnSAMv2's single granularity mask token.

    Tokens are ``[quality, mask, prompts...]``. The mask token becomes, through a small network,
    the weights of a dot product with features at a quarter of the embedding's stride; these are
    the cells after the two-way transformer, upsampled twice, each time with the encoder's finer
    map added. The quality head reads the quality token and is supervised with the IoU of the very
    mask that is returned (UnSAMv2 returns that of a frozen slot which belongs to another mask).

    Args:
        embed_dim: channels of tokens and embedding.
        high_res_dims: channels of the encoder's finer maps, finest first.
        depth: blocks of the two-way transformer.
        num_heads: heads of its attentions.
        mlp_dim: hidden width of its MLPs.
        upscale_dims: channels after the first and after the second upsampling.
        num_maps: channels of the prompt's own maps, which join the features before the last
            nonlinearity and the dot product after it; 0 for none (SAM).
    """

    def __init__(
        self,
        *,
        embed_dim: int = 128,
        high_res_dims: tuple[int, int] = (48, 96),
        depth: int = 2,
        num_heads: int = 4,
        mlp_dim: int = 256,
        upscale_dims: tuple[int, int] = (64, 32),
        num_maps: int = 0,
    ) -> None:
        super().__init__()
        middle_dim, fine_dim = upscale_dims
        self.mask_token = nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)
        self.quality_token = nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)
        self.transformer = TwoWayTransformer(
            depth=depth, dim=embed_dim, num_heads=num_heads, mlp_dim=mlp_dim
        )
        self.upscale1 = nn.ConvTranspose2d(embed_dim, middle_dim, 2, stride=2)
        self.upscale_norm = nn.LayerNorm(middle_dim)
        self.upscale2 = nn.ConvTranspose2d(middle_dim, fine_dim, 2, stride=2)
        self.skip_fine = nn.Conv2d(high_res_dims[0], fine_dim, 1)
        self.skip_middle = nn.Conv2d(high_res_dims[1], middle_dim, 1)
        self.read_maps = nn.Linear(num_maps, fine_dim) if num_maps else None
        self.hypernetwork = Mlp((embed_dim, embed_dim, embed_dim, fine_dim + num_maps))
        self.quality_head = Mlp((embed_dim, embed_dim, embed_dim, 1))

    def forward(
        self,
        images: EncodedImages,
        sparse: Tensor,
        real: Tensor,
        dense: Tensor,
        position: Tensor,
        image_of_prompt: Tensor,
        maps: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode P prompts on B photos.

        Args:
            images: features of the B photos, ``[B, C, h, w]`` and finer.
            sparse: prompt tokens, ``[P, T, C]``.
            real: bool ``[P, T]``, False for padding.
            dense: ``[P, h * w, C]`` or ``[1, 1, C]``, added to the cells.
            position: encodings of the cells, ``[h * w, C]``.
            image_of_prompt: int64 ``[P]``.
            maps: ``[P, 4 h, 4 w, num_maps]``, None when that is 0.

        Returns:
            Mask logits ``[P, 4 h, 4 w]`` (a mask is where they are over 0) and predicted IoU
            ``[P]`` in [0, 1].
        """
        P = len(image_of_prompt)
        cells = images.embedding.flatten(2).transpose(1, 2)
        owner: Tensor | None = image_of_prompt
        if dense.shape[1] > 1:
            cells, owner = spread(cells, image_of_prompt), None
        cells = cells + dense
        own = torch.cat((self.quality_token, self.mask_token), dim=1).expand(P, -1, -1)
        tokens = torch.cat((own.to(sparse.dtype), sparse), dim=1)
        real = torch.cat((real.new_ones(P, 2), real), dim=1)
        tokens, cells = self.transformer(tokens, cells, position, real, owner)
        quality = self.quality_head(tokens[:, 0]).to(torch.float32).sigmoid()[:, 0]
        weights = self.hypernetwork(tokens[:, 1])
        fine_dim = self.upscale2.out_channels
        logits = self._masks(cells, weights[:, :fine_dim], images, image_of_prompt, maps)
        if maps is not None:
            own_weights = weights[:, fine_dim:, None].to(torch.float32)
            logits = logits + torch.bmm(maps.flatten(1, 2), own_weights).reshape(logits.shape)
        return logits, quality

    def _masks(
        self,
        cells: Tensor,
        weights: Tensor,
        images: EncodedImages,
        image_of_prompt: Tensor,
        maps: Tensor | None,
    ) -> Tensor:
        """Upsample cells ``[P, h * w, C]``, take the dot product with ``weights [P, c]``.

        All work stays in the layout [prompt, y, x, sub-pixels, channel], so that nothing of prompt
        count times resolution times channels is ever permuted; the finer maps are brought into
        that layout once per photo.
        """
        P = len(cells)
        middle = self.skip_middle(images.high_res[1])
        fine = self.skip_fine(images.high_res[0])
        B, c1, H2, W2 = middle.shape
        h, w, c2 = H2 // 2, W2 // 2, fine.shape[1]
        middle = middle.reshape(B, c1, h, 2, w, 2).permute(0, 2, 4, 3, 5, 1)
        fine = fine.reshape(B, c2, h, 2, 2, w, 2, 2).permute(0, 2, 5, 3, 6, 4, 7, 1)
        middle = middle.reshape(B, h * w * 4, c1)
        fine = fine.reshape(B, h * w * 16, c2)
        x = upscale_cells(cells, self.upscale1).reshape(P, h * w * 4, c1)
        x = F.gelu(self.upscale_norm(x + spread(middle, image_of_prompt)))
        x = upscale_cells(x, self.upscale2).reshape(P, h * w * 16, c2)
        x = x + spread(fine, image_of_prompt)
        if maps is not None and self.read_maps is not None:
            nested = maps.reshape(P, h, 2, 2, w, 2, 2, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)
            x = x + self.read_maps(nested.reshape(P, h * w * 16, -1))
        x = F.gelu(x)
        logits = torch.bmm(x, weights[:, :, None].to(x.dtype)).to(torch.float32)
        logits = logits.reshape(P, h, w, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
        return logits.reshape(P, 4 * h, 4 * w)
