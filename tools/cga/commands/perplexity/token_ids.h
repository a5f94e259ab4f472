// A text as token ids, in a file that says whether it is whole: what two programs are measured on is then the
// same to the last token, whatever their tokenizers do. tools/adapt/make_ids.py writes such files; the format
// is JSON:
//
//   {"format": "cga-token-ids", "version": 1, "name": "wiki", "tokenizer": "smollm, 49152 tokens",
//    "source": "wiki.test.raw", "bos": false, "n_tokens": 3, "sha256": "…", "ids": [504, 2365, 282]}
//
// `sha256` is that of the ids as little-endian i32. `bos`: whether BOS belongs in front of them, for models
// that want it; false: they are fed as they are. name, tokenizer and source are printable ASCII, for people.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "cga/tokenizer.h"

namespace cga::cli {

struct TokenIds {
  std::string name, tokenizer, source;
  bool bos = false;
  std::vector<TokenId> ids;
};

/// @param where  names the text in errors
/// @throws Error (bad_file) naming the member that is missing, repeated, unknown, of another type or wrong
TokenIds parse_token_ids(std::string_view json, const std::string& where);

/// @throws Error (io, bad_file)
TokenIds read_token_ids(const std::filesystem::path& path);

/// @throws Error (bad_file) unless the ids are those of a vocabulary of this size
void require_vocabulary(const TokenIds& text, std::int32_t n_vocab, const std::string& where);

}  // namespace cga::cli
