#include "cache/kv_cache.h"

#include "base/checked.h"

namespace cga {

KvCache::KvCache(Backend& backend, const KvLayout& layout, std::int32_t n_layers, std::int32_t n_pages)
    : memory_(backend, layout, n_layers, n_pages, 0, "KV cache"), pool_(n_pages) {}

std::int32_t KvCache::pages_needed(const SequencePages& sequence, std::int32_t n_tokens) {
  return div_up(sequence.n_tokens_ + n_tokens, page_tokens) -
         static_cast<std::int32_t>(sequence.pages_.size());
}

void KvCache::grow(SequencePages& sequence, std::int32_t n_tokens) {
  for (std::int32_t n = pages_needed(sequence, n_tokens); n > 0; --n) sequence.pages_.push_back(pool_.take());
  sequence.n_tokens_ += n_tokens;
}

void KvCache::truncate(SequencePages& sequence, std::int32_t n_tokens) {
  const auto n_pages = static_cast<std::size_t>(div_up(n_tokens, page_tokens));
  while (sequence.pages_.size() > n_pages) {
    pool_.give_back(sequence.pages_.back());
    sequence.pages_.pop_back();
  }
  sequence.n_tokens_ = n_tokens;
}

}  // namespace cga
