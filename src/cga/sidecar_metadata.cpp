#include "cga/sidecar_metadata.h"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "format/refusal.h"
#include "tensor/kv_layout.h"

namespace cga {
namespace {

using Json = nlohmann::json;

constexpr std::string_view make_again = "make the sidecar again with tools/adapt of this version";
constexpr std::int64_t max_size = 1 << 20;  // of any number of layers, heads or dims; products fit 64 bits
constexpr int max_json_depth = 4;

/// Takes values out of the metadata and checks each.
class Reader {
 public:
  explicit Reader(const SafetensorsFile& file) : file_(file) {}

  const std::string& text(std::string_view key) const {
    const std::string* value = file_.metadata(key);
    if (value == nullptr) fail(key, "nothing", "a value");
    return *value;
  }

  bool has(std::string_view key) const { return file_.metadata(key) != nullptr; }

  void expect(std::string_view key, std::string_view expected) const {
    if (text(key) != expected) fail(key, cga::quoted(text(key)), cga::quoted(expected));
  }

  std::int32_t size(std::string_view key) const {
    const auto value = number<std::int64_t>(key);
    if (value < 1 || value > max_size) fail(key, text(key), "1 to " + std::to_string(max_size));
    return static_cast<std::int32_t>(value);
  }

  double positive(std::string_view key) const {
    const auto value = number<double>(key);
    if (!std::isfinite(value) || value <= 0) fail(key, text(key), "a number above 0");
    return value;
  }

  /// A JSON value of a metadata string, nested no deeper than the format needs.
  Json json(std::string_view key) const {
    const std::string& value = text(key);
    const auto shallow = [&](int depth, Json::parse_event_t, Json&) {
      if (depth > max_json_depth)
        fail(key, "JSON nested deeper", "at most " + std::to_string(max_json_depth));
      return true;
    };
    Json parsed = Json::parse(value, shallow, false);
    if (parsed.is_discarded()) fail(key, cga::quoted(value), "JSON");
    return parsed;
  }

  // Parts of JSON values, in the metadata string `key`.
  const Json& array(std::string_view key, const Json& value) const {
    if (!value.is_array()) fail(key, kind(value), "an array");
    return value;
  }
  std::string member_text(std::string_view key, const Json& value, const char* member) const {
    const Json& found = this->member(key, value, member);
    if (!found.is_string()) fail(key, kind(found) + " as " + member, "a string");
    return found.get<std::string>();
  }
  double member_real(std::string_view key, const Json& value, const char* member) const {
    return real(key, this->member(key, value, member));
  }
  std::int64_t member_count(std::string_view key, const Json& value, const char* member) const {
    return count(key, this->member(key, value, member));
  }
  double real(std::string_view key, const Json& value) const {
    if (!value.is_number()) fail(key, kind(value), "a number");
    return value.get<double>();
  }
  std::int64_t count(std::string_view key, const Json& value) const {
    constexpr std::uint64_t most = std::uint64_t{1} << 53;
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most) {
      fail(key, value.is_number() ? value.dump() : kind(value), "a whole number from 0 on");
    }
    return value.get<std::int64_t>();
  }

  [[noreturn]] void fail(std::string_view key, const std::string& found, std::string_view expected) const {
    const std::string field = "metadata " + printable(key);
    refuse(file_.path().string(), {field, found, expected, make_again});
  }

 private:
  template <class T>
  T number(std::string_view key) const {
    const std::string& value = text(key);
    T result{};
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
    if (error != std::errc() || end != value.data() + value.size()) {
      fail(key, cga::quoted(value), "a number");
    }
    return result;
  }

  const Json& member(std::string_view key, const Json& value, const char* name) const {
    if (!value.is_object()) fail(key, kind(value), "an object");
    const auto found = value.find(name);
    if (found == value.end()) fail(key, "an object without " + std::string(name), "one with it");
    return *found;
  }

  static std::string kind(const Json& value) { return std::string("JSON of type ") + value.type_name(); }

