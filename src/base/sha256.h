// SHA-256 (FIPS 180-4): names what a file was made for, so that two files that must belong together can be
// told from two that do not.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace cga {

class Sha256 {
 public:
  void update(std::span<const std::byte> bytes);

  /// Ends the message. @return its digest as 64 lower-case hexadecimal digits
  std::string finish();

 private:
  void add_block(const std::byte* block);  // 64 bytes

  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> pending_{};  // the message's last bytes, less than a block
  std::size_t n_pending_ = 0;
  std::uint64_t n_bytes_ = 0;
};

}  // namespace cga
