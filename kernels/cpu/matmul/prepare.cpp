// Repacking: from a file's blocks, whatever their type, to panels. Types are known here only by their integer
// form, so a new one needs nothing in this folder.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "base/checked.h"
#include "base/half.h"
#include "cga/error.h"
#include "kernels/cpu/matmul/cpu_weight.h"
#include "kernels/cpu/matmul/matmul.h"

namespace cga::cpu {
namespace {

constexpr int max_block_values = 256;
constexpr int max_block_groups = 16;

/// One block of each of a panel's rows. Rows past the end of the matrix stay zero.
struct PanelCodes {
  std::uint8_t q[panel_rows][max_block_values] = {};
  float scale[panel_rows][max_block_groups] = {};
  float min[panel_rows][max_block_groups] = {};
};

/// The smallest form there are kernels for (find_panel_kernel) that holds a type's codes and groups.
PanelForm form_of(const IntegerForm& integer) {
  PanelForm form;
  form.bits = integer.bits <= 4 ? 4 : integer.bits <= 6 ? integer.bits : 8;
  form.group = form.bits == 6 ? 16 : integer.group;
  if (form.group == 16) form.bits = std::max(form.bits, 6);
  form.has_min = integer.has_min;
  if (!form.has_min && integer.zero != form.zero()) form.has_min = true;
  return form;
}

std::uint32_t load4(const std::uint8_t* bytes) {
  std::uint32_t word;
  std::memcpy(&word, bytes, 4);
  return word;
}

void store4(std::byte* bytes, std::uint32_t word) {
  std::memcpy(bytes, &word, 4);
}

/// Arranges 32 columns of 8 rows: four codes at a time, as the bytes of a word.
void pack_codes(const PanelCodes& from, int first_col, const PanelForm& form, std::byte* out) {
  for (int r = 0; r < panel_rows; ++r) {
    const std::uint8_t* q = from.q[r] + first_col;
    std::uint32_t high[2] = {};
    for (int g = 0; g < block_vectors; ++g) {
      const std::uint32_t word = load4(q + 4 * g);
      if (form.bits == 8) store4(out + 32 * g + 4 * r, word ^ 0x80808080u);
      if (form.bits == 5) high[0] |= ((word >> 4) & 0x01010101u) << g;
      if (form.bits == 6) high[g / 4] |= ((word >> 4) & 0x03030303u) << (2 * (g % 4));
    }
    if (form.bits == 8) continue;
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t low = load4(q + 4 * i) & 0x0f0f0f0fu;
      store4(out + 32 * i + 4 * r, low | (load4(q + 4 * i + 16) & 0x0f0f0f0fu) << 4);
    }
    if (form.bits > 4) store4(out + 128 + 4 * r, high[0]);
    if (form.bits == 6) store4(out + 160 + 4 * r, high[1]);
  }
}

std::byte* store_scale(std::byte* at, float value, bool wide) {
  if (wide) {
    std::memcpy(at, &value, 4);
    return at + 4;
  }
  const std::uint16_t half = f32_to_f16(value);
  std::memcpy(at, &half, 2);
  return at + 2;
}

/// True if f16 holds all values to within a thousandth of the largest. Products of a block's scales (Q4_K's d
/// times its 6-bit scale) may lie outside f16 or deep in its subnormal numbers.
bool fits_f16(const float* values, int n) {
  float largest = 0.0f, error = 0.0f;
  bool finite = true;
  for (int i = 0; i < n; ++i) {
    const float rounded = f16_to_f32(f32_to_f16(values[i]));
    largest = std::max(largest, std::fabs(values[i]));
    error = std::max(error, std::fabs(rounded - values[i]));
    finite = finite && std::isfinite(rounded);
  }
  return finite && error <= 0x1p-10f * largest;
}

class Packer {
 public:
  Packer(const WeightView& weight, const PanelForm& form, std::byte* out)
      : weight_(weight), form_(form), out_(out) {}

  /// @return false if a scale or min does not fit f16, though the form says so; the panel is unfinished then
  bool pack_panel(std::int64_t panel) const {
    const WeightType& type = *weight_.type;
    const auto n_rows =
        static_cast<int>(std::min<std::int64_t>(panel_rows, weight_.rows - panel * panel_rows));
    std::byte* out = out_ + panel * (weight_.cols / block_cols) * form_.block_bytes();
    PanelCodes codes;
    for (std::int64_t b = 0; b < weight_.cols / type.block_values; ++b) {
      for (int r = 0; r < n_rows; ++r) {
        type.codes(weight_.row(panel * panel_rows + r) + b * type.block_bytes, codes.q[r], codes.scale[r],
                   codes.min[r]);
      }
      if (!finish_scales(codes, n_rows)) return false;
      for (int col = 0; col < type.block_values; col += block_cols, out += form_.block_bytes()) {
        pack_codes(codes, col, form_, out);
        pack_scales(codes, col, out + form_.code_bytes());
      }
    }
    return true;
  }

