// Purity as a property, on any device: whatever a session went through (pieces, neighbours, marks, going
// back, residents that come and go), its next logits are those of a fresh session that was fed the same text
// in the same spans.
#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "cga/engine.h"
#include "runtime/random_text.h"
#include "support/catch.h"

namespace cga::test {

using Random = std::mt19937;

inline std::size_t below(Random& random, std::size_t n) {
  return random() % n;
}

inline EngineOptions purity_options(const std::string& device, Random& random) {
  const auto pick = [&](std::initializer_list<std::int32_t> values) {
    return *(values.begin() + below(random, values.size()));
  };
  EngineOptions result;
  result.model = CGA_VECTORS "/tiny/qwen2-mixed.gguf";
  const std::string sidecars[] = {"one", "two", "adapted"};
  result.sidecar = CGA_VECTORS "/index/" + sidecars[below(random, 3)] + ".cga";
  result.device = device;
  result.kv = KvType::cga;
  result.n_ctx = 512;
  result.n_threads = pick({1, 2});
  result.kv_window = 64;
  result.kv_sparse_from = pick({0, 128, 256});
  result.kv_budget = pick({16, 64, 128});
  result.kv_refresh = pick({1, 1, 8});
  result.kv_inertia = static_cast<float>(pick({0, 1, 3})) / 2;
  result.kv_followup_from = 1;  // so that a text that is cut is still one
  return result;
}

struct Piece {
  std::vector<TokenId> tokens;
  Feed::Span span;
};

/// What a session holds, and as what it came in.
class History {
 public:
  void add(std::vector<TokenId> tokens, Feed::Span span) {
    size_ += tokens.size();
    // Generated text may be cut anywhere; every text is one of its own.
    if (span == Feed::Span::generated && !pieces_.empty() && pieces_.back().span == span) {
      pieces_.back().tokens.insert(pieces_.back().tokens.end(), tokens.begin(), tokens.end());
    } else {
      pieces_.push_back({std::move(tokens), span});
    }
  }
  void cut(std::size_t n) {
    while (size_ > n) {
      std::vector<TokenId>& last = pieces_.back().tokens;
      const std::size_t drop = std::min(size_ - n, last.size());
      last.resize(last.size() - drop);
      size_ -= drop;
      if (last.empty()) pieces_.pop_back();
    }
  }
  std::size_t size() const { return size_; }
  const std::vector<Piece>& pieces() const { return pieces_; }

