// Matrix products: which kernels a call takes, and in what pieces.
#include "kernels/cuda/matmul/matmul.h"

#include <algorithm>
#include <string>

#include "cga/error.h"
#include "kernels/cuda/matmul/cuda_weight.h"
#include "kernels/cuda/matmul/gemm.h"
#include "kernels/cuda/matmul/kernels.h"
#include "kernels/cuda/matmul/plan.h"
#include "kernels/cuda/matmul/steps.h"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

constexpr std::int64_t max_exact_tokens = 256;  // at a time

const CudaWeight& weight_of(const MatmulTarget& target) {
  return static_cast<const CudaWeight&>(*target.weight);
}

const TileKernels* tile_of(const MatmulTarget& target) {
  const CudaWeight& weight = weight_of(target);
  return weight.blocks != nullptr ? nullptr : weight.kernels->tile();
}

/// Takes parts of a workspace in turn.
class Parts {
 public:
  explicit Parts(const Workspace& workspace) : workspace_(workspace) {}

  template <class T>
  T* take(std::int64_t n) {
    std::byte* part = workspace_.data + at_;
    at_ += static_cast<std::size_t>(round_up(n * static_cast<std::int64_t>(sizeof(T)), 256));
    if (at_ > workspace_.size) {
      throw Error(ErrorKind::memory, "matmul",
                  "a workspace of " + std::to_string(workspace_.size) + " bytes where more than " +
                      std::to_string(at_) + " are needed");
    }
    return reinterpret_cast<T*>(part);
  }

 private:
  Workspace workspace_;
  std::size_t at_ = 0;
};

/// Tokens [first, first + n) of a call, for one of its targets.
MatmulTarget slice(MatmulTarget target, std::int64_t first) {
  target.out += first * target.weight->rows;
  return target;
}

/// Calls run(tokens' x, number of tokens, first token) for pieces of at most `most` tokens.
template <class Run>
void in_pieces(const MatmulParams& params, std::int64_t most, Run run) {
  const std::int64_t cols = params.targets.front().weight->cols;
  for (std::int64_t first = 0; first < params.n_tokens; first += most) {
    MatmulParams piece = params;
    piece.x = params.x + first * cols;
    piece.n_tokens = std::min(most, params.n_tokens - first);
    run(piece, first);
  }
}

// ---- exact

/// x, or x normalised in part of the workspace.
const float* normalised(const MatmulParams& params, Parts& parts, cudaStream_t stream) {
  if (params.norm == nullptr) return params.x;
  const std::int64_t cols = params.targets.front().weight->cols;
  auto* x = parts.take<float>(params.n_tokens * cols);
  normalise(x, params.x, params.norm, params.eps, params.n_tokens, cols, stream);
  return x;
}

void multiply_exactly(const MatmulTarget& target, const float* x, std::int64_t n_tokens, float* out,
                      cudaStream_t stream) {
  const CudaWeight& weight = weight_of(target);
  if (weight.blocks == nullptr) {
    throw Error(ErrorKind::device, "matmul_exact", "a weight in tiles where blocks are needed");
  }
  const std::int64_t row_bytes = weight.bytes / weight.rows;
  weight.kernels->exact({weight.blocks, weight.rows, weight.cols, row_bytes, x, n_tokens, out}, stream);
}

/// At most max_exact_tokens.
void exact_piece(const MatmulParams& params, std::int64_t first, cudaStream_t stream,
                 const Workspace& workspace) {
  Parts parts(workspace);
  const float* x = normalised(params, parts, stream);
  const bool pairs = params.epilogue == Epilogue::swiglu;
  const std::int64_t rows =
      std::ranges::max(params.targets, {}, [](const MatmulTarget& t) { return t.weight->rows; }).weight->rows;
  float* products[2] = {parts.take<float>(params.n_tokens * rows), nullptr};
  if (pairs) products[1] = parts.take<float>(params.n_tokens * rows);
  for (std::size_t i = 0; i < params.targets.size(); i += pairs ? 2 : 1) {
    const MatmulTarget target = slice(params.targets[i], first);
    EpilogueArgs args;
    args.n_tokens = params.n_tokens;
    args.rows = args.stride = args.out_stride = target.weight->rows;
    args.out = target.out;
    args.epilogue = params.epilogue;
    for (std::size_t p = 0; p < (pairs ? 2u : 1u); ++p) {
      multiply_exactly(params.targets[i + p], x, params.n_tokens, products[p], stream);
      args.products[p] = {products[p], nullptr, params.targets[i + p].bias};
    }
    apply_epilogue(args, stream);
  }
}

