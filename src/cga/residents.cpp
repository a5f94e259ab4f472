#include "cga/residents.h"

#include <algorithm>

namespace cga {

void Residents::resolve(std::span<const std::int32_t> units, std::int32_t n_slots,
                        std::span<std::int32_t> slots, std::vector<std::size_t>& fresh) {
  ++step_;
  fresh.clear();
  if (!units.empty() && static_cast<std::size_t>(units.back()) >= slot_of_.size()) {
    slot_of_.resize(static_cast<std::size_t>(units.back()) + 1, absent);
  }
  std::size_t n_missing = 0;
  for (std::size_t i = 0; i < units.size(); ++i) {
    slots[i] = slot_of_[static_cast<std::size_t>(units[i])];
    if (slots[i] == absent) {
      ++n_missing;
    } else {
      slots_[static_cast<std::size_t>(slots[i])].last_read = step_;
    }
  }
  if (n_missing == 0) return;

  const auto most = static_cast<std::size_t>(n_slots);
  const std::size_t n_new = std::min(n_missing, most - std::min(most, slots_.size()));
  find_victims(n_missing - n_new);
  for (std::size_t i = 0; i < units.size(); ++i) {
    if (slots[i] != absent) continue;
    if (slots_.size() < most) {
      slots[i] = static_cast<std::int32_t>(slots_.size());
      slots_.emplace_back();
    } else if (!victims_.empty()) {
      slots[i] = victims_.back();
      victims_.pop_back();
      const std::int32_t evicted = slots_[static_cast<std::size_t>(slots[i])].unit;
      if (evicted != absent) slot_of_[static_cast<std::size_t>(evicted)] = absent;
    } else {
      return;  // the rest finds no room
    }
    slots_[static_cast<std::size_t>(slots[i])] = {units[i], step_};
    slot_of_[static_cast<std::size_t>(units[i])] = slots[i];
    fresh.push_back(i);
  }
}

void Residents::find_victims(std::size_t n) {
  victims_.clear();
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot].last_read < step_) victims_.push_back(static_cast<std::int32_t>(slot));
  }
  n = std::min(n, victims_.size());
  const auto sooner = [this](std::int32_t a, std::int32_t b) {
    const std::int64_t read_a = slots_[static_cast<std::size_t>(a)].last_read;
    const std::int64_t read_b = slots_[static_cast<std::size_t>(b)].last_read;
    return read_a != read_b ? read_a < read_b : a < b;
  };
  const auto end = victims_.begin() + static_cast<std::ptrdiff_t>(n);
  std::partial_sort(victims_.begin(), end, victims_.end(), sooner);
  victims_.resize(n);
  std::reverse(victims_.begin(), victims_.end());
}

void Residents::forget_from(std::int32_t unit) {
  for (Slot& slot : slots_) {
    if (slot.unit != absent && slot.unit >= unit) slot = {};
  }
  slot_of_.resize(std::min(slot_of_.size(), static_cast<std::size_t>(unit)));
}

}  // namespace cga
