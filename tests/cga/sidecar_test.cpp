// Sidecars: what a valid one gives, that the fingerprint is the Python one, and how damage is named.
#include "cga/sidecar.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>

#include "base/half.h"
#include "cga/error.h"
#include "support/catch.h"
#include "support/safetensors_writer.h"

namespace cga {
namespace {

using Bytes = std::vector<std::byte>;

std::string vector_path(const std::string& name) {
  return std::string(CGA_VECTORS) + "/codec/" + name + ".cga";
}

BaseModel tiny_qwen() {
  return {"qwen2", 2, 2, 1, 64, 256, 1e6, 1.0};
}

TEST_CASE("a sidecar gives its groups and metadata", "[sidecar]") {
  const Sidecar sidecar(vector_path("three-layers"));
  CHECK(sidecar.metadata().base.architecture == "llama");
  CHECK(sidecar.metadata().defaults.kv_bits == 1.5);
  CHECK(sidecar.metadata().defaults.kv_sparse_from == 128);
  REQUIRE(sidecar.metadata().calibration.size() == 1);
  CHECK(sidecar.metadata().calibration[0].text == "random");
  REQUIRE(sidecar.groups().size() == 1);
  const LayerGroup& group = sidecar.groups()[0];
  CHECK(group.n_layers == 3);
  CHECK(group.transform.n == 384);
  CHECK(group.transform.m == 256);
  CHECK(group.transform.w == 64);
  double norm = 0;  // of the first column of U
  for (int i = 0; i < 384; ++i) norm += std::pow(f16_to_f32(group.transform.basis_wide[i]), 2);
  CHECK(norm == test::Approx(1.0).margin(1e-3));
  CHECK(sidecar.transform_bytes() == 64 * 384 * 2 + 192 * 384 + 192 * 3 * 2 + 4 * (2 * 384 + 256 + 22));

  const Sidecar two(vector_path("qwen2-mixed"));
  REQUIRE(two.groups().size() == 2);
  CHECK(two.groups()[0].transform.w == two.groups()[0].transform.m);
  CHECK(two.groups()[1].transform.w == 0);
  CHECK(two.groups()[1].first_layer == 1);
}

TEST_CASE("a sidecar matches its checkpoint, and says why it does not match another", "[sidecar]") {
  const Sidecar sidecar(vector_path("qwen2-mixed"));
  const std::string tiny = std::string(CGA_VECTORS) + "/tiny/";
  const auto own = open_model_file(tiny + "qwen2-mixed.gguf");
  const auto other = open_model_file(tiny + "llama-legacy.gguf");
  CHECK(sidecar.mismatch(*own, tiny_qwen()).empty());  // the fingerprint is as Python computed it
  CHECK(sidecar.matches(*own, tiny_qwen()));
  sidecar.require_match(*own, tiny_qwen());

  BaseModel model = tiny_qwen();
  model.n_heads = 8;
  CHECK(sidecar.mismatch(*own, model) == "made for n_heads 2, the model has 8");
  model = tiny_qwen();
  model.architecture = "llama";
  CHECK(sidecar.mismatch(*own, model) == "made for architecture qwen2, the model has llama");
  model = tiny_qwen();
  model.rope_theta = 5e5;
  CHECK(sidecar.mismatch(*own, model).find("made for rope_theta 1000000") == 0);
  CHECK(
      sidecar.mismatch(*other, tiny_qwen()).find("made for fingerprint " + sidecar.metadata().fingerprint) ==
      0);
  try {
    sidecar.require_match(*other, tiny_qwen());
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 3);
    CHECK(std::string(error.what()).find("does not belong to") != std::string::npos);
  }
}

/// A minimal sidecar: one layer, one head of 64, n 128, m 128, w 64; any part can be changed before it is
/// written.
struct Parts {
  std::map<std::string, std::string> metadata = {
      {"format", "cga-sidecar"},
      {"format_version", "1"},
      {"architecture", "llama"},
      {"n_layers", "1"},
      {"n_heads", "1"},
      {"n_kv_heads", "1"},
      {"head_dim", "64"},
      {"dim", "64"},
      {"rope_theta", "10000.0"},
      {"rope_magnitude", "1.0"},
      {"fingerprint", std::string(64, '0')},
      {"page", "64"},
      {"unit", "16"},
      {"group_layers", "[1]"},
      {"defaults", R"({"kv_bits":1.5,"kv_window":64,"kv_sparse_from":0})"},
      {"calibration", "[]"},
      {"quality", "[]"},
      {"spectra", "[[0.5]]"},
      {"tool", "test"}};
  std::string prefix = "group.0.", basis_type = "I8";
  std::vector<float> mean = std::vector<float>(128, 0.5f), scale = std::vector<float>(128, 2.0f),
                     variance = std::vector<float>(128, 1.0f), codebook1 = {-1, 1},
                     codebook2 = {-2, -1, 1, 2},
                     codebook4 = {-8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8};
  std::vector<std::uint16_t> wide = std::vector<std::uint16_t>(64 * 128, f32_to_f16(0.1f)),
                             basis_scale = std::vector<std::uint16_t>(64, f32_to_f16(0.01f));
  std::vector<std::int8_t> basis = std::vector<std::int8_t>(64 * 128, 5);
  std::vector<std::int64_t> wide_shape = {64, 128}, variance_shape = {128};
  bool shifted = false;
  // An index, if `with_index` was called: one anchor, 2 heads of 8 channels.
  std::string anchor;
  std::vector<std::uint16_t> query, key, weight;
  std::vector<float> bias = {0.5f, -0.5f};
  std::vector<std::int64_t> query_shape = {2, 8, 64}, key_shape = {1, 8, 64};
  // How much queries need, if `with_need` was called.
  std::vector<std::uint16_t> need;
  std::vector<float> need_bias = {1.0f};
  std::vector<std::int64_t> need_shape = {1, 64};
  // Adapters, if `with_adapters` was called.
  std::vector<std::uint16_t> q_down, q_up, o_down, o_up;
  std::vector<std::int64_t> q_up_shape = {64, 1};