// ---- decode

DeviceLimits limits() {
  int device = 0;
  DeviceLimits limits;
  check(cudaGetDevice(&device), "cudaGetDevice");
  const auto get = [device](int& value, cudaDeviceAttr attribute) {
    check(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  };
  get(limits.multiprocessors, cudaDevAttrMultiProcessorCount);
  get(limits.shared_per_multiprocessor, cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  get(limits.shared_per_cta, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  return limits;
}

/// A launch for targets of one tile type.
void decode_launch(const MatmulParams& params, std::span<const MatmulTarget> targets, std::int64_t first,
                   cudaStream_t stream, const Workspace& workspace) {
  const TileKernels& kernels = *tile_of(targets.front());
  const bool pairs = params.epilogue == Epilogue::swiglu;
  const std::int64_t cols = targets.front().weight->cols;
  const auto n_tokens = static_cast<int>(params.n_tokens);
  DecodeArgs args;
  for (const MatmulTarget& target : targets) {
    const MatmulTarget here = pairs && &target != &targets.front() ? target : slice(target, first);
    args.targets[args.n_targets++] = {weight_of(target).tiles, here.bias, here.out,
                                      static_cast<int>(here.weight->rows), pairs ? 0 : args.n_tasks};
    const auto row_tiles = static_cast<int>(round_up(here.weight->rows, tile_rows) / tile_rows);
    args.n_tasks = pairs ? row_tiles : args.n_tasks + row_tiles;
  }
  args.epilogue = params.epilogue;
  args.x = params.x;
  args.norm = params.norm;
  args.eps = params.eps;
  args.n_tokens = n_tokens;
  args.cols = static_cast<int>(cols);
  const int bytes = kernels.code_bytes + kernels.plane_bytes + kernels.numbers_bytes;
  if (kernels.decode_integers != nullptr) {
    const IntegerPlan plan =
        plan_integers(cols, args.n_tasks, n_tokens, {kernels.step, bytes, kernels.has_min}, limits());
    if (plan.teams == 0) throw Error(ErrorKind::device, "matmul", "no plan fits the device's shared memory");
    if (!plan.quantises)
      args.converted = Parts(workspace).take<std::byte>(plan.token_groups * plan.activations.bytes);
    return kernels.decode_integers(args, plan, stream);
  }
  const DecodeTile tile{kernels.planes, kernels.group, kernels.step, bytes};
  const DecodePlan plan = plan_decode(cols, args.n_tasks, n_tokens, tile, limits());
  if (!plan.fused)
    args.converted = Parts(workspace).take<std::byte>(plan.token_groups * plan.activations.bytes);
  kernels.decode(args, plan, stream);
}

/// gate and up of different types, or not in tiles: two products, then swiglu.
void decode_mixed_pair(const MatmulParams& params, std::int64_t first, cudaStream_t stream,
                       Workspace workspace) {
  const MatmulTarget& gate = params.targets[0];
  const std::int64_t rows = gate.weight->rows, n = params.n_tokens * rows;
  Parts parts(workspace);
  EpilogueArgs args;
  for (std::size_t i = 0; i < 2; ++i) args.products[i].values = parts.take<float>(n);
  auto* rest = parts.take<std::byte>(0);
  Workspace inner{rest, workspace.size - static_cast<std::size_t>(rest - workspace.data)};
  for (std::size_t i = 0; i < 2; ++i) {
    MatmulTarget target = params.targets[i];
    target.out = const_cast<float*>(args.products[i].values);
    MatmulParams one = params;
    one.targets = {&target, 1};
    one.epilogue = Epilogue::store;
    matmul_decode(one, stream, inner);
  }
  args.stride = args.rows = args.out_stride = rows;
  args.n_tokens = params.n_tokens;
  args.out = slice(gate, first).out;
  args.epilogue = Epilogue::swiglu;
  apply_epilogue(args, stream);
}

/// At most max_decode_tokens.
void decode_piece(const MatmulParams& params, std::int64_t first, cudaStream_t stream,
                  const Workspace& workspace) {
  const auto targets = params.targets;
  if (params.epilogue == Epilogue::swiglu) {
    const TileKernels* tile = tile_of(targets[0]);
    if (tile != nullptr && tile == tile_of(targets[1]))
      return decode_launch(params, targets, first, stream, workspace);
    return decode_mixed_pair(params, first, stream, workspace);
  }
  for (std::size_t i = 0; i < targets.size();) {
    const TileKernels* tile = tile_of(targets[i]);
    std::size_t n = 1;
    if (tile == nullptr) {
      MatmulParams one = params;
      one.targets = targets.subspan(i, 1);
      exact_piece(one, first, stream, workspace);
    } else {
      while (i + n < targets.size() && n < max_decode_targets && tile_of(targets[i + n]) == tile) ++n;
      decode_launch(params, targets.subspan(i, n), first, stream, workspace);
    }
    i += n;
  }
}

std::int64_t decode_workspace_bytes(std::int64_t cols, std::int64_t rows) {
  const ActivationLayout activations = activation_layout(cols, group_tokens, 2, 16, group_tokens);
  const std::int64_t x = max_decode_tokens * cols * 4;  // of products that are exact
  return max_decode_tokens / group_tokens * activations.bytes + x + max_decode_tokens * rows * 4 * 4 +
         8 * 256;
}

// ---- prefill

/// Where the pieces of a prefill work.
struct PrefillMemory {
  __half* x;           // [tokens, padded_cols]
  float* scales;       // [tokens]
  __half* weights;     // [rows, padded_cols]
  float* products[2];  // [tokens, rows]
  std::byte* gemm;

  PrefillMemory(const PrefillPlan& plan, const Workspace& workspace)
      : x(reinterpret_cast<__half*>(workspace.data)),
        scales(reinterpret_cast<float*>(workspace.data + plan.scales_offset)),
        weights(reinterpret_cast<__half*>(workspace.data + plan.weights_offset)),
        products{reinterpret_cast<float*>(workspace.data + plan.products_offset[0]),
                 reinterpret_cast<float*>(workspace.data + plan.products_offset[1])},
        gemm(workspace.data + plan.gemm_offset) {}
};

/// Rows [row, row + n) of the targets from targets[i] (two of swiglu), for one piece of tokens.
void prefill_rows(const MatmulParams& params, std::size_t i, std::int64_t first, std::int64_t row,
                  std::int64_t n, const PrefillPlan& plan, const PrefillMemory& memory, GemmPlans& plans,
                  cudaStream_t stream) {
  const std::int64_t padded_rows = round_up(n, tile_rows), n_tokens = round_up(params.n_tokens, 128);
  const bool pairs = params.epilogue == Epilogue::swiglu;
  EpilogueArgs args;
  for (std::size_t p = 0; p < (pairs ? 2u : 1u); ++p) {
    const MatmulTarget& target = params.targets[i + p];
    const CudaWeight& weight = weight_of(target);
    weight.kernels->tile()->dequantise({weight.tiles, row, padded_rows, memory.weights}, stream);
    gemm({memory.weights, memory.x, memory.products[p], n_tokens, padded_rows, plan.padded_cols, memory.gemm},
         plans, stream);
    args.products[p] = {memory.products[p], weight.tiles.row_scale + row,
                        target.bias == nullptr ? nullptr : target.bias + row};
  }
  const MatmulTarget target = slice(params.targets[i], first);
  args.token_scale = memory.scales;
  args.stride = padded_rows;
  args.n_tokens = params.n_tokens;
  args.rows = n;
  args.out = target.out + row;
  args.out_stride = target.weight->rows;
  args.epilogue = params.epilogue;
  apply_epilogue(args, stream);
}

/// All rows of the targets from targets[i], for at most the plan's tokens.
void prefill_piece(const MatmulParams& params, std::size_t i, std::int64_t first, GemmPlans& plans,
                   cudaStream_t stream, const Workspace& workspace) {
  const std::int64_t rows = params.targets[i].weight->rows, cols = params.targets[i].weight->cols;
  const PrefillPlan plan = plan_prefill(params.n_tokens, cols, rows);
  if (plan.bytes > workspace.size) {
    throw Error(ErrorKind::memory, "matmul",
                "a workspace of " + std::to_string(workspace.size) + " bytes where " +
                    std::to_string(plan.bytes) + " are needed");
  }
  const PrefillMemory memory(plan, workspace);
  // Targets share x; only the first of a call has to convert it, as all plans put it at the front.
  if (i == 0) {
    convert_to_halves(
        {params.x, params.norm, params.eps, params.n_tokens, cols, plan.padded_cols, memory.x, memory.scales},
        stream);
  }
  for (std::int64_t row = 0; row < rows; row += plan.rows) {
    prefill_rows(params, i, first, row, std::min(plan.rows, rows - row), plan, memory, plans, stream);
  }
}

bool in_tiles(std::span<const MatmulTarget> targets) {
  return std::ranges::all_of(targets, [](const MatmulTarget& t) { return tile_of(t) != nullptr; });
}

}  // namespace

void matmul_exact(const MatmulParams& params, cudaStream_t stream, Workspace& workspace) {
  in_pieces(params, max_exact_tokens, [&](const MatmulParams& piece, std::int64_t first) {
    exact_piece(piece, first, stream, workspace);
  });
}

void matmul_decode(const MatmulParams& params, cudaStream_t stream, Workspace& workspace) {
  in_pieces(params, max_decode_tokens, [&](const MatmulParams& piece, std::int64_t first) {
    decode_piece(piece, first, stream, workspace);
  });
}

void matmul_prefill(const MatmulParams& params, cudaStream_t stream, GemmPlans& plans, Workspace& workspace) {
  // f32 matrices are too rare for a path of their own.
  if (!in_tiles(params.targets)) return matmul_decode(params, stream, workspace);
  const std::size_t step = params.epilogue == Epilogue::swiglu ? 2 : 1;
  in_pieces(params, max_prefill_tokens, [&](const MatmulParams& piece, std::int64_t first) {
    for (std::size_t i = 0; i < piece.targets.size(); i += step) {
      prefill_piece(piece, i, first, plans, stream, workspace);
    }
  });
}

void embed(float* out, const PreparedWeight& table, const std::int32_t* ids, std::int64_t n,
           cudaStream_t stream) {
  const auto& weight = static_cast<const CudaWeight&>(table);
  weight.kernels->embed({weight.blocks, weight.cols, weight.bytes / weight.rows, ids, n, out}, stream);
}

std::size_t matmul_workspace_bytes(std::int64_t max_tokens, std::int64_t cols, std::int64_t rows) {
  const std::int64_t exact_tokens = std::min(max_tokens, max_exact_tokens);
  const std::int64_t exact = exact_tokens * (cols + 2 * rows) * 4 + 3 * 256;
  const std::int64_t decode = decode_workspace_bytes(cols, rows);
  return std::max({plan_prefill(max_tokens, cols, rows).bytes, static_cast<std::size_t>(exact),
                   static_cast<std::size_t>(decode)});
}

}  // namespace cga::cuda
