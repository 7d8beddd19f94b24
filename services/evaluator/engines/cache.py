"""A KV cache, and the passes that use it: whole prompts first (prefill), then a token of each sequence at a time
(decode)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.network.shape import AttentionShape
from shared.supernet.decoder import Decoder
from shared.supernet.segments import Segments


@dataclass
class KVCache:
    """Keys and values of the tokens so far: of each layer (sequences, kv_heads, capacity, head_dim), None if it has no
    attention.

    `lengths` (sequences,): how many tokens of each sequence that is. It lies on the device, beside what the host must
    know without asking: the greatest length, and whether lengths differ.
    """

    keys: tuple[Tensor | None, ...]
    values: tuple[Tensor | None, ...]
    lengths: Tensor
    longest: int
    ragged: bool

    @classmethod
    def of_prompts(cls, network: Decoder, prompts: Sequence[Sequence[int]], more: int) -> "KVCache":
        """Room for prompts, which are prefilled next, and for `more` tokens of each."""
        lengths = [len(prompt) for prompt in prompts]

        def room(attention: AttentionShape | None) -> Tensor | None:
            if attention is None:
                return None
            size = (len(prompts), attention.kv_heads, max(lengths) + more, attention.head_dim)
            return network.embeddings.new_zeros(size)  # zeros, since what is masked must at least be finite

        return cls(
            keys=tuple(room(layer.attention) for layer in network.shape.layers),
            values=tuple(room(layer.attention) for layer in network.shape.layers),
            lengths=torch.tensor(lengths, device=network.embeddings.device),
            longest=max(lengths),
            ragged=len(set(lengths)) > 1,
        )

    def of(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values. Raises RuntimeError for a layer without attention, which asks for none."""
        keys, values = self.keys[layer], self.values[layer]
        if keys is None or values is None:
            raise RuntimeError(f"layer {layer} has no attention, and no keys and values")
        return keys, values


@dataclass(frozen=True)
class PaddedPrompts:
    """Prompts for one pass, padded on the right to the longest: no token sees what comes after it.

    `tokens` and `positions` (sequences * longest,).
    """

    tokens: Tensor
    positions: Tensor
    cache: KVCache

    @classmethod
    def begin(cls, prompts: Sequence[Sequence[int]], cache: KVCache) -> "PaddedPrompts":
        """The prompts that a cache was made for."""
        device = cache.lengths.device
        padded = [[*prompt, *[0] * (cache.longest - len(prompt))] for prompt in prompts]
        positions = torch.arange(cache.longest, device=device).repeat(len(prompts))
        return cls(torch.tensor(padded, device=device).flatten(), positions, cache)

    @property
    def ends(self) -> Tensor:
        """Places of the prompts' last tokens, (sequences,)."""
        starts = torch.arange(len(self.cache.lengths), device=self.tokens.device) * self.cache.longest
        return starts + self.cache.lengths - 1

    @cached_property
    def segments(self) -> Segments:
        """Each prompt, and the padding after each."""
        sequences, longest = len(self.cache.lengths), self.cache.longest
        prompts = torch.arange(sequences, device=self.tokens.device)[:, None]
        padding = self.positions.view(sequences, longest) >= self.cache.lengths[:, None]
        return Segments((2 * prompts + padding).flatten(), 2 * sequences)

    def attend(
        self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, window: int | None, invariant: bool = False
    ) -> Tensor:
        """Attention within each prompt; its keys and values go into the cache."""
        longest = self.cache.longest
        queries, keys, values = (
            part.reshape(-1, longest, *part.shape[1:]).transpose(1, 2) for part in (queries, keys, values)
        )
        for kept, new in zip(self.cache.of(layer), (keys, values), strict=True):
            kept[:, :, :longest] = new
        mask = None
        if window is not None and window < longest:
            mask = torch.ones(longest, longest, dtype=torch.bool, device=keys.device).tril().triu(1 - window)
        attended = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=mask is None, enable_gqa=queries.shape[1] != keys.shape[1]
        )
        return attended.transpose(1, 2).flatten(2).flatten(0, 1)


@dataclass(frozen=True)
class DecodeStep:
    """One more token of every sequence. `tokens` and `positions` (sequences,)."""

    tokens: Tensor
    positions: Tensor
    cache: KVCache
    masks: dict[int | None, Tensor] = field(default_factory=dict)

    @classmethod
    def after(cls, cache: KVCache, tokens: Tensor) -> "DecodeStep":
        """The tokens that follow what a cache holds."""
        step = cls(tokens, cache.lengths, cache)
        cache.lengths = cache.lengths + 1
        cache.longest += 1
        return step

    @cached_property
    def segments(self) -> Segments:
        """Each token: those before it are in the cache, and not part of the pass."""
        return Segments(torch.arange(len(self.tokens), device=self.tokens.device), len(self.tokens))

    def attend(
        self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, window: int | None, invariant: bool = False
    ) -> Tensor:
        """Attention of the new tokens to all of their sequences; their keys and values go into the cache."""
        cache, first, mask = self.cache, 0, None
        kept_keys, kept_values = cache.of(layer)
        if cache.ragged:
            lines = torch.arange(len(self.tokens), device=self.tokens.device)
            kept_keys[lines, :, self.positions] = keys
            kept_values[lines, :, self.positions] = values
            mask = self._mask(window)
        else:
            kept_keys[:, :, cache.longest - 1] = keys
            kept_values[:, :, cache.longest - 1] = values
            first = 0 if window is None else max(0, cache.longest - window)
        # The heads that share keys and values are laid out as tokens, so that these are loaded once for all.
        attended = F.scaled_dot_product_attention(
            queries.reshape(len(queries), keys.shape[1], -1, queries.shape[2]),
            kept_keys[:, :, first : cache.longest],
            kept_values[:, :, first : cache.longest],
            attn_mask=mask,
        )
        return attended.flatten(1)

    def _mask(self, window: int | None) -> Tensor:
        """The attention mask of each sequence's new token, (sequences, 1, 1, longest)."""
        if window not in self.masks:
            places = torch.arange(self.cache.longest, device=self.positions.device)
            visible = places <= self.positions[:, None]
            if window is not None:
                visible &= places > self.positions[:, None] - window
            self.masks[window] = visible[:, None, None, :]
        return self.masks[window]
