// Selection by bits: a block holds its keys in registers and finds the k-th largest bit by bit, counting how
// many keys are at least as large as a threshold with one more bit set. No key moves, nothing is sorted but
// the k that are left, and equals need no thought, because a key holds the id as well. Steps and their order
// depend on the row alone.
#include "kernels/cuda/runtime/check.h"
#include "kernels/cuda/shortlist/shortlist.h"

namespace cga::cuda {
namespace {

/// A logit and its token as one number: the larger comes first. No two of a row are equal, and 0 comes last.
using Key = std::uint64_t;

constexpr std::uint32_t none = ~0u;

/// A float's bits as an unsigned integer of the same order, both zeros as one. NaNs lie beyond the
/// infinities.
__device__ std::uint32_t ordered(float logit) {
  const std::uint32_t bits = __float_as_uint(logit + 0.0f);  // -0 becomes 0
  return bits ^ (bits >> 31 != 0 ? ~0u : 1u << 31);
}
__device__ float unordered(std::uint32_t bits) {
  return __uint_as_float(bits ^ (bits >> 31 != 0 ? 1u << 31 : ~0u));
}

__device__ Key key_of(float logit, int id) {
  return Key{ordered(logit)} << 32 | ~static_cast<std::uint32_t>(id);
}
__device__ std::uint32_t value_bits(Key key) {
  return static_cast<std::uint32_t>(key >> 32);
}
__device__ Candidate candidate_of(Key key) {
  return {static_cast<TokenId>(~static_cast<std::uint32_t>(key)), unordered(value_bits(key))};
}

/// Counts of a block: two, so that one can be filled while the other is read.
template <int n_threads>
struct Counts {
  std::uint32_t warps[2][n_threads / 32];

