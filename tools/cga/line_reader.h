// Lines from whoever sits at the other end: edited and remembered on a terminal, plain from a pipe.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "tools/cga/interrupts.h"

namespace cga::cli {

class LineReader {
 public:
  virtual ~LineReader() = default;

  /// @return the next line without its end; nullopt at the end of the input or when a signal is pending
  virtual std::optional<std::string> read() = 0;
  virtual bool is_interactive() const = 0;
};

/// Reads standard input. Must be used inside an Interrupts::Polling.
std::unique_ptr<LineReader> make_line_reader(const Interrupts& interrupts);

}  // namespace cga::cli