 private:
  /// Moves zeros that are not the form's into the minima. @return false if f16 cannot hold the results
  bool finish_scales(PanelCodes& codes, int n_rows) const {
    const int n_groups = weight_.type->block_values / weight_.type->integer.group;
    const auto shift = static_cast<float>(weight_.type->integer.zero - form_.zero());
    bool fits = true;
    for (int r = 0; r < n_rows; ++r) {
      if (form_.has_min) {
        for (int g = 0; g < n_groups; ++g) codes.min[r][g] += codes.scale[r][g] * shift;
      }
      fits = fits && fits_f16(codes.scale[r], n_groups) && fits_f16(codes.min[r], n_groups);
    }
    return fits || form_.wide_scales;
  }

  void pack_scales(const PanelCodes& codes, int first_col, std::byte* out) const {
    out = pack_groups(codes.scale, first_col, out);
    if (form_.has_min) pack_groups(codes.min, first_col, out);
  }

  std::byte* pack_groups(const float (&values)[panel_rows][max_block_groups], int first_col,
                         std::byte* out) const {
    for (int i = 0; i < form_.n_groups(); ++i) {
      const int group = (first_col + i * form_.group) / weight_.type->integer.group;
      for (int r = 0; r < panel_rows; ++r) out = store_scale(out, values[r][group], form_.wide_scales);
    }
    return out;
  }

  const WeightView& weight_;
  PanelForm form_;
  std::byte* out_;
};

AlignedMemory allocate(const WeightView& weight, std::int64_t bytes) {
  try {
    return AlignedMemory(static_cast<std::size_t>(bytes));
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::memory, weight.name,
                std::to_string(bytes) + " bytes for its packed form cannot be had",
                "free memory, or use a smaller model");
  }
}

std::int64_t packed_bytes(const WeightView& weight, const PanelForm& form) {
  return div_up<std::int64_t>(weight.rows, panel_rows) * (weight.cols / block_cols) * form.block_bytes();
}

void pack(const WeightView& weight, ThreadPool& pool, CpuWeight& out) {
  PanelForm form = form_of(weight.type->integer);
  const std::int64_t n_panels = div_up<std::int64_t>(weight.rows, panel_rows);
  for (;;) {
    out.bytes = packed_bytes(weight, form);
    out.memory = allocate(weight, out.bytes);
    const Packer packer(weight, form, out.memory.data());
    std::atomic<bool> fits{true};
    pool.parallel_for(n_panels, [&](std::int64_t panel, int) {
      if (fits.load(std::memory_order_relaxed) && !packer.pack_panel(panel)) fits = false;
    });
    if (fits) break;
    form.wide_scales = true;
  }
  out.quantised = true;
  out.wide_scales = form.wide_scales;
  out.kernel = panel_kernel(form);
  out.data = out.memory.data();
  out.unit_bytes = weight.cols / block_cols * form.block_bytes();
}

void reference_floats(const WeightView& weight, FloatElement element, CpuWeight& out) {
  out.references_file = true;
  out.bytes = weight.bytes();
  out.kernel = float_kernel(element);
  out.data = weight.data;
  out.unit_bytes = panel_rows * weight.row_bytes();
}

/// For a type that is neither float nor small integers: multiplied as f32.
void decode(const WeightView& weight, ThreadPool& pool, CpuWeight& out) {
  out.bytes = weight.rows * weight.cols * 4;
  out.memory = allocate(weight, out.bytes);
  auto* floats = reinterpret_cast<float*>(out.memory.data());
  pool.parallel_for(weight.rows, [&](std::int64_t r, int) {
    weight.type->decode(weight.row(r), weight.cols / weight.type->block_values, floats + r * weight.cols);
  });
  out.kernel = float_kernel(FloatElement::f32);
  out.data = out.memory.data();
  out.unit_bytes = panel_rows * weight.cols * 4;
}

bool is_float(const WeightType& type) {
  return type.name == "F32" || type.name == "F16" || type.name == "BF16";
}

bool has_panel_form(const WeightType& type) {
  const IntegerForm& form = type.integer;
  return form.bits >= 1 && form.bits <= 8 && (form.group == 16 || form.group == 32) &&
         type.block_values % block_cols == 0 && type.block_values <= max_block_values;
}

}  // namespace

std::int64_t prepared_bytes(const WeightView& weight) {
  if (has_panel_form(*weight.type)) return packed_bytes(weight, form_of(weight.type->integer));
  return is_float(*weight.type) ? weight.bytes() : weight.rows * weight.cols * 4;
}

std::unique_ptr<PreparedWeight> prepare_weight(const WeightView& weight, ThreadPool& pool) {
  auto prepared = std::make_unique<CpuWeight>();
  prepared->rows = weight.rows;
  prepared->cols = weight.cols;
  if (has_panel_form(*weight.type)) {
    pack(weight, pool, *prepared);
  } else if (weight.type->name == "F32") {
    reference_floats(weight, FloatElement::f32, *prepared);
  } else if (weight.type->name == "F16") {
    reference_floats(weight, FloatElement::f16, *prepared);
  } else if (weight.type->name == "BF16") {
    reference_floats(weight, FloatElement::bf16, *prepared);
  } else {
    decode(weight, pool, *prepared);
  }
  return prepared;
}

}  // namespace cga::cpu
