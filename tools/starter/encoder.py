"""The cross-encoder's forward pass for training, and the grid its weights end on.

The same arithmetic as transformers' XLMRobertaForSequenceClassification, with the module's own
parameters, but Q, K and V as one product and the last layer for the first token alone: a quarter
less work.  (tests: test_recipe.py; eval.py compares with transformers each time.)
"""
import torch
import torch.nn.functional as F

HEAD = 32

# Sets of four weights that processors without VNNI add in 16 bits: rerankd limits the positive
# and the negative sum of each (src/cpu/kern.h, i8_wtop).
MOST, MOST_IN_SET = 127, 129
CALM = 6.0  # what 224 normal numbers have, about


def in_sets(q):
    """[n, k] -> [n, k / 4, 4], the elements of a set together; k is a multiple of 8"""
    return q.view(len(q), -1, 2, 2, 2).transpose(2, 3).reshape(len(q), -1, 4)


def out_of_sets(sets, k):
    return sets.view(len(sets), -1, 2, 2, 2).transpose(2, 3).reshape(len(sets), k)


def whole_steps(w, step):
    """w / step rounded to whole numbers that keep to both limits"""
    sets = in_sets(w / step)
    # A set that is too large gives up the same share of each of its weights, rounded down.
    for sign in (1, -1):
        side = (sets * sign).clamp(min=0)
        total = side.sum(2, keepdim=True)
        over = side.round().sum(2, keepdim=True) > MOST_IN_SET
        side = torch.where(over, (side * (MOST_IN_SET / total.clamp(min=1e-9)).clamp(max=1)).floor(),
                           side.round())
        sets = torch.where(sets * sign > 0, side * sign, sets)
    return out_of_sets(sets.clamp(-MOST, MOST), w.shape[1])


@torch.no_grad()
def on_grid(w):
    """w with each row at whole multiples of a power of two: int8, bf16 and f16 all hold that
    exactly.  The step is the smallest that needs no clipping or half of it, whichever is nearer."""
    need = torch.maximum(w.abs().amax(1) / MOST,
                         torch.stack([(in_sets(w) * s).clamp(min=0).sum(2).amax(1)
                                      for s in (1, -1)]).amax(0) / MOST_IN_SET)
    step = torch.exp2(torch.ceil(torch.log2(need.clamp(min=2.0 ** -16))))[:, None]
    wide, fine = (whole_steps(w, s) * s for s in (step, step / 2))
    nearer = ((fine - w).square().sum(1) < (wide - w).square().sum(1))[:, None]
    return torch.where(nearer, fine, wide)


def gridded(model):
    """The names of the weights that are put on the grid: every linear layer's"""
    return [n for n, p in model.named_parameters() if p.dim() == 2 and "embeddings" not in n]


@torch.no_grad()
def eight_bits(x):
    """What is left of x, [..., k], as rerankd's int8 layers see it: 255 levels a row"""
    low, high = x.aminmax(dim=-1, keepdim=True)
    scale = ((high - low) / 254).clamp(min=1e-30)
    return low + ((x - low) / scale).round_() * scale


def excess(x):
    """By how much the range of the elements of each row of x, [..., k], is more than CALM of their
    standard deviations, on the mean: rounding errors in eight bits are in proportion to the range"""
    x = x.float()
    return ((x.amax(-1) - x.amin(-1)) / (x.std(-1) + 1e-6) - CALM).clamp(min=0).mean()


class Encoder:
    """grid: weights are used on the grid and inputs of the linear layers in eight bits; gradients
    pass as if they were not (straight through).  excesses: a list that gets those of all inputs
    that rerankd rounds, or None.  kept: weights on the grid, kept from one use to the next by who
    clears it whenever the weights change, or None."""

    def __init__(self, model, grid=False):
        self.model, self.grid, self.excesses, self.kept = model, grid, None, None

    def on_grid(self, w, layers):
        if self.kept is None:
            return on_grid(w)
        if layers not in self.kept:
            self.kept[layers] = on_grid(w)
        return self.kept[layers]

    def linear(self, x, *layers, rounded=True):
        w, b = (torch.cat([getattr(l, n) for l in layers]) for n in ("weight", "bias"))
        if rounded and self.excesses is not None:
            self.excesses.append(excess(x))
        if self.grid:
            w = w + (self.on_grid(w, layers) - w).detach()
            if rounded:
                x = x + (eight_bits(x) - x).detach()
        return F.linear(x, w, b)

    def hidden(self, ids, mask, positions):
        """The states before and after each layer, the last one for the first token alone"""
        emb = self.model.roberta.embeddings
        x = emb.LayerNorm(emb.word_embeddings(ids) + emb.position_embeddings(positions)
                          + emb.token_type_embeddings.weight[0])
        states, layers = [x], self.model.roberta.encoder.layer
        allowed = (mask == 1)[:, None, None, :]
        for number, layer in enumerate(layers):
            at, last = layer.attention, number == len(layers) - 1
            own, per_token = at.self, not last
            if last:  # rerankd computes one row a text here, and not in int8
                k, v = self.linear(x, own.key, own.value).chunk(2, -1)
                x = x[:, :1]
                q = self.linear(x, own.query, rounded=False)
            else:
                q, k, v = self.linear(x, own.query, own.key, own.value).chunk(3, -1)
            o = F.scaled_dot_product_attention(*map(heads, (q, k, v)), attn_mask=allowed)
            o = o.transpose(1, 2).reshape(x.shape)
            x = at.output.LayerNorm(x + self.linear(o, at.output.dense, rounded=per_token))
            inner = F.gelu(self.linear(x, layer.intermediate.dense, rounded=per_token))
            x = layer.output.LayerNorm(x + self.linear(inner, layer.output.dense, rounded=per_token))
            states.append(x)
        return states

    def logits(self, first):
        head = self.model.classifier
        x = torch.tanh(self.linear(first, head.dense, rounded=False))
        return self.linear(x, head.out_proj, rounded=False).squeeze(-1)

    def score(self, ids, mask):
        positions = torch.where(ids == 1, 1, torch.arange(2, ids.shape[1] + 2)[None])
        return self.logits(self.hidden(ids, mask, positions)[-1][:, 0])


def heads(x):
    """[pairs, tokens, width] -> [pairs, heads, tokens, HEAD]"""
    return x.view(*x.shape[:2], -1, HEAD).transpose(1, 2)
