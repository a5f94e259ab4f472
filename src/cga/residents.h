// Which units of one sequence are kept decoded for the layers of one selection group: a cache that saves
// decoding and never changes a result. A slot has room for one unit, in all layers of the group.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cga {

class Residents {
 public:
  static constexpr std::int32_t absent = -1;

  /// Finds slots for the units that a step reads. Where there are too few, units that were read longest ago
  /// make room (among equals the lower slot first); those of this step never do.
  /// @param units    numbers in the sequence, ascending
  /// @param n_slots  that may be used; never falls
  /// @param slots    [units.size()]: gets the slot of each, absent where there is no room
  /// @param fresh    gets the places in `units` of those that were given a slot and must be decoded into it
  void resolve(std::span<const std::int32_t> units, std::int32_t n_slots, std::span<std::int32_t> slots,
               std::vector<std::size_t>& fresh);

  /// Units from this one on are not what they were.
  void forget_from(std::int32_t unit);

  std::int32_t n_used() const { return static_cast<std::int32_t>(slots_.size()); }

 private:
  struct Slot {
    std::int32_t unit = absent;
    std::int64_t last_read = 0;  // step
  };
  void find_victims(std::size_t n);

  std::vector<Slot> slots_;            // used ones
  std::vector<std::int32_t> slot_of_;  // [units seen so far]
  std::vector<std::int32_t> victims_;  // slots to be given away, the first last
  std::int64_t step_ = 0;
};

}  // namespace cga
