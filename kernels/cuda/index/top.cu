// The best units of a row, one CTA a row. Scores become whole numbers in the same order, and four passes over
// them find the number of the last that is chosen, a byte a pass. A last pass writes the units in order: all
// above that number, and of those that are equal the first ones. So the result is exact, and needs no
// sorting.
#include "kernels/cuda/index/index.h"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

constexpr int threads = 1024, warps = threads / 32;
constexpr int most_kept = 8192;  // numbers kept in shared memory: those of 131072 tokens; more are read again
constexpr int n_bins = 256;

/// Numbers that are in order as scores are. Both zeros are one.
__device__ inline unsigned in_order(float score) {
  const unsigned bits = score == 0 ? 0u : __float_as_uint(score);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

struct Numbers {
  const float* scores;         // [n]
  const std::int32_t* before;  // [n_before], ascending: units that get the bonus; or null
  int n_before, n, first_unit, count;
  float bonus;
  const unsigned* kept;  // [n], in shared memory; or null

  __device__ bool gets_bonus(int i) const {
    if (before == nullptr) return false;
    int low = 0, high = n_before;  // the first that is not below the unit is in [low, high]
    while (low < high) {
      const int middle = (low + high) / 2;
      if (before[middle] < first_unit + i) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < n_before && before[low] == first_unit + i;
  }
  __device__ unsigned make(int i) const {
    return in_order(gets_bonus(i) ? __fadd_rn(scores[i], bonus) : scores[i]);
  }
  __device__ unsigned at(int i) const { return kept != nullptr ? kept[i] : make(i); }
};

/// What is known of the last number that is chosen: its upper bits, and its rank among all that have them.
struct Last {
  unsigned bits;
  int rank;  // from 1
};

/// Counts the next byte of all numbers whose bits above it are those of the last. All threads call it.
__device__ void count_bytes(const Numbers& numbers, int shift, unsigned bits, int* bins) {
  const int n = numbers.n;
  for (int bin = threadIdx.x; bin < n_bins; bin += threads) bins[bin] = 0;
  __syncthreads();
  for (int first = 0; first < n; first += threads) {
    const int i = first + threadIdx.x;
    const unsigned number = i < n ? numbers.at(i) : 0u;
    const bool counts = i < n && (shift == 24 || number >> (shift + 8) == bits);
    const unsigned bin = counts ? number >> shift & (n_bins - 1) : n_bins;
    // Scores share their upper bits: the lanes of a bin add to it once.
    const unsigned peers = __match_any_sync(~0u, bin);
    if (counts && static_cast<int>(threadIdx.x % 32) == __ffs(peers) - 1)
      atomicAdd(&bins[bin], __popc(peers));
  }
  __syncthreads();
}

/// The bin, from the highest down, that holds the number of rank `rank`. One warp calls it; one lane has it.
__device__ void find_bin(const int* bins, const Last& last, Last* found) {
  constexpr int each = n_bins / 32;
  const int lane = threadIdx.x % 32, highest = n_bins - 1 - lane * each;
  int own = 0;
  for (int i = 0; i < each; ++i) own += bins[highest - i];
  int upto = own;
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const int other = __shfl_up_sync(~0u, upto, lanes);
    if (lane >= lanes) upto += other;
  }
  if (last.rank > upto || last.rank <= upto - own) return;
  int rank = last.rank - (upto - own), bin = highest;
  for (; rank > bins[bin]; --bin) rank -= bins[bin];
  *found = {last.bits << 8 | static_cast<unsigned>(bin), rank};
}

/// Writes the chosen units in order. All threads call it.
/// @param counts  [warps], in shared memory: of a warp's numbers, how many are above the last, and equal to
/// it
__device__ void write_chosen(const Numbers& numbers, const Last& last, int2* counts, std::int32_t* units) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int n = numbers.n;
  const unsigned lower = (1u << lane) - 1;
  int n_above = 0, n_equal = 0;  // of all before
  for (int first = 0; first < n; first += threads) {
    const int i = first + threadIdx.x;
    const unsigned number = i < n ? numbers.at(i) : 0u;
    const bool is_above = i < n && number > last.bits, is_equal = i < n && number == last.bits;
    const unsigned above = __ballot_sync(~0u, is_above), equal = __ballot_sync(~0u, is_equal);
    if (lane == 0) counts[warp] = {__popc(above), __popc(equal)};
    __syncthreads();
    const int2 of = counts[lane];
    const int above_before = n_above + __reduce_add_sync(~0u, lane < warp ? of.x : 0) + __popc(above & lower);
    const int equal_before = n_equal + __reduce_add_sync(~0u, lane < warp ? of.y : 0) + __popc(equal & lower);
    if (is_above || (is_equal && equal_before < last.rank)) {
      units[above_before + min(equal_before, last.rank)] = numbers.first_unit + i;
    }
    n_above += __reduce_add_sync(~0u, of.x);
    n_equal += __reduce_add_sync(~0u, of.y);
    __syncthreads();
  }
}

