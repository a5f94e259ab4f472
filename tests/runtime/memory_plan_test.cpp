// Memory is planned from a file's header: the plan must be what loading takes, and a refusal must come first.
#include <string>
#include <utility>

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

TEST_CASE("caches of blocks are planned as they are made") {
  EngineOptions options = tiny("qwen2-mixed");  // heads of 64: two blocks
  const std::int64_t bf16 = plan_memory(options).kv;
  for (const auto& [kv, block_bytes] : {std::pair{KvType::q8, 34}, {KvType::q4, 18}}) {
    options.kv = kv;
    const MemoryPlan plan = plan_memory(options);
    CHECK(plan.kv * 64 == bf16 * block_bytes);  // 32 values of bf16 are 64 bytes
    CHECK(plan.kv_bf16 == bf16);
    const Engine engine(options);
    CHECK(engine.plan().kv == plan.kv);
    CHECK(engine.kv_usage(65).total() * 3 == plan.kv);
    CHECK(plan.kv == (engine.decode_bytes(1) - engine.decode_bytes(0)) * 128 * 3);
  }
}

TEST_CASE("a model whose heads are no whole blocks refuses a cache of blocks") {
  for (const KvType kv : {KvType::q8, KvType::q4}) {
    EngineOptions options = tiny("llama-float");  // heads of 16
    options.kv = kv;
    bool loading = false;
    options.progress = [&](double) { loading = true; };
    const auto refusal = [&](auto make) {
      try {
        make();
        return std::string("accepted");
      } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::usage);
        return std::string(error.what());
      }
    };
    const std::string expected = kv == KvType::q8 ? "--kv q8: heads of this model have 16 values"
                                                  : "--kv q4: heads of this model have 16 values";
    CHECK(refusal([&] { plan_memory(options); }).find(expected) != std::string::npos);
    CHECK(refusal([&] { Engine engine(options); }).find(expected) != std::string::npos);
    CHECK_FALSE(loading);
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
