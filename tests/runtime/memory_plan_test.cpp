// Memory is planned from a file's header: the plan must be what loading takes, and a refusal must come first.
#include <string>

#include "cga/engine.h"
#include "support/catch.h"

namespace cga {
namespace {

EngineOptions tiny(const std::string& name) {
  EngineOptions options;
  options.model = std::string(CGA_VECTORS) + "/tiny/" + name + ".gguf";
  options.n_ctx = 100;
  options.n_sequences = 3;
  options.n_threads = 1;
  return options;
}

TEST_CASE("the plan is what loading takes") {
  for (const std::string name : {"llama-float", "llama-legacy", "llama-k", "qwen2-mixed"}) {
    for (const std::string device : {"cpu", "scalar"}) {
      CAPTURE(name, device);
      EngineOptions options = tiny(name);
      options.device = device;
      const MemoryPlan plan = plan_memory(options);
      const Engine engine(options);
      CHECK(plan.weights == engine.plan().weights);
      CHECK(plan.weights == engine.decode_bytes(0));
      CHECK(plan.kv == engine.plan().kv);
      CHECK(plan.kv == (engine.decode_bytes(1) - engine.decode_bytes(0)) * 128 * 3);  // two pages a sequence
      CHECK(plan.scratch == engine.plan().scratch);
    }
  }
}

TEST_CASE("what does not fit is refused before weights are read") {
  EngineOptions options = tiny("llama-float");
  options.n_ctx = 1 << 26;
  options.n_sequences = 4096;
  bool loading = false;
  options.progress = [&](double) { loading = true; };
  try {
    Engine engine(options);
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::memory);
    CHECK(std::string(error.what()).find(std::to_string(plan_memory(options).total())) != std::string::npos);
  }
  CHECK_FALSE(loading);
}

}  // namespace
}  // namespace cga
