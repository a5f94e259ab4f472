// One sequence: a claim on the engine's pages, released when it ends.
#include <string>
#include <utility>

#include "cga/engine.h"
#include "runtime/engine_impl.h"

namespace cga {

Session::Session(Engine& engine) : impl_(std::make_unique<Impl>()) {
  Engine::Impl& e = *engine.impl_;
  if (e.n_sessions >= e.options.n_sequences) {
    throw Error(ErrorKind::memory, "sessions",
                "all " + std::to_string(e.options.n_sequences) + " sequences are in use",
                "load the engine with more sequences");
  }
  impl_->engine = &e;
  ++e.n_sessions;
}

Session::~Session() {
  if (!impl_) return;  // moved from
  Engine::Impl& e = *impl_->engine;
  e.compact ? e.compact->release(impl_->compact) : e.cache->truncate(impl_->pages, 0);
  --e.n_sessions;
}

Session::Session(Session&&) noexcept = default;

Session& Session::operator=(Session&& other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}

std::span<const TokenId> Session::tokens() const {
  return impl_->tokens;
}
std::int32_t Session::n_past() const {
  return static_cast<std::int32_t>(impl_->tokens.size());
}
std::int32_t Session::n_ctx() const {
  return impl_->engine->options.n_ctx;
}

void Session::mark() {
  Engine::Impl& e = *impl_->engine;
  if (e.compact) e.compact->mark(impl_->compact);
}

void Session::truncate(std::int32_t n) {
  if (n < 0 || n > n_past()) {
    throw Error(ErrorKind::usage, "truncate",
                "found " + std::to_string(n) + ", expected 0 to " + std::to_string(n_past()));
  }
  impl_->engine->truncate(*this, n);
}

}  // namespace cga
