// Token id files; see the header for the format. The handler takes the parser's events, not its tree: ids go
// straight where they belong, and nothing is built of what a hostile file nests.
#include "tools/cga/commands/perplexity/token_ids.h"

#include <algorithm>
#include <array>
#include <bit>
#include <bitset>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>

#include "base/mapped_file.h"
#include "base/sha256.h"
#include "cga/error.h"

namespace cga::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "the checksum is of little-endian ids");

constexpr std::size_t max_file_bytes = std::size_t{256} << 20;
constexpr std::size_t max_ids = std::size_t{1} << 24;  // as many as a base file may cover
constexpr std::size_t max_label = 200;

enum class Member { format, version, name, tokenizer, source, bos, n_tokens, sha256, ids, none };
constexpr std::array<std::string_view, 9> member_names = {
    "format", "version", "name", "tokenizer", "source", "bos", "n_tokens", "sha256", "ids"};

[[noreturn]] void refuse(const std::string& where, std::string_view member, std::string_view problem) {
  throw Error(ErrorKind::bad_file, where + ": " + std::string(member), problem,
              "make the file again with tools/adapt/make_ids.py");
}

bool is_label(std::string_view text) {
  return text.size() <= max_label && std::all_of(text.begin(), text.end(), [](char c) {
           return c >= ' ' && c <= '~';  // printed as they are: nothing a terminal would obey
         });
}

std::string digest(std::span<const TokenId> ids) {
  Sha256 sum;
  sum.update(std::as_bytes(ids));
  return sum.finish();
}

class Handler final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Handler(const std::string& where) : where_(where) {}

  /// The text, once every member was there and they agree.
  TokenIds take() {
    for (std::size_t i = 0; i < member_names.size(); ++i) {
      if (!seen_[i]) refuse(where_, member_names[i], "missing");
    }
    if (format_ != "cga-token-ids") refuse(where_, "format", "this is no file of token ids");
    if (version_ != 1) refuse(where_, "version", std::to_string(version_) + ", expected 1");
    if (n_tokens_ != text_.ids.size()) {
      refuse(where_, "n_tokens",
             std::to_string(n_tokens_) + ", and there are " + std::to_string(text_.ids.size()) + " ids");
    }
    if (text_.ids.empty()) refuse(where_, "ids", "none");
    if (digest(text_.ids) != sha256_) refuse(where_, "sha256", "the checksum is not that of the ids");
    return std::move(text_);
  }

  bool start_object(std::size_t) override {
    if (opened_) wrong("an object");
    return opened_ = true;
  }

  bool key(std::string& text) override {
    const auto found = std::find(member_names.begin(), member_names.end(), text);
    if (found == member_names.end()) {
      refuse(where_, is_label(text) ? text : "a member", "unknown in version 1 of the format");
    }
    member_ = static_cast<Member>(found - member_names.begin());
    const auto index = static_cast<std::size_t>(member_);
    if (seen_[index]) refuse(where_, text, "there twice");
    seen_.set(index);
    return true;
  }

  bool end_object() override { return true; }

  bool start_array(std::size_t) override {
    if (member_ != Member::ids || in_array_) wrong("an array");
    return in_array_ = true;
  }

  bool end_array() override {
    in_array_ = false;
    return true;
  }

  bool string(std::string& text) override {
    std::string& value = text_of_member();
    if (!is_label(text)) {
      refuse(where_, label_of_member(),
             "found " + std::to_string(text.size()) + " bytes, expected at most " +
                 std::to_string(max_label) + " of printable ASCII");
    }
    value = text;
    return true;
  }

  bool boolean(bool value) override {
    if (member_ != Member::bos) wrong("a boolean");
    text_.bos = value;
    return true;
  }

  bool number_unsigned(std::uint64_t value) override {
    if (member_ == Member::version) {
      version_ = value;
    } else if (member_ == Member::n_tokens) {
      n_tokens_ = value;
    } else if (in_array_) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<TokenId>::max()))
        wrong("a number too large");
      if (text_.ids.size() == max_ids) wrong("more than " + std::to_string(max_ids) + " ids");
      text_.ids.push_back(static_cast<TokenId>(value));
    } else {
      wrong("a number");
    }
    return true;
  }

  bool number_integer(std::int64_t) override { wrong("a negative number"); }
  bool number_float(double, const std::string&) override { wrong("a fraction or a number too large"); }
  bool null() override { wrong("null"); }
  bool binary(nlohmann::json::binary_t&) override { wrong("binary"); }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    refuse(where_, "byte " + std::to_string(position), "the JSON is broken there");
  }

 private:
  std::string_view label_of_member() const { return member_names[static_cast<std::size_t>(member_)]; }

  std::string& text_of_member() {
    switch (member_) {
      case Member::format:
        return format_;
      case Member::name:
        return text_.name;
      case Member::tokenizer:
        return text_.tokenizer;
      case Member::source:
        return text_.source;
      case Member::sha256:
        return sha256_;
      default:
        wrong("a string");
    }
  }

  /// What is there and what belongs there.
  [[noreturn]] void wrong(std::string_view found) const {
    if (!opened_ || member_ == Member::none) {
      refuse(where_, "JSON", "found " + std::string(found) + ", expected an object of the format's members");
    }
    const std::string_view expected = in_array_                     ? "a token id, a whole number from 0 on"
                                      : member_ == Member::ids      ? "an array of token ids"
                                      : member_ == Member::bos      ? "true or false"
                                      : member_ == Member::version  ? "a whole number"
                                      : member_ == Member::n_tokens ? "a whole number"
                                                                    : "a string";
    const std::string at =
        in_array_ ? "ids[" + std::to_string(text_.ids.size()) + "]" : std::string(label_of_member());
    refuse(where_, at, "found " + std::string(found) + ", expected " + std::string(expected));
  }

  const std::string& where_;
  TokenIds text_;
  std::string format_, sha256_;
  std::uint64_t version_ = 0, n_tokens_ = 0;
  std::bitset<member_names.size()> seen_;
  Member member_ = Member::none;  // whose value comes next
  bool opened_ = false, in_array_ = false;
};

}  // namespace

TokenIds parse_token_ids(std::string_view json, const std::string& where) {
  if (json.size() > max_file_bytes) refuse(where, "size", std::to_string(json.size()) + " bytes");
  Handler handler(where);
  nlohmann::json::sax_parse(json, &handler);
  return handler.take();
}

TokenIds read_token_ids(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::span<const std::byte> bytes = file.bytes();
  return parse_token_ids({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
}

void require_vocabulary(const TokenIds& text, std::int32_t n_vocab, const std::string& where) {
  const auto outside =
      std::find_if(text.ids.begin(), text.ids.end(), [&](TokenId id) { return id >= n_vocab; });
  if (outside == text.ids.end()) return;
  refuse(where, "ids[" + std::to_string(outside - text.ids.begin()) + "]",
         std::to_string(*outside) + ", and the model has " + std::to_string(n_vocab) +
             " tokens: these ids are another tokenizer's (" + text.tokenizer + ")");
}

}  // namespace cga::cli
