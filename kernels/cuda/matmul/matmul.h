// Matrix products on CUDA devices. docs/kernels/cuda-matmul.md has the arithmetic behind the layout, and what
// was measured. All functions enqueue work on a stream and return; none but prepare_* allocates or waits, so
// calls can be captured in a graph.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>

#include "kernels/cuda/matmul/device_array.h"
#include "kernels/ops.h"

namespace cga::cuda {

enum class Epilogue : std::uint8_t {
  store,   ///< out = x · weightᵀ + bias
  add,     ///< out += x · weightᵀ + bias
  swiglu,  ///< targets are {gate, up}: targets[0].out = silu(x · gateᵀ) * (x · upᵀ)
};

/// All pointers are to device memory.
struct MatmulParams {
  const float* x = nullptr;  // [n_tokens, cols], f32
  std::int64_t n_tokens = 0;
  const float* norm = nullptr;  // [cols], f32: x is RMS-normalised first; or null
  float eps = 0;
  std::span<const MatmulTarget> targets;  // of equal cols; made by prepare_weight or prepare_table
  Epilogue epilogue = Epilogue::store;
};

/// Scratch memory of the calls of one stream.
struct Workspace {
  std::byte* data = nullptr;
  std::size_t size = 0;
};

/// cuBLAS's choice of kernel for each shape of weight, made once: the same for any number of tokens, so that
/// a token's result does not depend on its company.
class GemmPlans {
 public:
  explicit GemmPlans(cublasLtHandle_t handle) : handle_(handle) {}
  cublasLtHandle_t handle() const { return handle_; }
  const cublasLtMatmulAlgo_t& algorithm(std::int64_t rows, std::int64_t cols);

 private:
  cublasLtHandle_t handle_;
  std::map<std::pair<std::int64_t, std::int64_t>, cublasLtMatmulAlgo_t> algorithms_;
};

/// Copies a matrix to the device and rearranges it there. F32 stays as it is. Waits for the stream.
std::unique_ptr<PreparedWeight> prepare_weight(DeviceAllocator& allocator, cudaStream_t stream,
                                               const WeightView& weight);

/// Copies a matrix to the device as the file's blocks: for embed and matmul_exact.
std::unique_ptr<PreparedWeight> prepare_table(DeviceAllocator& allocator, cudaStream_t stream,
                                              const WeightView& weight);

/// Device memory of prepare_weight's and prepare_table's results.
std::int64_t prepared_weight_bytes(const WeightView& weight);
std::int64_t prepared_table_bytes(const WeightView& weight);

/// Scratch memory that calls with up to this many tokens and matrices up to this size need.
std::size_t matmul_workspace_bytes(std::int64_t max_tokens, std::int64_t cols, std::int64_t rows);

/// Reads the weights once for every 32 tokens. Relative error at most 1e-3 (L2, a row), 2e-5 for float
/// weights. A token's bits depend on its x and the weights only.
void matmul_decode(const MatmulParams& params, cudaStream_t stream, Workspace& workspace);

/// For many tokens. Relative error at most 1e-3. A token's bits depend on its x and the weights only.
void matmul_prefill(const MatmulParams& params, cudaStream_t stream, GemmPlans& plans, Workspace& workspace);

/// Slow and exact: weights of prepare_table, products and sums in f32. Relative error at most 1e-5.
void matmul_exact(const MatmulParams& params, cudaStream_t stream, Workspace& workspace);

/// out[i] = table[ids[i]], exactly as the type's decode.  ids: [n], device; out: [n, cols], device.
/// @param table  of prepare_table
void embed(float* out, const PreparedWeight& table, const std::int32_t* ids, std::int64_t n,
           cudaStream_t stream);

}  // namespace cga::cuda
