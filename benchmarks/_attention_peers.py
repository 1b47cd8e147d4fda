"""The public toolkit beside RNNsearch, for benchmarks/attention.py: joeynmt's recurrent model, if it is installed."""

from __future__ import annotations

import sys
import types
from typing import Any

import torch
from torch import Tensor, nn

PAD, UNK, BOS, EOS = range(4)


class Joey(nn.Module):
    """joeynmt's GRU encoder and decoder with Bahdanau attention and input feeding, of the same sizes.

    Its step is lighter than RNNsearch's: context and state are joined into one vector of the state's size, which is
    fed to the unit and read by the output.
    """

    def __init__(self, vocabulary: int, hidden: int, dropout: float) -> None:
        super().__init__()
        # its helpers name the writer of a logging format; nothing here writes
        writer: Any = types.ModuleType("torch.utils.tensorboard")
        writer.SummaryWriter = object
        sys.modules.setdefault("torch.utils.tensorboard", writer)
        from joeynmt.model import build_model

        side = {
            "type": "recurrent",
            "rnn_type": "gru",
            "hidden_size": hidden,
            "embeddings": {"embedding_dim": hidden, "dropout": dropout},
            "dropout": dropout,
        }
        decoder = {**side, "attention": "bahdanau", "hidden_dropout": dropout, "init_hidden": "bridge"}
        words = Words(vocabulary)
        self.model = build_model(
            {"encoder": side, "decoder": decoder, "initializer": "xavier_uniform"}, words, words
        )
        self.model.loss_function = ("crossentropy", 0.0)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        lengths = (source != PAD).sum(1)
        order = lengths.argsort(descending=True)  # it packs sentences and asks for them in this order
        source, target, lengths = source[order], target[order], lengths[order]
        previous = torch.cat([torch.full_like(target[:, :1], BOS), target[:, :-1]], 1)
        loss = self.model(
            return_type="loss",
            src=source,
            src_length=lengths,
            src_mask=(source != PAD).unsqueeze(1),
            trg_input=previous.masked_fill(previous == EOS, PAD),
            trg=target,
            trg_mask=(target != PAD).unsqueeze(1),
        )[0]
        return loss / (target != PAD).sum()


class Words:
    """As much of its vocabulary as a model asks for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pad_index, self.unk_index, self.bos_index, self.eos_index, self.sep_index = (
            PAD,
            UNK,
            BOS,
            EOS,
            None,
        )
        self.specials, self.lang_tags = ["<pad>", "<unk>", "<s>", "</s>"], []

    def __len__(self) -> int:
        return self.size

    def lookup(self, token: str) -> int:
        return self.specials.index(token)


def joey(vocabulary: int, hidden: int, dropout: float) -> Joey | str:
    """The model, or why there is none."""
    try:
        return Joey(vocabulary, hidden, dropout)
    except Exception as error:
        return f"joeynmt is not measured: {type(error).__name__}: {error}"
