"""Encoding and decoding with a sidecar, exactly as docs/sidecar.md says: the oracle for the engine's codec."""

import torch

from . import bits, codebooks
from .sidecar import Group


class Codec:
    """One layer group at one rate. `precision` is what inner products are computed in: f32 for speed, f64 for vectors
    that other implementations are held to."""

    def __init__(self, group: Group, rate: float, precision: torch.dtype = torch.float32):
        self.group, self.precision = group, precision
        self.bits = torch.from_numpy(bits.allocate(group.variance.cpu().numpy(), group.n_channels, rate, group.n_wide))
        self.widths = self.bits.tolist()
        self.n_coded = int((self.bits > 0).sum())
        self.basis = group.basis_matrix().to(precision)  # [m, n]
        self.sigma = group.variance.sqrt()               # [m], f32
        self.levels = {**group.codebooks, 8: codebooks.UNIFORM_8.to(group.mean.device)}

    def _runs(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """(begin, end, width) of the runs of equal width among components [first, last), without those of 0 bits."""
        cuts = [first, *(i for i in range(first + 1, last) if self.widths[i] != self.widths[i - 1]), last]
        return [(a, b, self.widths[a]) for a, b in zip(cuts, cuts[1:]) if a < b and self.widths[a]]

    def _quantise(self, y: torch.Tensor, codes: torch.Tensor, first: int) -> torch.Tensor:
        """Writes codes [t, m] of components first, first+1, …, of which y [t, k] holds k; returns ŷ, f32 [t, k]."""
        restored = torch.zeros_like(y)
        for a, b, width in self._runs(first, first + y.shape[1]):
            index = codebooks.nearest(y[:, a - first:b - first] / self.sigma[a:b], self.levels[width])
            codes[:, a:b] = index.to(torch.uint8)
            restored[:, a - first:b - first] = self.levels[width][index] * self.sigma[a:b]
        return restored

    def components(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x: [t, n], f32, keys in the page's frame. Returns codes, u8 [t, m], and what was coded: y, f32 [t, m], the
        wide components of z and the rest of the residual z'."""
        g, w = self.group, self.group.n_wide
        z = ((x.float() - g.mean) * g.scale).to(self.precision)
        codes = torch.zeros(len(x), g.n_components, dtype=torch.uint8, device=x.device)
        wide = (z @ self.basis[:w].T).float()
        restored = self._quantise(wide, codes, 0)
        z -= restored.to(self.precision) @ self.basis[:w]
        rest = (z @ self.basis[w:].T).float()
        self._quantise(rest, codes, w)
        return codes, torch.cat([wide, rest], 1)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """x: [t, n] → codes, u8 [t, m]; 0 where a component has no bits."""
        return self.components(x)[0]

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """codes: u8 [t, m] → x̂, f32 [t, n], keys in the page's frame."""
        g = self.group
        y = torch.zeros(codes.shape, dtype=self.precision, device=codes.device)
        for a, b, width in self._runs(0, g.n_components):
            y[:, a:b] = self.levels[width][codes[:, a:b].long()] * self.sigma[a:b]
        z = y[:, :self.n_coded] @ self.basis[:self.n_coded]
        return (g.mean + z.float() / g.scale).float()
