"""A key/value cache, and what a decoder reads with it: whole prompts first, then a token of each sequence at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.supernet.decoder import Decoder
from shared.supernet.segments import Segments


@dataclass
class Cache:
    """Keys and values of what was read, each (layers, sequences, kv_heads, capacity, head_dim).

    `lengths` (sequences,): how many tokens of each sequence that is. It lies on the device, beside what the host must
    know without asking: the greatest length, and whether lengths differ.
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor
    longest: int
    ragged: bool

    @classmethod
    def of_prompts(cls, network: Decoder, prompts: Sequence[Sequence[int]], more: int) -> "Cache":
        """Room for prompts, which are read next, and for `more` tokens of each."""
        shape, device = network.shape, network.embeddings.device
        lengths = [len(prompt) for prompt in prompts]
        size = (len(network.layers), len(prompts), shape.kv_heads, max(lengths) + more, shape.head_dim)
        return cls(  # zeros, since what is masked must at least be finite
            keys=network.embeddings.new_zeros(size),
            values=network.embeddings.new_zeros(size),
            lengths=torch.tensor(lengths, device=device),
            longest=max(lengths),
            ragged=len(set(lengths)) > 1,
        )


@dataclass(frozen=True)
class Prompts:
    """Prompts that are read at once, padded on the right to the longest: no token sees what comes after it.

    `tokens` and `positions` (sequences * longest,).
    """

    tokens: Tensor
    positions: Tensor
    cache: Cache

    @classmethod
    def begin(cls, prompts: Sequence[Sequence[int]], cache: Cache) -> "Prompts":
        """The prompts that a cache was made for."""
        device = cache.keys.device
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
        self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, window: int | None, steady: bool = False
    ) -> Tensor:
        """Attention within each prompt; its keys and values go into the cache."""
        longest = self.cache.longest
        queries, keys, values = (
            part.reshape(-1, longest, *part.shape[1:]).transpose(1, 2) for part in (queries, keys, values)
        )
        self.cache.keys[layer, :, :, :longest] = keys
        self.cache.values[layer, :, :, :longest] = values
        mask = None
        if window is not None and window < longest:
            mask = torch.ones(longest, longest, dtype=torch.bool, device=keys.device).tril().triu(1 - window)
        attended = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=mask is None, enable_gqa=queries.shape[1] != keys.shape[1]
        )
        return attended.transpose(1, 2).flatten(2).flatten(0, 1)


@dataclass(frozen=True)
class Step:
    """One more token of every sequence. `tokens` and `positions` (sequences,)."""

    tokens: Tensor
    positions: Tensor
    cache: Cache
    masks: dict[int | None, Tensor] = field(default_factory=dict)

    @classmethod
    def after(cls, cache: Cache, tokens: Tensor) -> "Step":
        """The tokens that follow what a cache holds."""
        step = cls(tokens, cache.lengths, cache)
        cache.lengths = cache.lengths + 1
        cache.longest += 1
        return step

    @cached_property
    def segments(self) -> Segments:
        """Each token: what was read before is in the cache, and no longer part of the row."""
        return Segments(torch.arange(len(self.tokens), device=self.tokens.device), len(self.tokens))

    def attend(
        self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, window: int | None, steady: bool = False
    ) -> Tensor:
        """Attention of the new tokens to all of their sequences; their keys and values go into the cache."""
        cache, first, mask = self.cache, 0, None
        if cache.ragged:
            lines = torch.arange(len(self.tokens), device=self.tokens.device)
            cache.keys[layer, lines, :, self.positions] = keys
            cache.values[layer, lines, :, self.positions] = values
            mask = self._mask(window)
        else:
            cache.keys[layer, :, :, cache.longest - 1] = keys
            cache.values[layer, :, :, cache.longest - 1] = values
            first = 0 if window is None else max(0, cache.longest - window)
        # The heads that share keys and values stand as if they were so many tokens: these are read once for all.
        attended = F.scaled_dot_product_attention(
            queries.reshape(len(queries), keys.shape[1], -1, queries.shape[2]),
            cache.keys[layer, :, :, first : cache.longest],
            cache.values[layer, :, :, first : cache.longest],
            attn_mask=mask,
        )
        return attended.flatten(1)

    def _mask(self, window: int | None) -> Tensor:
        """What each sequence's new token sees, (sequences, 1, 1, longest)."""
        if window not in self.masks:
            places = torch.arange(self.cache.longest, device=self.positions.device)
            visible = places <= self.positions[:, None]
            if window is not None:
                visible &= places > self.positions[:, None] - window
            self.masks[window] = visible[:, None, None, :]
        return self.masks[window]
