// The one exception type of the library, thrown at its edges: files, options, memory, devices.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace cga {

/// What went wrong, as the exit code a command reports for it.
enum class ErrorKind : int {
  usage = 2,     ///< options or arguments that cannot be honoured
  bad_file = 3,  ///< a model, sidecar or session file that is damaged, foreign or unsupported
  memory = 4,    ///< what was asked does not fit
  device = 5,    ///< a device is missing or failed
  io = 6,        ///< reading or writing failed
  partial = 7,   ///< some of the work was done and kept, some failed
};

/// An error a user can act on. `what()` reads "<where>: <problem>; <remedy>".
class Error : public std::runtime_error {
 public:
  /// @param where    file, and field within it, or the option at fault; may be empty
  /// @param problem  what was found and what was expected
  /// @param remedy   what the user can do; may be empty
  Error(ErrorKind kind, std::string_view where, std::string_view problem, std::string_view remedy = "");

  ErrorKind kind() const { return kind_; }
  int exit_code() const { return static_cast<int>(kind_); }

 private:
  ErrorKind kind_;
};

}  // namespace cga