  Parts& with_index() {
    metadata["select_layers"] = "[1]";
    metadata["index_heads"] = "2";
    metadata["index_width"] = "8";
    metadata["index_quality"] =
        R"([{"text":"a","select":"index","tokens":1,"budget":64,"kv_bits":1.5,"recall":0.5,"kl":0.1,"ppl_change":0.1,"top1":0.9}])";
    anchor = "anchor.0.";
    query.assign(2 * 8 * 64, f32_to_f16(0.1f));
    key.assign(8 * 64, f32_to_f16(0.1f));
    weight.assign(2 * 64, f32_to_f16(0.1f));
    return *this;
  }

  Parts& with_need() {
    need.assign(64, f32_to_f16(0.1f));
    return *this;
  }

  /// Adapters of one rank.
  Parts& with_adapters() {
    q_down.assign(64, f32_to_f16(0.1f)), o_down = q_down, q_up = q_down, o_up = q_down;
    return *this;
  }

  Bytes bytes() const {
    test::SafetensorsWriter writer;
    for (const auto& [name, value] : metadata) {
      std::string escaped;
      for (const char c : value) escaped += c == '"' ? std::string("\\\"") : std::string(1, c);
      writer.set(name, escaped);
    }
    if (shifted) writer.add("odd", "I8", {2}, std::vector<std::int8_t>{1, 2});
    writer.add(prefix + "mean", "F32", {128}, mean).add(prefix + "scale", "F32", {128}, scale);
    writer.add(prefix + "variance", "F32", variance_shape, variance);
    writer.add(prefix + "codebook1", "F32", {2}, codebook1).add(prefix + "codebook2", "F32", {4}, codebook2);
    writer.add(prefix + "codebook4", "F32", {16}, codebook4);
    writer.add(prefix + "basis_wide", "F16", wide_shape, wide);
    writer.add(prefix + "basis_scale", "F16", {64, 1}, basis_scale);
    writer.add(prefix + "basis", basis_type, {64, 128}, basis);
    if (!anchor.empty()) {
      writer.add(anchor + "bias", "F32", {2}, bias).add(anchor + "query", "F16", query_shape, query);
      writer.add(anchor + "key", "F16", key_shape, key).add(anchor + "weight", "F16", {2, 64}, weight);
    }
    if (!need.empty()) writer.add(anchor + "need", "F16", need_shape, need);
    if (!need.empty() && !need_bias.empty()) {
      writer.add(anchor + "need_bias", "F32", {static_cast<std::int64_t>(need_bias.size())}, need_bias);
    }
    if (!q_down.empty()) {
      writer.add("lora.0.q_down", "F16", {1, 64}, q_down).add("lora.0.q_up", "F16", q_up_shape, q_up);
      writer.add("lora.0.o_down", "F16", {1, 64}, o_down).add("lora.0.o_up", "F16", {64, 1}, o_up);
    }
    return writer.bytes();
  }
};

std::string refusal_of(const Bytes& bytes) {
  try {
    const Sidecar sidecar(SafetensorsFile("x.cga", bytes));
  } catch (const Error& error) {
    CHECK(error.exit_code() == 3);
    return error.what();
  }
  return "";
}

struct Damage {
  std::function<void(Parts&)> apply;
  const char* expected;
};

const Damage damages[] = {
    {[](Parts& p) { p.metadata.erase("format"); }, "metadata format: found nothing"},
    {[](Parts& p) { p.metadata["format"] = "pt"; },
     "metadata format: found \"pt\", expected \"cga-sidecar\""},
    {[](Parts& p) { p.metadata["format_version"] = "2"; },
     "metadata format_version: found \"2\", expected \"1\"; make the sidecar again"},
    {[](Parts& p) { p.metadata["page"] = "128"; }, "metadata page: found \"128\", expected \"64\""},
    {[](Parts& p) { p.metadata["n_layers"] = "x"; }, "metadata n_layers: found \"x\", expected a number"},
    {[](Parts& p) { p.metadata["n_layers"] = "0"; }, "metadata n_layers: found 0, expected 1 to"},
    {[](Parts& p) { p.metadata["n_kv_heads"] = "99999999999"; }, "metadata n_kv_heads: found 99999999999"},
    {[](Parts& p) { p.metadata["head_dim"] = "63"; }, "metadata head_dim: found 63, expected an even"},
    {[](Parts& p) { p.metadata["rope_theta"] = "nan"; }, "metadata rope_theta: found nan, expected a number"},
    {[](Parts& p) { p.metadata["fingerprint"] = "abc"; }, "metadata fingerprint: found \"abc\", expected 64"},
    {[](Parts& p) { p.metadata["group_layers"] = "[1,1]"; },
     "metadata group_layers: found 2 layers in all, expected 1"},
    {[](Parts& p) { p.metadata["group_layers"] = "[]"; }, "metadata group_layers: found 0 layers in all"},
    {[](Parts& p) { p.metadata["group_layers"] = "[-1]"; }, "metadata group_layers: found -1"},
    {[](Parts& p) { p.metadata["group_layers"] = "[1"; },
     "metadata group_layers: found \"[1\", expected JSON"},
    {[](Parts& p) { p.metadata["group_layers"] = std::string(50, '['); }, "metadata group_layers: found"},
    {[](Parts& p) { p.metadata["group_layers"] = "{\"a\":1}"; },
     "metadata group_layers: found JSON of type object, expected an array"},
    {[](Parts& p) { p.metadata["defaults"] = "{\"kv_bits\":1}"; },
     "metadata defaults: found an object without kv_window"},
    {[](Parts& p) { p.metadata["defaults"] = R"({"kv_bits":1,"kv_window":65,"kv_sparse_from":0})"; },
     "metadata defaults: found kv_window 65, expected a multiple of 64"},
    {[](Parts& p) { p.metadata["defaults"] = R"({"kv_bits":1,"kv_window":64,"kv_sparse_from":4294967296})"; },
     "metadata defaults: found kv_sparse_from 4294967296, expected a multiple of 64, at most 67108864"},
    {[](Parts& p) { p.metadata["defaults"] = R"({"kv_bits":0,"kv_window":64,"kv_sparse_from":0})"; },
     "metadata defaults: found kv_bits 0"},
    {[](Parts& p) { p.metadata["spectra"] = "[]"; },
     "metadata spectra: found 0 lists, expected 1, one a group"},
    {[](Parts& p) { p.metadata["defaults"] = R"({"kv_bits":true,"kv_window":64,"kv_sparse_from":0})"; },
     "metadata defaults: found JSON of type boolean, expected a number"},
    {[](Parts& p) { p.metadata["quality"] = "[{\"text\":1}]"; },
     "metadata quality: found JSON of type number"},
    {[](Parts& p) { p.metadata["spectra"] = "[1]"; }, "metadata spectra: found JSON of type number"},
    {[](Parts& p) { p.metadata["head_dim"] = "32"; },
     "metadata group_layers: found a group of 64 channels, expected a multiple of 128"},
    {[](Parts& p) { p.prefix = "group.1."; }, "tensor group.0.variance: found nothing, expected a tensor"},
    {[](Parts& p) {
       p.variance_shape = {2, 64};
     },
     "tensor group.0.variance: found shape [2, 64], expected 1 dim"},
    {[](Parts& p) { p.variance.assign(192, 1.0f), p.variance_shape = {192}; },
     "tensor group.0.variance: found shape [192], expected 1 dimensions, the first a multiple of 64 up to "
     "128"},
    {[](Parts& p) {
       p.wide_shape = {32, 256};
     },
     "tensor group.0.basis_wide: found shape [32, 256]"},
    {[](Parts& p) {
       p.wide_shape = {64, 2, 64};
     },
     "tensor group.0.basis_wide: found shape [64, 2, 64]"},
    {[](Parts& p) { p.basis_type = "U8"; },
     "tensor group.0.basis: found U8 [64, 128], expected I8 [64, 128]"},
    {[](Parts& p) { p.scale[3] = 0; }, "tensor group.0.scale: found 0.000000 at 3, expected numbers above 0"},
    {[](Parts& p) { p.mean[127] = HUGE_VALF; }, "tensor group.0.mean: found inf at 127, expected finite"},
    {[](Parts& p) { p.variance[64] = 2; }, "tensor group.0.variance: found 2.000000 at 64, expected numbers"},
    {[](Parts& p) { p.variance[127] = -1; }, "tensor group.0.variance: found -1.000000 at 127"},
    {[](Parts& p) { p.codebook4[2] = -7; },
     "tensor group.0.codebook4: found -7.000000 at 2, expected increas"},
    {[](Parts& p) { p.wide[5] = 0x7c01; }, "tensor group.0.basis_wide: found nan at 5, expected finite"},
    {[](Parts& p) { p.basis_scale[0] = 0xfc00; }, "tensor group.0.basis_scale: found -inf at 0"},
    {[](Parts& p) { p.shifted = true; }, "tensor group.0.mean: found data that is not aligned"},
};

TEST_CASE("a single wrong part of a sidecar is named", "[sidecar]") {
  CHECK(refusal_of(Parts().bytes()).empty());
  for (const Damage& damage : damages) {
    Parts parts;
    damage.apply(parts);
    const std::string refusal = refusal_of(parts.bytes());
    INFO(damage.expected << " / " << refusal);
    CHECK(refusal.find("x.cga: " + std::string(damage.expected)) == 0);
  }
}

const Damage index_damages[] = {
    {[](Parts& p) { p.metadata["select_layers"] = "[2]"; },
     "metadata select_layers: found 2 layers, expected 1 to 1"},
    {[](Parts& p) { p.metadata["select_layers"] = "[]"; },
     "metadata select_layers: found 0 layers in all, expected 1"},
    {[](Parts& p) {
       p.metadata["n_layers"] = "2", p.metadata["select_layers"] = "[2]";
       p.metadata["group_layers"] = "[1,1]", p.metadata["spectra"] = "[[],[]]";
     },
     "metadata select_layers: found a group that ends with layer 1, expected an end after layer 0"},
    {[](Parts& p) { p.metadata.erase("index_heads"); }, "metadata index_heads: found nothing"},
    {[](Parts& p) { p.metadata["index_heads"] = "1025"; },
     "metadata index_heads: found 1025, expected at most 1024"},
    {[](Parts& p) { p.metadata["index_width"] = "10"; },
     "metadata index_width: found 10, expected a multiple of 4"},
    {[](Parts& p) { p.metadata["index_width"] = "132"; },
     "metadata index_width: found 132, expected a multiple of 4"},
    {[](Parts& p) { p.metadata["index_width"] = "0"; }, "metadata index_width: found 0"},
    {[](Parts& p) { p.metadata["index_quality"] = "[{}]"; },
     "metadata index_quality: found an object without"},
    {[](Parts& p) { p.metadata.erase("index_quality"); }, "metadata index_quality: found nothing"},
    {[](Parts& p) {
       p.metadata["defaults"] = R"({"kv_bits":1,"kv_window":64,"kv_sparse_from":0,"kv_budget":40})";
     },
     "metadata defaults: found kv_budget 40, expected a multiple of 16"},
    {[](Parts& p) {
       p.metadata["defaults"] = R"({"kv_bits":1,"kv_window":64,"kv_sparse_from":0,"kv_budget":0})";
     },
     "metadata defaults: found kv_budget 0"},
    {[](Parts& p) { p.anchor = "anchor.1."; }, "tensor anchor.0.key: found nothing, expected a tensor"},
    {[](Parts& p) {
       p.key_shape = {8, 64};
     },
     "tensor anchor.0.key: found shape [8, 64], expected 3 dimensions, the first from 1 to 1"},
    {[](Parts& p) {
       p.key.resize(2 * 8 * 64), p.key_shape = {2, 8, 64};
     },
     "tensor anchor.0.key: found shape [2, 8, 64], expected 3 dimensions, the first from 1 to 1"},
    {[](Parts& p) {
       p.query_shape = {8, 2, 64};
     },
     "tensor anchor.0.query: found F16 [8, 2, 64], expected F16 [2, 8, 64]"},
    {[](Parts& p) { p.key[77] = 0x7e00; }, "tensor anchor.0.key: found nan at 77, expected finite numbers"},
    {[](Parts& p) { p.weight[0] = 0x7c00; }, "tensor anchor.0.weight: found inf at 0"},
    {[](Parts& p) { p.bias[1] = NAN; }, "tensor anchor.0.bias: found nan at 1, expected finite numbers"},
};

TEST_CASE("a single wrong part of an index is named", "[sidecar]") {
  CHECK(refusal_of(Parts().with_index().bytes()).empty());
  for (const Damage& damage : index_damages) {
    Parts parts;
    damage.apply(parts.with_index());
    const std::string refusal = refusal_of(parts.bytes());
    INFO(damage.expected << " / " << refusal);
    CHECK(refusal.find("x.cga: " + std::string(damage.expected)) == 0);
  }
}

const Damage need_damages[] = {
    {[](Parts& p) { p.need_shape = {64}; }, "tensor anchor.0.need: found F16 [64], expected F16 [1, 64]"},
    {[](Parts& p) { p.need[9] = 0x7e00; }, "tensor anchor.0.need: found nan at 9, expected finite numbers"},
    {[](Parts& p) { p.need_bias.clear(); }, "tensor anchor.0.need_bias: found nothing, expected a tensor"},
    {[](Parts& p) { p.need_bias[0] = INFINITY; }, "tensor anchor.0.need_bias: found inf at 0"},
    {[](Parts& p) { p.need_bias.push_back(1); },
     "tensor anchor.0.need_bias: found F32 [2], expected F32 [1]"},
};

TEST_CASE("a single wrong part of what queries need is named", "[sidecar]") {
  const Sidecar sidecar(SafetensorsFile("x.cga", Parts().with_index().with_need().bytes()));
  CHECK(sidecar.select_groups()[0].need != nullptr);
  for (const Damage& damage : need_damages) {
    Parts parts;
    damage.apply(parts.with_index().with_need());
    const std::string refusal = refusal_of(parts.bytes());
    INFO(damage.expected << " / " << refusal);
    CHECK(refusal.find("x.cga: " + std::string(damage.expected)) == 0);
  }
}

const Damage adapter_damages[] = {
    {[](Parts& p) {
       p.q_up_shape = {1, 64};
     },
     "tensor lora.0.q_up: found F16 [1, 64], expected F16 [64, 1]"},
    {[](Parts& p) { p.o_up[5] = 0x7c00; }, "tensor lora.0.o_up: found inf at 5, expected finite numbers"},
};

TEST_CASE("a single wrong part of adapters is named; without an index they are ignored", "[sidecar]") {
  for (const Damage& damage : adapter_damages) {
    Parts parts;
    damage.apply(parts.with_index().with_adapters());
    const std::string refusal = refusal_of(parts.bytes());
    INFO(damage.expected << " / " << refusal);
    CHECK(refusal.find("x.cga: " + std::string(damage.expected)) == 0);
  }
  const Sidecar sidecar(SafetensorsFile("x.cga", Parts().with_index().with_adapters().bytes()));
  REQUIRE(sidecar.adapters().size() == 1);
  CHECK(sidecar.adapters()[0].rank == 1);
  CHECK(sidecar.adapter_bytes() == 4 * 2 * 64);
  CHECK(Sidecar(SafetensorsFile("x.cga", Parts().with_adapters().bytes())).adapters().empty());
}

TEST_CASE("every truncation of a sidecar is refused", "[sidecar]") {
  const Bytes whole = Parts().with_index().bytes();
  for (std::size_t n = 0; n < whole.size(); n += n < 3000 ? 1 : 97) {
    INFO(n);
    REQUIRE_FALSE(refusal_of(Bytes(whole.begin(), whole.begin() + static_cast<long>(n))).empty());
  }
}

TEST_CASE("a sidecar that is not there is an error of reading, not of its content", "[sidecar]") {
  try {
    const Sidecar sidecar(std::filesystem::path("/no/such/file.cga"));
    FAIL("opened");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::io);
  }
}

}  // namespace
}  // namespace cga