/// What a CTA keeps in shared memory.
struct Shared {
  unsigned kept[most_kept];
  int bins[n_bins];
  int2 counts[warps];
  Last found;
};

/// One row's choice. All threads call it.
__device__ void choose(Numbers numbers, Shared& shared, std::int32_t* units) {
  if (numbers.n <= most_kept) {
    for (int i = threadIdx.x; i < numbers.n; i += threads) shared.kept[i] = numbers.make(i);
    numbers.kept = shared.kept;
  }
  __syncthreads();
  Last last{0, numbers.count};
  for (int shift = 24; shift >= 0; shift -= 8) {
    count_bytes(numbers, shift, last.bits, shared.bins);
    if (threadIdx.x < 32) find_bin(shared.bins, last, &shared.found);
    __syncthreads();
    last = shared.found;
    __syncthreads();
  }
  write_chosen(numbers, last, shared.counts, units);
}

/// units_of_row, to the bit.
__device__ int units_of_row(const TopUnitsArgs& args, const ScoredMeta& row) {
  if (args.need == nullptr) return args.count;
  const float wanted = rintf(__fmul_rn(args.need[row.row], static_cast<float>(args.mean)));
  const int most = min(args.count, row.last - row.first);
  if (!(wanted > static_cast<float>(args.least))) return min(args.least, most);
  return wanted < static_cast<float>(most) ? static_cast<int>(wanted) : most;
}

/// Grid: [rows]; a row that follows another is its CTA's.
__global__ void __launch_bounds__(threads) top_kernel(TopUnitsArgs args) {
  __shared__ Shared shared;
  static_assert(warps == 32);  // a lane a warp in write_chosen
  int row = blockIdx.x;
  const Before earlier = args.before_of[row];
  if (earlier.at == follows_row) return;
  const std::int32_t* before = earlier.at == no_predecessor ? nullptr : args.before + earlier.at;
  int n_before = earlier.n;
  do {
    const ScoredMeta meta = args.rows[row];
    std::int32_t* const units = args.units + std::int64_t{row} * args.count;
    const int count = units_of_row(args, meta);
    if (threadIdx.x == 0) args.counts[row] = count;
    choose({args.scores + row * args.stride + meta.first, before, n_before, meta.last - meta.first,
            meta.first, count, args.bonus, nullptr},
           shared, units);  // ends in a barrier, so what it wrote can be read
    before = units;
    n_before = count;
    ++row;
  } while (row < args.n_rows && args.before_of[row].at == follows_row);
}

}  // namespace

void top_units(const TopUnitsArgs& args, cudaStream_t stream) {
  if (args.n_rows == 0 || args.count == 0) return;
  top_kernel<<<args.n_rows, threads, 0, stream>>>(args);
  check(cudaGetLastError(), "top_units");
}

}  // namespace cga::cuda
