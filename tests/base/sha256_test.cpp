// SHA-256 against the examples of FIPS 180-4 and NIST's test vectors, and however a message is cut.
#include "base/sha256.h"

#include <string>

#include "support/catch.h"

namespace cga {
namespace {

std::string digest(std::string_view message, std::size_t step = 0) {
  Sha256 hash;
  if (step == 0) step = message.size() + 1;
  for (std::size_t i = 0; i < message.size(); i += step) {
    hash.update(std::as_bytes(std::span(message.substr(i, step))));
  }
  return hash.finish();
}

TEST_CASE("published digests", "[sha256]") {
  CHECK(digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(digest("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnop"
               "qrsmnopqrstnopqrstu") == "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  CHECK(digest(std::string(1'000'000, 'a'), 4096 + 7) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  CHECK(digest("\xbd") == "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b");
}

TEST_CASE("every length around a block, cut anywhere, gives the same digest", "[sha256]") {
  for (std::size_t length = 0; length <= 200; ++length) {
    std::string message;
    for (std::size_t i = 0; i < length; ++i) message += static_cast<char>('a' + i * i % 26);
    const std::string whole = digest(message);
    for (const std::size_t step : {1, 3, 55, 56, 63, 64, 65, 130}) CHECK(digest(message, step) == whole);
  }
}

}  // namespace
}  // namespace cga
