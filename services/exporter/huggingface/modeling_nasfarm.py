"""A decoder of which each layer may be another, for transformers from 4.46 on.

This file stands beside the weights of every network that needs it, where `auto_map` in config.json names it, and is
part of nasfarm too: it imports nothing but torch and transformers. `layers` in config.json says of each layer what it
is, `arithmetic` what is computed besides. It doesn't build on the classes of the network's family: old releases lack
some of them, and none of them has layers without attention, heads that differ or shortcuts.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

CACHE = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"
"""What outputs call it. Inputs are taken by both names: 5.24 says `cache`, others said `past_key_values`."""
ROTARY_KEYS = ("rope_parameters", "rope_scaling", "rope_theta", "rope_local_base_freq")
"""Of the family. They are kept for those who know it, but transformers mustn't complete them: `arithmetic` counts."""


class NasfarmConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """What config.json says; keys of the network's `family` stand beside.

    `layers`: for each layer `hidden`, `attention`, `mlp`, `attention_shortcut` and `mlp_shortcut`. `arithmetic`:
    `norm_epsilon`, `norm_offset`, `embedding_scale`, and `rotaries`, by name and size of a head: the angle of each pair
    of numbers per position, and the scale of cosine and sine.
    """

    model_type = "nasfarm"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 (as transformers declares it)

    def __init__(
        self,
        family: str = "llama",
        layers: list[dict[str, Any]] | None = None,
        arithmetic: dict[str, Any] | None = None,
        vocab_size: int = 0,
        initializer_range: float = 0.02,
        use_cache: bool = True,
        tie_word_embeddings: bool = False,
        **others: Any,
    ) -> None:
        self.family = family
        self.layers = layers or []
        self.arithmetic = arithmetic or {}
        self.vocab_size = vocab_size
        self.initializer_range = initializer_range
        self.use_cache = use_cache
        # The layers are counted, not believed.
        others["num_hidden_layers"] = len(self.layers)
        rotary = {key: others.pop(key) for key in ROTARY_KEYS if key in others}
        others["tie_word_embeddings"] = tie_word_embeddings
        super().__init__(**others)
        for key, value in rotary.items():
            setattr(self, key, value)