  /// The sum over the block; `turn` alternates from call to call.
  __device__ std::uint32_t sum(std::uint32_t count, int turn) {
    count = __reduce_add_sync(~0u, count);
    if (threadIdx.x % 32 == 0) warps[turn][threadIdx.x / 32] = count;
    __syncthreads();
    std::uint32_t total = 0;
    for (const std::uint32_t of_warp : warps[turn]) total += of_warp;
    return total;
  }
};

/// The largest threshold that at least k of the block's keys reach: as they differ, exactly k do. At least k
/// must be above 0. All threads call it and get the same.
template <int n_threads, int n>
__device__ Key kth_largest(const Key (&keys)[n], std::uint32_t k, Counts<n_threads>& counts) {
  std::uint32_t value = 0;
  for (int bit = 31; bit >= 0; --bit) {
    const std::uint32_t tried = value | 1u << bit;
    std::uint32_t count = 0;
    for (const Key key : keys) count += value_bits(key) >= tried;
    count = counts.sum(count, bit & 1);
    if (count >= k) value = tried;
    if (count == k) return Key{value} << 32;
  }
  Key threshold = Key{value} << 32;  // more than k have that value, or larger ones: the lower ids
  for (int bit = 31; bit >= 0; --bit) {
    const Key tried = threshold | Key{1} << bit;
    std::uint32_t count = 0;
    for (const Key key : keys) count += key >= tried;
    count = counts.sum(count, bit & 1);
    if (count >= k) threshold = tried;
    if (count == k) break;
  }
  return threshold;
}

struct PartSummary {
  float highest;
  float sum;  // of exp(logit - highest)
  std::uint32_t first_invalid;
};

struct Workspace {
  Key* keys;               // [n_rows, n_parts, k]
  PartSummary* summaries;  // [n_rows, n_parts]
};

/// What the threads of a block bring together about their part.
struct PartShared {
  Counts<part_threads> counts;
  std::uint32_t highest[part_threads / 32], first_invalid[part_threads / 32];
  float sums[part_threads / 32];
  std::uint32_t n_kept;
};

/// The k likeliest of a part, in any order, and its summary. Grid: (n_parts, n_rows).
__global__ void __launch_bounds__(part_threads)
    part_kernel(const float* logits, int n_vocab, int k, Workspace workspace) {
  __shared__ PartShared shared;
  const int first = static_cast<int>(blockIdx.x) * part_tokens, lane = threadIdx.x % 32,
            warp = threadIdx.x / 32;
  const std::int64_t row = blockIdx.y, part = row * gridDim.x + blockIdx.x;
  const float* const from = logits + row * n_vocab;

  float values[part_thread_keys];
  Key keys[part_thread_keys];
  std::uint32_t highest = 0, first_invalid = none;
  for (int i = 0; i < part_thread_keys; ++i) {
    const int id = first + i * part_threads + static_cast<int>(threadIdx.x);
    values[i] = id < n_vocab ? from[id] : -INFINITY;
    keys[i] = id < n_vocab ? key_of(values[i], id) : 0;
    highest = max(highest, value_bits(keys[i]));
    if (!(values[i] < INFINITY)) first_invalid = min(first_invalid, static_cast<std::uint32_t>(id));
  }
  highest = __reduce_max_sync(~0u, highest);
  first_invalid = __reduce_min_sync(~0u, first_invalid);
  if (lane == 0) shared.highest[warp] = highest, shared.first_invalid[warp] = first_invalid;
  if (threadIdx.x == 0) shared.n_kept = 0;
  __syncthreads();
  for (int w = 0; w < part_threads / 32; ++w) {
    highest = max(highest, shared.highest[w]);
    first_invalid = min(first_invalid, shared.first_invalid[w]);
  }

  const float most = unordered(highest);
  float sum = 0.0f;
  for (const float value : values) sum += value > -INFINITY ? expf(value - most) : 0.0f;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (lane == 0) shared.sums[warp] = sum;

  // The counting brings the threads together at least once more, unless all are kept.
  const int n_here = min(part_tokens, n_vocab - first);
  const Key threshold = n_here <= k ? Key{1} : kth_largest(keys, k, shared.counts);
  Key* const to = workspace.keys + part * k;
  for (const Key key : keys) {
    if (key >= threshold) to[atomicAdd(&shared.n_kept, 1u)] = key;
  }
  for (int i = n_here + static_cast<int>(threadIdx.x); i < k; i += part_threads) to[i] = 0;
  __syncthreads();
  if (threadIdx.x > 0) return;
  sum = 0.0f;
  for (const float of_warp : shared.sums) sum += of_warp;
  workspace.summaries[part] = {most, sum, first_invalid};
}

/// Of a row, by the first warp of its block. In f64: what parts add up to shall not add an error of its own.
__device__ LogitSummary merge_summaries(const PartSummary* parts, int n_parts, const float* row) {
  const int lane = threadIdx.x;
  float highest = -INFINITY;
  std::uint32_t first_invalid = none;
  for (int p = lane; p < n_parts; p += 32) {
    highest = fmaxf(highest, parts[p].highest);
    first_invalid = min(first_invalid, parts[p].first_invalid);
  }
  first_invalid = __reduce_min_sync(~0u, first_invalid);
  for (int step = 16; step > 0; step /= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, step));
  double sum = 0.0;
  for (int p = lane; p < n_parts; p += 32) {
    if (parts[p].sum > 0.0f) {
      sum += double{parts[p].sum} * exp(double{parts[p].highest} - double{highest});
    }
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (first_invalid == none) return {sum, -1, 0.0f};
  return {0.0, static_cast<std::int32_t>(first_invalid), row[first_invalid]};
}

/// The k likeliest of what the parts of a row left, in order. Grid: (n_rows).
template <int n_keys>
__global__ void __launch_bounds__(merge_threads)
    merge_kernel(const float* logits, int n_vocab, int k, int n_parts, Workspace workspace,
                 Candidate* likeliest, LogitSummary* summaries) {
  __shared__ Counts<merge_threads> counts;
  __shared__ Key best[most_shortlisted], sorted[most_shortlisted];
  __shared__ std::uint32_t n_best;
  const std::int64_t row = blockIdx.x;
  const int n = n_parts * k, thread = static_cast<int>(threadIdx.x);
  const Key* const from = workspace.keys + row * n;

  Key keys[n_keys];
  for (int i = 0; i < n_keys; ++i) {
    const int at = i * merge_threads + thread;
    keys[i] = at < n ? from[at] : 0;
  }
  if (thread == 0) n_best = 0;
  __syncthreads();
  const Key threshold = n <= k ? Key{1} : kth_largest(keys, k, counts);
  for (const Key key : keys) {
    if (key >= threshold) best[atomicAdd(&n_best, 1u)] = key;
  }
  __syncthreads();
  if (thread < k) {
    const Key mine = best[thread];
    int rank = 0;
    for (int i = 0; i < k; ++i) rank += best[i] > mine;
    sorted[rank] = mine;
  }
  __syncthreads();
  if (thread < k) likeliest[row * k + thread] = candidate_of(sorted[thread]);
  if (thread >= 32) return;
  const LogitSummary summary =
      merge_summaries(workspace.summaries + row * n_parts, n_parts, logits + row * n_vocab);
  if (thread == 0) summaries[row] = summary;
}

}  // namespace

std::size_t shortlist_workspace_bytes(std::int64_t n_rows) {
  constexpr std::size_t row_bytes = most_parts * (most_shortlisted * sizeof(Key) + sizeof(PartSummary));
  return static_cast<std::size_t>(n_rows) * row_bytes;
}

void shortlist(const ShortlistArgs& args, cudaStream_t stream) {
  if (args.n_rows == 0) return;
  const int parts = n_parts(args.n_vocab);
  const std::int64_t n_keys = std::int64_t{args.n_rows} * parts * args.k;
  const auto keys = reinterpret_cast<Key*>(args.workspace);
  const Workspace workspace{keys, reinterpret_cast<PartSummary*>(keys + n_keys)};
  const dim3 grid(static_cast<unsigned>(parts), static_cast<unsigned>(args.n_rows));
  part_kernel<<<grid, part_threads, 0, stream>>>(args.logits, args.n_vocab, args.k, workspace);
  check(cudaGetLastError(), "shortlist, parts");
  const auto merge = merge_thread_keys(args.n_vocab, args.k) == few_thread_keys
                         ? merge_kernel<few_thread_keys>
                         : merge_kernel<most_thread_keys>;
  merge<<<static_cast<unsigned>(args.n_rows), merge_threads, 0, stream>>>(
      args.logits, args.n_vocab, args.k, parts, workspace, args.likeliest, args.summaries);
  check(cudaGetLastError(), "shortlist, merging");
}

}  // namespace cga::cuda
