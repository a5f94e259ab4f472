// The tiles a warp multiplies, on their way from device memory through a ring of slots in shared memory.
// Copies run as far ahead as there are slots, across rows, matrices and tasks.
#pragma once

#include "kernels/cuda/matmul/fragment.cuh"
#include "kernels/cuda/matmul/work.cuh"

namespace cga::cuda {

/// A slot holds Tile::step tiles: their codes, then their planes, then their numbers. Of a row's last tiles
/// it may hold fewer.
template <class Tile>
struct Slot {
  static constexpr int step = Tile::step;
  static constexpr int codes = step * Tile::code_bytes, plane = step * Tile::plane_bytes;
  static constexpr int numbers = step * Tile::numbers_bytes;
  static constexpr int bytes = codes + plane + numbers;

  /// @param i  of the slot's tiles
  static __device__ __forceinline__ TileAddress tile(const std::byte* slot, int i) {
    return {slot + i * Tile::code_bytes, slot + codes + i * Tile::plane_bytes,
            slot + codes + plane + i * Tile::numbers_bytes};
  }
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

/// @param Slots  numbers of slots that a ring may have
template <class Tile, int... Slots>
class WeightStream {
  using S = Slot<Tile>;

 public:
  /// @param ring         the warp's slots, shared
  /// @param n_slots      one of Slots
  /// @param first, last  the warp's tiles in every row
  __device__ __forceinline__ WeightStream(const DecodeArgs& args, const Share& share, std::byte* ring,
                                          int n_slots, int first, int last, int lane)
      : ring_(ring),
        end_(ring + n_slots * S::bytes),
        slot_(ring),
        n_slots_(n_slots),
        share_(share),
        first_(first),
        n_tiles_(last - first),
        lane_(lane) {
    if (n_tiles_ > 0) go_to_matrix(args);
    for (; slot_ != end_; slot_ += S::bytes) copy_next(args);
    slot_ = ring;
  }

  /// Takes the next tiles into registers, and lets the copy of others begin.
  __device__ __forceinline__ void next(const DecodeArgs& args, Fragment<Tile> (&w)[Tile::step]) {
    if constexpr (sizeof...(Slots) == 1) {
      (wait_for_copies<Slots - 1>(), ...);
    } else {
      ((n_slots_ == Slots ? wait_for_copies<Slots - 1>() : void()), ...);
    }
    __syncwarp();  // lanes read what others copied
#pragma unroll
    for (int i = 0; i < Tile::step; ++i) w[i].load(S::tile(slot_, i), lane_);
    __syncwarp();
    copy_next(args);
    slot_ += S::bytes;
    if (slot_ == end_) slot_ = ring_;
  }

 private:
  /// The lane's 16 bytes of each array of the first tile of the n-th matrix, if there is one.
  __device__ __forceinline__ void go_to_matrix(const DecodeArgs& args) {
    if (!has_work(args, share_, n_)) return;
    const Place place = place_of(args, share_, n_);
    const TileArrays& weight = args.targets[place.target].weight;
    at_ = address_of<Tile>(weight, place.row_tile * weight.col_tiles + first_);
    at_.codes += 16 * lane_;
    at_.plane += 16 * lane_;
    at_.numbers += 16 * lane_;
    left_ = n_tiles_;
    ++n_;
  }

  /// Into the slot at hand.
  __device__ __forceinline__ void copy_next(const DecodeArgs& args) {
    if (left_ > 0) {
      const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(slot_)) + 16 * lane_;
      const bool whole = left_ >= Tile::step;  // or it is one tile
      copy_array<Tile::code_bytes>(to, at_.codes, whole);
      copy_array<Tile::plane_bytes>(to + S::codes, at_.plane, whole);
      copy_array<Tile::numbers_bytes>(to + S::codes + S::plane, at_.numbers, whole);
      left_ -= Tile::step;
      if (left_ <= 0) go_to_matrix(args);
    }
    end_copies();  // an empty group if there is nothing more, so that counts stay right
  }

  /// A slot's tiles of one array, or only the first.
  template <int TileBytes>
  __device__ __forceinline__ void copy_array(std::uint32_t to, const std::byte*& from, bool whole) const {
    constexpr int bytes = Tile::step * TileBytes;
#pragma unroll
    for (int i = 0; i < bytes; i += 512) {
      const int left = bytes - i;               // constant
      const int left_of_first = TileBytes - i;  // constant
      const bool in_all = left >= 512 || 16 * lane_ < left;
      const bool in_first = left_of_first >= 512 || 16 * lane_ < left_of_first;
      if (in_all && (whole || in_first)) copy_16_bytes(to + i, from + i);
    }
    from += bytes;  // where a row ends early it is not used again
  }

  std::byte *ring_, *end_;
  std::byte* slot_;  // of the next tiles
  int n_slots_;
  Share share_;
  int first_, n_tiles_;  // the warp's, of every matrix
  int left_ = 0;         // tiles of a matrix that are not copied yet
  int n_ = 0;            // matrices of which copies have begun
  int lane_;
  TileAddress at_;
};

}  // namespace cga::cuda