 private:
  std::vector<Piece> pieces_;
  std::size_t size_ = 0;
};

inline std::vector<float> run_span(Engine& engine, Session& session, std::span<const TokenId> tokens,
                                   Feed::Span span) {
  const Feed feed{&session, tokens, Feed::Want::last, span};
  const std::span<const float> logits = engine.run({&feed, 1});
  return {logits.begin(), logits.end()};
}

/// Logits of one token more, in an engine that never saw anything else.
inline std::vector<float> expected(EngineOptions plain, const History& history, TokenId next) {
  plain.kv_residents = 512;
  Engine engine(plain);
  Session session(engine);
  for (const Piece& piece : history.pieces()) run_span(engine, session, piece.tokens, piece.span);
  return run_span(engine, session, std::span(&next, 1), Feed::Span::generated);
}

struct Conversation {
  explicit Conversation(Engine& engine) : session(engine) {}
  Session session;
  History history;
  std::string trace;  // for whoever must find out what went wrong
};

inline void step(Engine& engine, Conversation& at, Random& random) {
  const std::size_t room = 500 - at.history.size();
  switch (below(random, 6)) {
    case 0:  // text
    case 1: {
      const std::size_t n = std::min(room, 1 + below(random, 200));
      if (n == 0) return;
      const std::vector<TokenId> tokens = random_text(n, static_cast<std::uint32_t>(random()));
      at.trace += " read " + std::to_string(n);
      run_span(engine, at.session, tokens, Feed::Span::prompt);
      return at.history.add(tokens, Feed::Span::prompt);
    }
    case 2:  // generated
    case 3: {
      const std::size_t n = std::min(room, 1 + below(random, 90));
      if (n == 0 || at.history.size() == 0) return;
      const std::vector<TokenId> tokens = random_text(n, static_cast<std::uint32_t>(random()));
      at.trace += " generate " + std::to_string(n);
      for (std::size_t done = 0; done < n;) {
        const std::size_t piece = std::min(n - done, 1 + below(random, 30));
        run_span(engine, at.session, std::span(tokens).subspan(done, piece), Feed::Span::generated);
        done += piece;
      }
      return at.history.add(tokens, Feed::Span::generated);
    }
    case 4:
      at.trace += " mark";
      return at.session.mark();
    default: {
      const std::size_t n =
          at.history.size() - std::min(at.history.size(), below(random, below(random, 3) == 0 ? 500 : 90));
      at.trace += " back to " + std::to_string(n);
      at.session.truncate(static_cast<std::int32_t>(n));
      return at.history.cut(n);
    }
  }
}

/// @param n_seeds  random engines and pairs of conversations
inline void require_purity(const std::string& device, std::uint32_t n_seeds) {
  for (std::uint32_t seed = 1; seed <= n_seeds; ++seed) {
    INFO("seed " << seed);
    Random random(seed);
    const EngineOptions plain = purity_options(device, random);
    EngineOptions busy = plain;
    busy.n_sequences = 2;
    busy.kv_residents = static_cast<std::int32_t>(64 * below(random, 5));
    busy.keeps_marked = below(random, 2) == 0;
    busy.n_ubatch = below(random, 2) == 0 ? 512 : 37;
    Engine engine(busy);
    std::vector<Conversation> both;
    for (int i = 0; i < 2; ++i) both.emplace_back(engine);
    for (int i = 0; i < 16; ++i) step(engine, both[below(random, 2)], random);
    const TokenId next = 7;
    std::vector<Feed> feeds;  // both at once: neighbours in one batch
    for (Conversation& at : both) {
      feeds.push_back({&at.session, std::span(&next, 1), Feed::Want::last, Feed::Span::generated});
    }
    const std::span<const float> logits = engine.run(feeds);
    const std::size_t n_vocab = logits.size() / 2;
    for (std::size_t i = 0; i < 2; ++i) {
      const std::vector<float> wanted = expected(plain, both[i].history, next);
      const bool same =
          std::equal(wanted.begin(), wanted.end(), logits.begin() + static_cast<std::ptrdiff_t>(i * n_vocab));
      INFO("session " << i << ":" << both[i].trace << "; sparse from " << plain.kv_sparse_from << ", refresh "
                      << plain.kv_refresh << ", inertia " << plain.kv_inertia << ", marks "
                      << busy.keeps_marked);
      CHECK(same);
    }
  }
}

/// Sessions give back all they took: an engine does not wear out.
inline void require_no_wear(const std::string& device) {
  Random random(5);
  EngineOptions some = purity_options(device, random);
  some.keeps_marked = true;
  some.kv_sparse_from = 0;
  some.kv_residents = 64;
  Engine engine(some);
  const std::vector<TokenId> tokens = random_text(511);
  std::vector<float> first;
  for (int round = 0; round < 12; ++round) {
    Session session(engine);
    run_span(engine, session, std::span(tokens).first(300), Feed::Span::prompt);
    session.mark();
    run_span(engine, session, std::span(tokens).subspan(300, 200), Feed::Span::generated);
    session.truncate(300 + round);
    run_span(engine, session, std::span(tokens).subspan(300, static_cast<std::size_t>(200 - round)),
             Feed::Span::prompt);
    const std::vector<float> logits =
        run_span(engine, session, std::span(tokens).last(1), Feed::Span::generated);
    if (round % 3 == 0) session.truncate(0);
    if (round == 0) first = logits;
    CHECK(logits.size() == first.size());
  }
  Session session(engine);  // as good as new
  run_span(engine, session, std::span(tokens).first(300), Feed::Span::prompt);
  session.mark();
  run_span(engine, session, std::span(tokens).subspan(300, 200), Feed::Span::generated);
  session.truncate(300);
  run_span(engine, session, std::span(tokens).subspan(300, 200), Feed::Span::prompt);
  CHECK((run_span(engine, session, std::span(tokens).last(1), Feed::Span::generated) == first));
}

}  // namespace cga::test
