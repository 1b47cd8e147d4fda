"""Two DataLoader workers that change tensors in place, and a training loop that leaks."""

import torch
from torch.utils.data import DataLoader, Dataset


class Squares(Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        weight = torch.ones(4, requires_grad=True)
        x = weight * index
        x *= x
        return x.detach()


if __name__ == "__main__":
    linear = torch.nn.Linear(4, 4)
    for batch in DataLoader(Squares(), batch_size=4, num_workers=2):
        x = linear(batch)
        x += x**2  # leaks
    print("batches done")
