// A handler for the events of nlohmann's parser rather than its tree: the tree would swallow repeated members
// and take memory for whatever a hostile header nests.
#include "format/safetensors_header.h"

#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "format/refusal.h"

namespace cga {
namespace {

constexpr std::string_view metadata_name = "__metadata__";
constexpr std::size_t max_dims = 8;

/// Where in the header the parser is; each place allows only certain events.
enum class Place { outside, top, metadata, tensor, shape, offsets, end };

class Handler final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Handler(const std::string& file) : file_(file) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool start_object(std::size_t) override {
    if (place_ == Place::outside) return enter(Place::top);
    if (place_ != Place::top) fail("an object");
    if (member_ == metadata_name) return enter(Place::metadata);
    header_.tensors.emplace_back().name = member_;
    return enter(Place::tensor);
  }

  bool key(std::string& text) override {
    auto& seen = place_ == Place::top ? names_ : place_ == Place::metadata ? metadata_keys_ : fields_;
    member_ = text;
    if (!seen.insert(text).second) refuse(file_, {where(), "the member a second time", "it once"});
    if (place_ == Place::top) tensor_ = text;
    if (place_ == Place::top && text.empty()) refuse(file_, {"header", "an empty name", "a name"});
    if (place_ == Place::tensor && text != "dtype" && text != "shape" && text != "data_offsets") {
      refuse(file_, {where(), "an unknown member", "dtype, shape and data_offsets"});
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::top) return enter(Place::end);
    if (place_ == Place::tensor) check_whole(header_.tensors.back());
    fields_.clear();
    return enter(Place::top);
  }

  bool string(std::string& text) override {
    if (place_ == Place::metadata) {
      header_.metadata.push_back({member_, text});
    } else if (place_ == Place::tensor && member_ == "dtype") {
      header_.tensors.back().dtype = text;
      header_.tensors.back().has_dtype = true;
    } else {
      fail("a string");
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::tensor || member_ == "dtype") fail("an array");
    (member_ == "shape" ? header_.tensors.back().has_shape : header_.tensors.back().has_offsets) = true;
    return enter(member_ == "shape" ? Place::shape : Place::offsets);
  }

  bool end_array() override { return enter(Place::tensor); }

  bool number_unsigned(std::uint64_t number) override {
    if (place_ != Place::shape && place_ != Place::offsets) fail("a number");
    auto& numbers =
        place_ == Place::shape ? header_.tensors.back().shape : header_.tensors.back().data_offsets;
    const std::size_t most = place_ == Place::shape ? max_dims : 2;
    if (numbers.size() == most) {
      refuse(file_, {where(), "more than " + std::to_string(most) + " numbers", "no more"});
    }
    numbers.push_back(number);
    return true;
  }

  bool number_integer(std::int64_t) override { fail("a negative number"); }
  bool number_float(double, const std::string&) override { fail("a fraction or a number above 2^64 - 1"); }
  bool null() override { fail("null"); }
  bool boolean(bool) override { fail("a boolean"); }
  bool binary(nlohmann::json::binary_t&) override { fail("binary"); }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    refuse(file_, {"header", "an error in the JSON at byte " + std::to_string(position), "JSON in UTF-8"});
  }

 private:
  bool enter(Place place) {
    place_ = place;
    return true;
  }

  std::string where() const {
    switch (place_) {
      case Place::metadata:
        return "metadata " + cga::quoted(member_);
      case Place::tensor:
      case Place::shape:
      case Place::offsets:
        return "tensor " + printable(tensor_) + ", " + printable(member_);
      case Place::top:
        return "header, member " + cga::quoted(member_);
      default:
        return "header";
    }
  }

  [[noreturn]] void fail(std::string_view found) const {
    const bool in_tensor = place_ == Place::tensor;
    const bool number = place_ == Place::shape || place_ == Place::offsets;
    const std::string_view expected = number                            ? "a whole number from 0 on"
                                      : place_ == Place::metadata       ? "a string"
                                      : in_tensor && member_ == "dtype" ? "a string"
                                      : in_tensor                       ? "an array of whole numbers"
                                                                        : "an object";
    refuse(file_, {where(), found, expected});
  }

  void check_whole(const SafetensorsHeader::Tensor& tensor) const {
    const auto need = [&](bool there, std::string_view member) {
      if (there) return;
      const std::string field = "tensor " + printable(tensor_);
      refuse(file_, {field, "no " + std::string(member), "dtype, shape and data_offsets"});
    };
    need(tensor.has_dtype, "dtype");
    need(tensor.has_shape, "shape");
    need(tensor.has_offsets, "data_offsets");
    if (tensor.data_offsets.size() != 2) {
      refuse(file_, {"tensor " + printable(tensor_) + ", data_offsets",
                     std::to_string(tensor.data_offsets.size()) + " numbers", "2: begin and end"});
    }
  }

  const std::string& file_;
  SafetensorsHeader header_;
  Place place_ = Place::outside;
  std::string tensor_, member_;  // the names that lead to where the parser is
  std::unordered_set<std::string> names_, metadata_keys_, fields_;
};

}  // namespace

SafetensorsHeader read_safetensors_header(std::string_view json, const std::string& file) {
  Handler handler(file);
  nlohmann::json::sax_parse(json, &handler);
  return handler.take();
}

}  // namespace cga