  const SafetensorsFile& file_;
};

BaseModel read_base(const Reader& reader) {
  BaseModel base;
  base.architecture = reader.text("architecture");
  base.n_layers = reader.size("n_layers");
  base.n_heads = reader.size("n_heads");
  base.n_kv_heads = reader.size("n_kv_heads");
  base.head_dim = reader.size("head_dim");
  base.dim = reader.size("dim");
  base.rope_theta = reader.positive("rope_theta");
  base.rope_magnitude = reader.positive("rope_magnitude");
  if (base.head_dim % 2 != 0) reader.fail("head_dim", std::to_string(base.head_dim), "an even number");
  return base;
}

std::string read_fingerprint(const Reader& reader) {
  const std::string& text = reader.text("fingerprint");
  if (text.size() != 64 || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
    reader.fail("fingerprint", cga::quoted(text), "64 hexadecimal digits");
  }
  return text;
}

/// Layers of consecutive groups that make up the model.
std::vector<std::int32_t> read_layers(const Reader& reader, std::string_view key, std::int32_t n_layers) {
  const Json parsed = reader.json(key);
  std::vector<std::int32_t> layers;
  std::int64_t sum = 0;
  for (const Json& item : reader.array(key, parsed)) {
    const std::int64_t count = reader.count(key, item);
    if (count < 1 || count > n_layers) {
      reader.fail(key, std::to_string(count) + " layers", "1 to " + std::to_string(n_layers));
    }
    layers.push_back(static_cast<std::int32_t>(count));
    sum += count;
  }
  if (sum != n_layers) {
    reader.fail(key, std::to_string(sum) + " layers in all", std::to_string(n_layers) + ", as n_layers says");
  }
  return layers;
}

SidecarMetadata::Defaults read_defaults(const Reader& reader) {
  constexpr std::string_view key = "defaults";
  const Json parsed = reader.json(key);
  SidecarMetadata::Defaults defaults{.kv_bits = reader.member_real(key, parsed, "kv_bits"),
                                     .kv_window = reader.member_count(key, parsed, "kv_window"),
                                     .kv_sparse_from = reader.member_count(key, parsed, "kv_sparse_from")};
  if (!(defaults.kv_bits > 0 && defaults.kv_bits <= 8)) {
    reader.fail(key, "kv_bits " + std::to_string(defaults.kv_bits), "a number above 0, at most 8");
  }
  constexpr std::int64_t most = 1 << 26;
  for (const auto& [name, tokens] :
       {std::pair{"kv_window ", defaults.kv_window}, std::pair{"kv_sparse_from ", defaults.kv_sparse_from}}) {
    if (tokens % page_tokens == 0 && tokens <= most) continue;
    reader.fail(key, name + std::to_string(tokens), "a multiple of 64, at most 67108864");
  }
  if (parsed.contains("kv_budget")) {
    defaults.kv_budget = reader.member_count(key, parsed, "kv_budget");
    if (defaults.kv_budget < 1 || defaults.kv_budget % unit_tokens != 0 || defaults.kv_budget > most) {
      reader.fail(key, "kv_budget " + std::to_string(defaults.kv_budget),
                  "a multiple of 16, at least 16, at most 67108864");
    }
  }
  return defaults;
}

/// Every selection group lies in one layer group: each layer group ends where some selection group does.
void check_subdivision(const Reader& reader, const std::vector<std::int32_t>& groups,
                       const std::vector<std::int32_t>& selects) {
  std::int32_t end = 0, select_end = 0;
  std::size_t next = 0;
  for (const std::int32_t n_layers : groups) {
    end += n_layers;
    while (select_end < end) select_end += selects[next++];
    if (select_end == end) continue;
    reader.fail("select_layers", "a group that ends with layer " + std::to_string(select_end - 1),
                "an end after layer " + std::to_string(end - 1) + ", where a layer group ends");
  }
}

SidecarMetadata::Index read_index(const Reader& reader, const SidecarMetadata& metadata) {
  SidecarMetadata::Index index;
  if (!reader.has("select_layers")) return index;
  index.select_layers = read_layers(reader, "select_layers", metadata.base.n_layers);
  check_subdivision(reader, metadata.group_layers, index.select_layers);
  index.heads = reader.size("index_heads");
  index.width = reader.size("index_width");
  constexpr std::int32_t most_heads = 1024;
  if (index.heads > most_heads) reader.fail("index_heads", std::to_string(index.heads), "at most 1024");
  if (index.width % 4 != 0 || index.width > 2 * metadata.base.head_dim) {
    reader.fail("index_width", std::to_string(index.width), "a multiple of 4, at most twice the head_dim");
  }
  constexpr const char* key = "index_quality";
  const Json quality = reader.json(key);
  for (const Json& item : reader.array(key, quality)) {
    const auto real = [&](const char* member) { return reader.member_real(key, item, member); };
    index.quality.push_back({.text = reader.member_text(key, item, "text"),
                             .select = reader.member_text(key, item, "select"),
                             .tokens = reader.member_count(key, item, "tokens"),
                             .budget = reader.member_count(key, item, "budget"),
                             .kv_bits = real("kv_bits"),
                             .recall = real("recall"),
                             .kl = real("kl"),
                             .ppl_change = real("ppl_change"),
                             .top1 = real("top1")});
  }
  return index;
}

/// What is only shown, never computed with.
void read_record(const Reader& reader, SidecarMetadata& metadata) {
  const Json calibration = reader.json("calibration");
  for (const Json& item : reader.array("calibration", calibration)) {
    metadata.calibration.push_back({reader.member_text("calibration", item, "text"),
                                    reader.member_count("calibration", item, "tokens")});
  }
  const Json quality = reader.json("quality");
  for (const Json& item : reader.array("quality", quality)) {
    const auto real = [&](const char* member) { return reader.member_real("quality", item, member); };
    metadata.quality.push_back({.text = reader.member_text("quality", item, "text"),
                                .tokens = reader.member_count("quality", item, "tokens"),
                                .kv_bits = real("kv_bits"),
                                .kl = real("kl"),
                                .ppl_change = real("ppl_change"),
                                .top1 = real("top1")});
  }
  const Json spectra = reader.json("spectra");
  for (const Json& group : reader.array("spectra", spectra)) {
    auto& shares = metadata.spectra.emplace_back();
    for (const Json& share : reader.array("spectra", group)) shares.push_back(reader.real("spectra", share));
  }
  if (metadata.spectra.size() != metadata.group_layers.size()) {
    reader.fail("spectra", std::to_string(metadata.spectra.size()) + " lists",
                std::to_string(metadata.group_layers.size()) + ", one a group");
  }
  metadata.tool = reader.text("tool");
}

}  // namespace

SidecarMetadata read_sidecar_metadata(const SafetensorsFile& file) {
  const Reader reader(file);
  reader.expect("format", "cga-sidecar");
  reader.expect("format_version", "1");
  reader.expect("page", std::to_string(page_tokens));
  reader.expect("unit", std::to_string(unit_tokens));
  SidecarMetadata metadata;
  metadata.base = read_base(reader);
  metadata.fingerprint = read_fingerprint(reader);
  metadata.group_layers = read_layers(reader, "group_layers", metadata.base.n_layers);
  metadata.defaults = read_defaults(reader);
  metadata.index = read_index(reader, metadata);
  read_record(reader, metadata);
  return metadata;
}

}  // namespace cga
