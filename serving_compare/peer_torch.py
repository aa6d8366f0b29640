"""The classifier as a torch module: embedding, GRU layers, pooling, head. Imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

if TYPE_CHECKING:
    from serving_compare.peer_weights import Float32, GraphWeights


class Classifier(nn.Module):  # type: ignore[misc]
    """Ids (B, T) int32 and lengths (B,) int32 to probabilities (B, C).

    Args:
        weights: What it computes with.
    """

    def __init__(self, weights: GraphWeights) -> None:
        super().__init__()
        first = weights.layers[0]
        units = first[0].recurrent_kernel.shape[1]
        width = units * len(first)
        self.pooling, self.relu = weights.pooling, weights.relu
        self.embedding = nn.Embedding.from_pretrained(_to_tensor(weights.embedding))
        self.gru = nn.GRU(
            weights.embedding.shape[1],
            units,
            num_layers=len(weights.layers),
            bidirectional=len(first) == 2,
            batch_first=True,
        )
        self.head = nn.Linear(width, len(weights.head_bias))
        with torch.no_grad():
            for layer, directions in enumerate(weights.layers):
                for arrays, suffix in zip(directions, ("", "_reverse"), strict=False):
                    for name, gates in {
                        "weight_ih": arrays.kernel,
                        "weight_hh": arrays.recurrent_kernel,
                        "bias_ih": arrays.bias[0],
                        "bias_hh": arrays.bias[1],
                    }.items():
                        getattr(self.gru, f"{name}_l{layer}{suffix}").copy_(_reorder(gates))
            self.head.weight.copy_(_to_tensor(weights.head_kernel).T)
            self.head.bias.copy_(_to_tensor(weights.head_bias))

    def forward(self, ids: Any, lengths: Any) -> Any:
        """Return probabilities (B, C). A row without tokens is its first id."""
        lengths = lengths.clamp(min=1)
        if len(ids) == 1:  # what packing takes is worth it for batches alone
            states, final = self.gru(self.embedding(ids[:, : int(lengths[0])]))
        else:
            packed = pack_padded_sequence(
                self.embedding(ids), lengths, batch_first=True, enforce_sorted=False
            )
            packed_states, final = self.gru(packed)
            floor = -2.0 if self.pooling == "max" else 0.0  # states lie in [-1, 1]
            states, _ = pad_packed_sequence(packed_states, batch_first=True, padding_value=floor)
        pooled = self._pool(states, final, lengths)
        return torch.softmax(self.head(torch.relu(pooled) if self.relu else pooled), dim=-1)

    def _pool(self, states: Any, final: Any, lengths: Any) -> Any:
        if self.pooling == "max":
            return states.amax(dim=1)
        if self.pooling == "mean":
            return states.sum(dim=1) / lengths[:, None]
        last = final[-2:] if self.gru.bidirectional else final[-1:]  # (directions, B, H)
        return torch.cat(tuple(last), dim=1)


def build_module(weights: GraphWeights) -> Any:
    """Return the classifier in eval mode."""
    return Classifier(weights).eval()


def _to_tensor(array: Float32) -> Any:
    return torch.from_numpy(array.copy())  # a graph's arrays are read-only


def _reorder(gates: Float32) -> Any:
    """Return gates (3H, ...) of Keras's order z, r, candidate in torch's: r, z, candidate."""
    z, r, candidate = _to_tensor(gates).chunk(3)
    return torch.cat((r, z, candidate))