class NasfarmRMSNorm(nn.Module):
    """Root mean square norm (arXiv 1910.07467). Where weights count from an offset, they are applied in float32."""

    def __init__(self, size: int, arithmetic: dict[str, Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon: float = arithmetic["norm_epsilon"]
        self.offset: float = arithmetic["norm_offset"]

    def forward(self, states: Tensor) -> Tensor:
        single = states.float()
        single = single * torch.rsqrt(single.pow(2).mean(-1, keepdim=True) + self.epsilon)
        if self.offset:
            return (single * (self.offset + self.weight.float())).to(states.dtype)
        weighted: Tensor = self.weight * single.to(states.dtype)
        return weighted


class NasfarmShortcut(nn.Module):
    """What the state goes through beside a block (SliceGPT, arXiv 2401.15024). No nn.Linear, as whatever quantises
    those would quantise it too."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, states: Tensor) -> Tensor:
        return F.linear(states, self.weight)


class _Positions:
    """Where the tokens of one pass stand, and what they see: worked out once for all layers."""

    def __init__(
        self, rotaries: dict[str, Any], ids: Tensor, states: Tensor, past: int, padding: Tensor | None
    ) -> None:
        self.rotaries, self.ids, self.states, self.past = rotaries, ids, states, past
        whole = padding is None or bool(padding.bool().all())
        self.padding = None if whole else padding
        self._tables: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        self._masks: dict[int | None, Tensor | None] = {}

    def tables(self, name: str, head_dim: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine, each (batch or 1, 1, tokens, head_dim)."""
        key = (name, head_dim)
        if key not in self._tables:
            rotary = self.rotaries[name][str(head_dim)]
            frequencies = torch.tensor(rotary["frequencies"], dtype=torch.float32, device=self.states.device)
            with torch.autocast(self.states.device.type, enabled=False):
                angles = self.ids[:, None, :, None].float() * frequencies
                angles = torch.cat((angles, angles), dim=-1)
                cosine, sine = angles.cos() * rotary["scale"], angles.sin() * rotary["scale"]
            self._tables[key] = (cosine.to(self.states.dtype), sine.to(self.states.dtype))
        return self._tables[key]

    def mask(self, window: int | None) -> Tensor | None:
        """Which keys each query sees, (batch or 1, 1, tokens, past + tokens); None: all up to itself."""
        tokens = self.states.shape[1]
        if window is not None and window >= self.past + tokens:
            window = None
        if window not in self._masks:
            self._masks[window] = self._mask(window, tokens)
        return self._masks[window]

    def _mask(self, window: int | None, tokens: int) -> Tensor | None:
        if window is None and self.padding is None and (self.past == 0 or tokens == 1):
            return None
        keys = torch.arange(self.past + tokens, device=self.states.device)
        queries = keys[self.past :, None]
        seen = keys <= queries
        if window is not None:
            seen = seen & (queries - keys < window)
        seen = seen[None, None]
        if self.padding is not None:
            seen = seen & self.padding.bool()[:, None, None, :]
            # Padding sees itself: a query that sees nothing would be a division by zero.
            seen = seen | (keys == queries)
        return seen


class NasfarmAttention(nn.Module):
    """A layer's attention, with the numbers of heads that its config gives; or only what stands in its place."""

    def __init__(self, config: NasfarmConfig, index: int, cached: int) -> None:
        super().__init__()
        layer = config.layers[index]
        self.config, self.shape, self.cached = config, layer["attention"], cached
        between = layer["attention_shortcut"] or layer["hidden"]
        if self.shape is not None:
            self.head_dim = self.shape["head_dim"]
            self.groups = self.shape["heads"] // self.shape["kv_heads"]
            self.scaling = self.shape["scale"] or self.head_dim**-0.5
            queries, keys = self.shape["heads"] * self.head_dim, self.shape["kv_heads"] * self.head_dim
            self.q_proj = nn.Linear(layer["hidden"], queries, bias=self.shape["qkv_bias"])
            self.k_proj = nn.Linear(layer["hidden"], keys, bias=self.shape["qkv_bias"])
            self.v_proj = nn.Linear(layer["hidden"], keys, bias=self.shape["qkv_bias"])
            self.o_proj = nn.Linear(queries, between, bias=self.shape["output_bias"])
            if self.shape["qk_norm"]:
                self.q_norm = NasfarmRMSNorm(self.head_dim, config.arithmetic)
                self.k_norm = NasfarmRMSNorm(self.head_dim, config.arithmetic)
        if layer["attention_shortcut"] is not None:
            self.shortcut = NasfarmShortcut(layer["hidden"], between)

    def forward(self, states: Tensor, positions: _Positions, cache: Cache | None) -> tuple[Tensor, Tensor | None]:
        """What attention adds, (batch, tokens, size), and its weights where the implementation has them."""
        heads = (*states.shape[:-1], -1, self.head_dim)
        queries, keys = self.q_proj(states).view(heads), self.k_proj(states).view(heads)
        values = self.v_proj(states).view(heads).transpose(1, 2)
        if self.shape["qk_norm"]:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        queries, keys = queries.transpose(1, 2), keys.transpose(1, 2)
        if self.shape["rotary"] is not None:
            cosine, sine = positions.tables(self.shape["rotary"], self.head_dim)
            queries, keys = _rotated(queries, cosine, sine), _rotated(keys, cosine, sine)
        if cache is not None:
            keys, values = cache.update(keys, values, self.cached)
            if keys.shape[2] != positions.past + states.shape[1]:
                raise ValueError(f"{type(cache).__name__} doesn't go with a nasfarm network: use a DynamicCache")
        keys, values = (tensor.repeat_interleave(self.groups, dim=1) for tensor in (keys, values))
        mask = positions.mask(self.shape["window"])
        if self.config._attn_implementation == "eager":
            found, weights = _eager(queries, keys, values, mask, self.scaling)
        else:
            weights = None
            found = F.scaled_dot_product_attention(
                queries, keys, values, mask, is_causal=mask is None and queries.shape[2] > 1, scale=self.scaling
            )
        return self.o_proj(found.transpose(1, 2).flatten(2)), weights


def _eager(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float) -> tuple[Tensor, Tensor]:
    scores = queries @ keys.transpose(2, 3) * scaling
    if mask is None:  # all up to itself, which for a single query is all
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril(
            keys.shape[2] - queries.shape[2]
        )
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1, dtype=torch.float32).to(values.dtype)
    return weights @ values, weights


def _rotated(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = heads.chunk(2, dim=-1)
    return heads * cosine + torch.cat((-second, first), dim=-1) * sine


class NasfarmMLP(nn.Module):
    """A layer's gated MLP, as wide as its config gives; or only what stands in its place."""

    def __init__(self, layer: dict[str, Any]) -> None:
        super().__init__()
        self.shape = layer["mlp"]
        between = layer["attention_shortcut"] or layer["hidden"]
        outputs = layer["mlp_shortcut"] or between
        if self.shape is not None:
            width, bias = self.shape["width"], self.shape["bias"]
            self.gate_proj = nn.Linear(between, width, bias=bias)
            self.up_proj = nn.Linear(between, width, bias=bias)
            self.down_proj = nn.Linear(width, outputs, bias=bias)
        if layer["mlp_shortcut"] is not None:
            self.shortcut = NasfarmShortcut(between, outputs)

    def forward(self, states: Tensor) -> Tensor:
        gate = self.gate_proj(states)
        gate = F.silu(gate) if self.shape["activation"] == "silu" else F.gelu(gate, approximate="tanh")
        return self.down_proj(gate * self.up_proj(states))  # type: ignore[no-any-return]


class NasfarmDecoderLayer(nn.Module):
    """Attention, then an MLP, each of which may be missing."""

    def __init__(self, config: NasfarmConfig, index: int, cached: int) -> None:
        super().__init__()
        layer = config.layers[index]
        attention, mlp = layer["attention"], layer["mlp"]
        between = layer["attention_shortcut"] or layer["hidden"]
        self.names = NORMS[config.family == "gemma3_text"]
        self.self_attn = NasfarmAttention(config, index, cached)
        self.mlp = NasfarmMLP(layer)
        sizes = {
            "attention": layer["hidden"] if attention else None,
            "attention_post": between if attention and attention["post_norm"] else None,
            "mlp": between if mlp else None,
            "mlp_post": (layer["mlp_shortcut"] or between) if mlp and mlp["post_norm"] else None,
        }
        for part, size in sizes.items():
            if size is not None:
                setattr(self, self.names[part], NasfarmRMSNorm(size, config.arithmetic))

    def forward(self, states: Tensor, positions: _Positions, cache: Cache | None) -> tuple[Tensor, Tensor | None]:
        """The state after the layer, (batch, tokens, size), and attention's weights where there are any."""
        added, weights = None, None
        if self.self_attn.shape is not None:
            added, weights = self.self_attn(self._normed("attention", states), positions, cache)
        states = self._added(self.self_attn, "attention_post", states, added)
        added = None if self.mlp.shape is None else self.mlp(self._normed("mlp", states))
        return self._added(self.mlp, "mlp_post", states, added), weights

    def _normed(self, part: str, states: Tensor) -> Tensor:
        return getattr(self, self.names[part])(states)  # type: ignore[no-any-return]

    def _added(self, block: Any, norm: str, states: Tensor, added: Tensor | None) -> Tensor:
        if hasattr(block, "shortcut"):
            states = block.shortcut(states)
        if added is None:
            return states
        return states + (self._normed(norm, added) if block.shape["post_norm"] else added)


NORMS = {
    False: {"attention": "input_layernorm", "mlp": "post_attention_layernorm"},
    True: {
        "attention": "input_layernorm",
        "attention_post": "post_attention_layernorm",
        "mlp": "pre_feedforward_layernorm",
        "mlp_post": "post_feedforward_layernorm",
    },
}
"""What checkpoints call the norms, without and with norms after the blocks."""


class NasfarmPreTrainedModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """What transformers wants to know of the models, by the names of all releases since 4.46."""

    config_class = NasfarmConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["NasfarmDecoderLayer"]  # noqa: RUF012 (as transformers declares it)
    _skip_keys_device_placement = ["past_key_values", "cache"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_cache_class = True
    _supports_static_cache = False

    def _init_weights(self, module: nn.Module) -> None:
        # By torch's own functions: transformers keeps those from what it has loaded.
        if isinstance(module, nn.Linear | nn.Embedding | NasfarmShortcut):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, NasfarmRMSNorm):
            nn.init.constant_(module.weight, 1 - module.offset)


class NasfarmModel(NasfarmPreTrainedModel):  # type: ignore[no-untyped-call]
    """Embeddings, layers, last norm."""

    def __init__(self, config: NasfarmConfig) -> None:
        super().__init__(config)
        if not config.layers or not config.arithmetic:
            raise ValueError("config.json has no `layers` or no `arithmetic`: `nasfarm export` writes both")
        layers = config.layers
        outputs = layers[-1]["mlp_shortcut"] or layers[-1]["attention_shortcut"] or layers[-1]["hidden"]
        self.embed_tokens: nn.Module = nn.Embedding(config.vocab_size, layers[0]["hidden"])
        # A cache holds layers that have attention and no others: its first one says how much is there.
        places = [sum(layer["attention"] is not None for layer in layers[:index]) for index in range(len(layers))]
        self.layers = nn.ModuleList(NasfarmDecoderLayer(config, index, place) for index, place in enumerate(places))
        self.norm = NasfarmRMSNorm(outputs, config.arithmetic)
        self.gradient_checkpointing = False
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embed_tokens = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        cache: Cache | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> BaseModelOutputWithPast | tuple[Any, ...]:
        """States after the last norm, (batch, tokens, size). `attention_mask` (batch, past + tokens): 0 at padding."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        states = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        scale = self.config.arithmetic["embedding_scale"]
        if scale != 1:
            states = states * torch.tensor(scale, dtype=states.dtype).item()
        cache = past_key_values if cache is None else cache
        recomputed = self.gradient_checkpointing and self.training
        if (self.config.use_cache if use_cache is None else use_cache) and not recomputed:
            cache = DynamicCache() if cache is None else cache
        past = 0 if cache is None else int(cache.get_seq_length())
        if position_ids is None:
            position_ids = torch.arange(past, past + states.shape[1], device=states.device)[None]
        positions = _Positions(self.config.arithmetic["rotaries"], position_ids, states, past, attention_mask)
        all_states: list[Any] = [states]
        all_weights: list[Any] = []
        for layer in self.layers:
            if recomputed:
                states, weights = self._gradient_checkpointing_func(layer.__call__, states, positions, cache)
            else:
                states, weights = layer(states, positions, cache)
            all_states.append(states)
            all_weights.append(weights)
        all_states[-1] = states = self.norm(states)
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        outputs = BaseModelOutputWithPast(
            last_hidden_state=states,
            hidden_states=tuple(all_states) if output_hidden_states else None,
            attentions=tuple(all_weights) if output_attentions else None,
            **{CACHE: cache},
        )
        return outputs if return_dict is not False else outputs.to_tuple()


class NasfarmForCausalLM(NasfarmPreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """The decoder with its language head."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 (as transformers declares it)

    def __init__(self, config: NasfarmConfig) -> None:
        super().__init__(config)
        self.model: NasfarmModel = NasfarmModel(config)
        self.lm_head: nn.Module = nn.Linear(len(self.model.norm.weight), config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.embed_tokens = value

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        cache: Cache | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **others: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits (batch, tokens, vocabulary), of the last `logits_to_keep` tokens alone if that is above 0; and the
        loss where there are `labels` (batch, tokens)."""
        found = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=past_key_values if cache is None else cache,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(found.last_hidden_state[:, kept, :])
        loss = None
        if labels is not None:
            items = {key: others[key] for key in ("num_items_in_batch",) if key in others}
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **items)
        outputs = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
            **{CACHE: getattr(found, CACHE)},
        )
        return outputs if return_dict is not False else outputs.to_tuple()
