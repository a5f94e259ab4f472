// The tiles a warp multiplies, on their way from device memory through a ring of slots in shared memory.
// Copies run as far ahead as there are slots, across rows, matrices and tasks.
#pragma once

#include "kernels/cuda/matmul/fragment.cuh"
#include "kernels/cuda/matmul/work.cuh"

namespace cga::cuda {

/// A slot holds a tile: its codes, then its side, that is, plane and numbers.
template <class Tile>
struct Slot {
  static constexpr int side_bytes = Tile::plane_bytes + Tile::numbers_bytes;
  static constexpr int bytes = Tile::code_bytes + side_bytes;
  static constexpr int deep = ring_slots(bytes, true), shallow = ring_slots(bytes, false);
};

__device__ __forceinline__ void copy_16_bytes(std::uint32_t to, const std::byte* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

__device__ __forceinline__ void end_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until at most `Pending` of the groups of copies begun last are not there yet.
template <int Pending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

template <class Tile>
class WeightStream {
 public:
  /// @param ring         the warp's slots, shared
  /// @param first, last  the warp's stretch of tiles in every row
  __device__ __forceinline__ WeightStream(const DecodeArgs& args, std::byte* ring, bool deep, int first,
                                          int last, int lane)
      : ring_(ring), deep_(deep), first_(first), last_(last), tile_(first), lane_(lane) {
    more_ = first < last && has_work(args, 0);
    if (more_) go_to_matrix(args);
    const int n = n_slots();
    for (int i = 0; i < n; ++i) copy_next(args, i);
  }

  /// Takes the next tile into registers, and lets the copy of another begin.
  __device__ __forceinline__ void next(const DecodeArgs& args, Fragment<Tile>& w) {
    if (deep_) {
      wait_for_copies<Slot<Tile>::deep - 1>();
    } else {
      wait_for_copies<Slot<Tile>::shallow - 1>();
    }
    __syncwarp();  // lanes read what others copied
    const std::byte* slot = ring_ + slot_ * Slot<Tile>::bytes;
    w.load({slot, slot + Tile::code_bytes, slot + Tile::code_bytes + Tile::plane_bytes}, lane_);
    __syncwarp();
    copy_next(args, slot_);
    slot_ = slot_ + 1 == n_slots() ? 0 : slot_ + 1;
  }

 private:
  __device__ __forceinline__ int n_slots() const { return deep_ ? Slot<Tile>::deep : Slot<Tile>::shallow; }

  /// The lane's 16 bytes of the codes and of the side of the first tile of the n-th matrix.
  __device__ __forceinline__ void go_to_matrix(const DecodeArgs& args) {
    const Place place = place_of(args, n_);
    const TileArrays& weight = args.targets[place.target].weight;
    const TileAddress at = address_of<Tile>(weight, place.row_tile * weight.col_tiles + first_);
    codes_ = at.codes + 16 * lane_;
    side_ = in_plane() ? at.plane + 16 * lane_ : at.numbers + 16 * lane_ - Tile::plane_bytes;
    tile_ = first_;
  }

  __device__ __forceinline__ bool in_plane() const { return 16 * lane_ < Tile::plane_bytes; }

  __device__ __forceinline__ void copy_next(const DecodeArgs& args, int slot) {
    if (more_) {
      const auto to =
          static_cast<std::uint32_t>(__cvta_generic_to_shared(ring_ + slot * Slot<Tile>::bytes)) + 16 * lane_;
#pragma unroll
      for (int i = 0; i < Tile::code_bytes; i += 512) copy_16_bytes(to + i, codes_ + i);
      if (16 * lane_ < Slot<Tile>::side_bytes) copy_16_bytes(to + Tile::code_bytes, side_);
      codes_ += Tile::code_bytes;
      side_ += in_plane() ? Tile::plane_bytes : Tile::numbers_bytes;
      if (++tile_ == last_) {
        more_ = has_work(args, ++n_);
        if (more_) go_to_matrix(args);
      }
    }
    end_copies();  // an empty group if there is nothing more, so that counts stay right
  }

  std::byte* ring_;
  bool deep_, more_;
  int first_, last_;
  int n_ = 0, tile_;  // of the next copy
  int slot_ = 0;      // of the next tile
  int lane_;
  const std::byte* codes_ = nullptr;
  const std::byte* side_ = nullptr;
};

}  // namespace cga::cuda
