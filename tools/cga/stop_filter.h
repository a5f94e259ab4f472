// Stop strings: a streamed text ends before the first of them, and no part of one is ever printed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cga::cli {

class StopFilter {
 public:
  /// @param stops  empty strings are ignored
  explicit StopFilter(std::vector<std::string> stops);

  /// @return the text that may be shown now: what could still become a stop string is held back
  std::string push(std::string_view text);

  /// @return what was held back and, the text being over, begins no stop string after all
  std::string finish();

  bool stopped() const { return stopped_; }  ///< a stop string was met; whatever follows is dropped

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace cga::cli
