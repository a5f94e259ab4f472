#include "kernels/cuda/matmul/gemm.h"

#include <array>
#include <memory>
#include <string>

#include "cga/error.h"
#include "kernels/cuda/matmul/plan.h"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

// The number of tokens for which an algorithm is chosen; it then serves any number.
constexpr std::int64_t typical_tokens = 512;

template <auto destroy>
struct Destroy {
  template <class T>
  void operator()(T* handle) const {
    destroy(handle);
  }
};

using Operation = std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy<&cublasLtMatmulDescDestroy>>;
using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy<&cublasLtMatrixLayoutDestroy>>;
using Preference =
    std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, Destroy<&cublasLtMatmulPreferenceDestroy>>;

Layout make_layout(cudaDataType type, std::int64_t rows, std::int64_t cols) {
  cublasLtMatrixLayout_t layout = nullptr;
  check(cublasLtMatrixLayoutCreate(&layout, type, static_cast<std::uint64_t>(rows),
                                   static_cast<std::uint64_t>(cols), rows),
        "cublasLtMatrixLayoutCreate");
  return Layout(layout);
}

/// In cuBLAS's order, where columns are contiguous: out[rows, n] = weights[cols, rows]ᵀ x[cols, n].
struct Problem {
  Operation operation;
  Layout weights, x, out;

  Problem(std::int64_t n_tokens, std::int64_t rows, std::int64_t cols)
      : weights(make_layout(CUDA_R_16F, cols, rows)),
        x(make_layout(CUDA_R_16F, cols, n_tokens)),
        out(make_layout(CUDA_R_32F, rows, n_tokens)) {
    cublasLtMatmulDesc_t desc = nullptr;
    check(cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    operation.reset(desc);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
          "CUBLASLT_MATMUL_DESC_TRANSA");
  }
};

Preference make_preference() {
  cublasLtMatmulPreference_t handle = nullptr;
  check(cublasLtMatmulPreferenceCreate(&handle), "cublasLtMatmulPreferenceCreate");
  Preference preference(handle);
  const std::size_t bytes = gemm_workspace_bytes;
  check(cublasLtMatmulPreferenceSetAttribute(handle, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
                                             sizeof bytes),
        "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES");
  // Splitting the sum over columns would make its order depend on the number of tiles, hence of tokens.
  const std::uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE;
  check(cublasLtMatmulPreferenceSetAttribute(handle, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                             sizeof schemes),
        "CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK");
  return preference;
}

bool splits(const cublasLtMatmulAlgo_t& algorithm) {
  std::int32_t n = 0;
  std::size_t written = 0;
  check(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &n, sizeof n,
                                             &written),
        "CUBLASLT_ALGO_CONFIG_SPLITK_NUM");
  return n > 1;
}

}  // namespace

const cublasLtMatmulAlgo_t& GemmPlans::algorithm(std::int64_t rows, std::int64_t cols) {
  const auto found = algorithms_.find({rows, cols});
  if (found != algorithms_.end()) return found->second;
  const Problem problem(typical_tokens, rows, cols);
  const Preference preference = make_preference();
  std::array<cublasLtMatmulHeuristicResult_t, 16> results{};
  int n = 0;
  check(cublasLtMatmulAlgoGetHeuristic(
            handle_, problem.operation.get(), problem.weights.get(), problem.x.get(), problem.out.get(),
            problem.out.get(), preference.get(), static_cast<int>(results.size()), results.data(), &n),
        "cublasLtMatmulAlgoGetHeuristic");
  for (int i = 0; i < n; ++i) {
    if (results[i].state == CUBLAS_STATUS_SUCCESS && !splits(results[i].algo)) {
      return algorithms_.emplace(std::pair{rows, cols}, results[i].algo).first->second;
    }
  }
  throw Error(ErrorKind::device, "cuBLAS",
              "no algorithm for a matrix of " + std::to_string(rows) + " x " + std::to_string(cols));
}

void gemm(const GemmArgs& args, GemmPlans& plans, cudaStream_t stream) {
  const cublasLtMatmulAlgo_t& algorithm = plans.algorithm(args.rows, args.cols);
  const Problem problem(args.n_tokens, args.rows, args.cols);
  const float one = 1.0f, zero = 0.0f;
  check(cublasLtMatmul(plans.handle(), problem.operation.get(), &one, args.weights, problem.weights.get(),
                       args.x, problem.x.get(), &zero, args.out, problem.out.get(), args.out,
                       problem.out.get(), &algorithm, args.workspace, gemm_workspace_bytes, stream),
        "cublasLtMatmul");
}

}  // namespace cga::cuda
