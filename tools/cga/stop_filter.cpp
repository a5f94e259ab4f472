// Matching stop strings in a text that arrives in pieces.
#include "tools/cga/stop_filter.h"

#include <algorithm>
#include <utility>

namespace cga::cli {
namespace {

/// Length of the longest end of `text` that begins `stop` without being all of it.
std::size_t begun(std::string_view text, std::string_view stop) {
  for (std::size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n) {
    if (text.substr(text.size() - n) == stop.substr(0, n)) return n;
  }
  return 0;
}

}  // namespace

StopFilter::StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, "");
}

std::string StopFilter::push(std::string_view text) {
  if (stopped_) return "";
  held_ += text;
  std::size_t end = std::string::npos;
  for (const std::string& stop : stops_) end = std::min(end, held_.find(stop));
  if (end != std::string::npos) {
    stopped_ = true;
    held_.resize(end);
    return std::exchange(held_, "");
  }
  std::size_t n_kept = 0;
  for (const std::string& stop : stops_) n_kept = std::max(n_kept, begun(held_, stop));
  std::string shown = held_.substr(0, held_.size() - n_kept);
  held_.erase(0, shown.size());
  return shown;
}

std::string StopFilter::finish() {
  return std::exchange(held_, "");
}

}  // namespace cga::cli
