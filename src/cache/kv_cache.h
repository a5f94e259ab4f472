// Exact keys and values of all sequences: pages of 64 tokens, the same ids in every layer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cache/page_memory.h"
#include "cache/page_pool.h"

namespace cga {

/// One sequence's hold on the cache.
class SequencePages {
 public:
  std::int32_t n_tokens() const { return n_tokens_; }
  std::span<const std::int32_t> pages() const { return pages_; }

 private:
  friend class KvCache;
  std::int32_t n_tokens_ = 0;
  std::vector<std::int32_t> pages_;
};

class KvCache {
 public:
  /// Address space for all pages is taken here; memory only as tokens arrive. @throws Error (memory)
  KvCache(Backend& backend, const KvLayout& layout, std::int32_t n_layers, std::int32_t n_pages);

  LayerPages layer(std::int32_t index) const { return memory_.layer(index); }
  std::int32_t n_free_pages() const { return pool_.n_free(); }

  /// Pages that must be free for the sequence to grow by n_tokens.
  static std::int32_t pages_needed(const SequencePages& sequence, std::int32_t n_tokens);

  /// Makes room for n_tokens more tokens. Requires pages_needed() <= n_free_pages().
  void grow(SequencePages& sequence, std::int32_t n_tokens);

  /// Forgets all tokens from position n_tokens on and frees the pages that held only those.
  void truncate(SequencePages& sequence, std::int32_t n_tokens);

 private:
  PageMemory memory_;
  PagePool pool_;
};

}  // namespace cga
