// append and attend of the CUDA backend against double precision on the same rounded keys and values. Needs a
// GPU; with any argument, a part of it, for compute-sanitizer. From the repository's root:
//   nvcc -std=c++20 --expt-relaxed-constexpr -O3 -arch=native -I. -Isrc -Iinclude -Itests -Xcompiler
//     -Wall,-Wextra,-fopenmp,-ffp-contract=off tests/cuda/attention_gpu_test.cu kernels/cuda/attention/*.cu
//     src/quant/q[48]_0/encode.cpp src/base/error.cpp -lgomp -o attention_gpu_test
#include <cstdio>
#include <map>
#include <numeric>
#include <random>
#include <string>

#include "cuda/attention_layer.h"
#include "cuda/no_device.h"
#include "support/compare.h"

using namespace cga;
using namespace cga::test;
using cuda::SequenceMeta;

namespace {

int n_failed = 0, n_checked = 0;
std::map<std::string, double> worst;  // relative L2 errors, by what was tested

void expect(bool holds, const std::string& what) {
  ++n_checked;
  if (!holds && ++n_failed <= 40) std::printf("FAILED: %s\n", what.c_str());
}

const char* name(KvElement element) {
  const char* names[] = {"bf16", "f32", "q8", "q4"};
  return names[static_cast<int>(element)];
}

std::vector<int> positions_to(int last) {
  std::vector<int> seen(last + 1);
  std::iota(seen.begin(), seen.end(), 0);
  return seen;
}

std::vector<float> exactly(const Story& story, const std::vector<Span>& spans) {
  const std::size_t row = static_cast<std::size_t>(story.heads.n_heads()) * story.heads.head_dim;
  std::vector<float> out(Layer::n_rows(spans) * row);
  float* to = out.data();
  for (const Span& span : spans) {
    for (int t = 0; t < span.n_tokens; ++t, to += row) {
      attend_exactly(story, span.s, span.position + t, positions_to(span.position + t), to);
    }
  }
  return out;
}

double tolerance(const Heads& heads, bool decode) {
  const bool tensor = heads.element != KvElement::f32 && (heads.head_dim == 64 || heads.head_dim == 128);
  return decode || !tensor ? 2e-5 : 2e-3;
}

void expect_close(const std::vector<float>& actual, const std::vector<float>& expected, const Heads& heads,
                  bool decode, const std::string& what) {
  const Comparison result = compare(actual, expected, heads.head_dim);
  const double limit = tolerance(heads, decode);
  double& most = worst[std::string(decode ? "decode " : "prefill ") + name(heads.element) +
                       (limit <= 2e-5 && !decode ? " general" : "")];
  most = std::max(most, result.worst_l2);
  char text[300];
  std::snprintf(text, sizeof text, "%s %s %d/%d/%d %s: L2 %g, %zu special, row %zu: %g for %g",
                decode ? "decode" : "prefill", name(heads.element), heads.n_heads(), heads.n_kv_heads,
                heads.head_dim, what.c_str(), result.worst_l2, result.special_mismatches, result.worst_row,
                result.actual, result.expected);
  expect(result.within(limit), text);
}

const std::vector<int> depths = {0,   1,   14,  15,  16,  17,  62,  63,   64,  65,
                                 255, 256, 257, 511, 512, 640, 641, 1000, 1500};

void test_decode(const Heads& heads) {
  const Story story(heads, 1, 1600);
  Layer layer(story);
  layer.append({{0, 0, 1}});  // then one by one or in pieces, as decoding does
  int filled = 1;
  for (const int depth : depths) {
    if (depth >= filled) layer.append({{0, filled, depth + 1 - filled}});
    filled = std::max(filled, depth + 1);
    const std::vector<Span> spans = {{0, depth, 1}};
    const std::vector<float> expected = exactly(story, spans), found = layer.attend(spans, true);
    expect_close(found, expected, heads, true, "depth " + std::to_string(depth));
    expect(layer.attend(spans, true, 5000) == found, "a larger bound leaves no trace");
    expect_close(layer.attend(spans, false), expected, heads, false, "depth " + std::to_string(depth));
  }
}

/// Deep enough for both levels of merging, at several sizes of split.
void test_deep(const Heads& heads, int length) {
  const Story story(heads, 1, length);
  Layer layer(story);
  layer.append({{0, 0, length}});
  for (const int depth : {2047, 2048, 4096, 8191, 8192, 16400, length - 1}) {
    if (depth >= length) continue;
    const std::vector<Span> spans = {{0, depth, 1}};
    const std::vector<float> expected = exactly(story, spans), found = layer.attend(spans, true);
    expect_close(found, expected, heads, true, "depth " + std::to_string(depth));
    for (int again = 0; again < 3; ++again) {
      expect(layer.attend(spans, true, 100000) == found, "the same again, at a larger bound");
    }
    expect_close(layer.attend(spans, false), expected, heads, false, "depth " + std::to_string(depth));
  }
}

void test_batch(const Heads& heads) {
  const Story story(heads, 5, 2100);
  Layer layer(story);
  std::vector<Span> spans = {{0, 0, 1}, {1, 2099, 1}, {2, 63, 1}, {3, 640, 1}, {4, 1025, 1}};
  for (const Span& span : spans) layer.append({{span.s, 0, span.position + 1}});
  const std::vector<float> together = layer.attend(spans, true);
  expect_close(together, exactly(story, spans), heads, true, "batch");
  std::vector<float> apart;
  for (const Span& span : spans) {
    const std::vector<float> alone = layer.attend({span}, true);
    apart.insert(apart.end(), alone.begin(), alone.end());
  }
  expect(together == apart, "neighbours leave no trace in decoding");
}

void test_prefill(const Heads& heads) {
  const Story story(heads, 4, 700);
  Layer layer(story), pieces(story);
  const std::vector<Span> spans = {{0, 0, 333}, {1, 0, 1}, {2, 0, 65}, {3, 0, 130}};
  layer.append(spans);
  const std::vector<float> together = layer.attend(spans, false);
  expect_close(together, exactly(story, spans), heads, false, "prompts");
  const std::vector<Span> later = {{0, 333, 70}, {2, 65, 1}, {3, 130, 2}};
  layer.append(later);
  expect_close(layer.attend(later, false), exactly(story, later), heads, false, "later");

  std::vector<float> in_pieces;
  for (const Span& span :
       std::vector<Span>{{0, 0, 100}, {0, 100, 1}, {0, 101, 64}, {0, 165, 1}, {0, 166, 167}}) {
    pieces.append({span});
    const std::vector<float> out = pieces.attend({span}, false);
    in_pieces.insert(in_pieces.end(), out.begin(), out.end());
  }
  expect(std::equal(in_pieces.begin(), in_pieces.end(), together.begin()),
         std::string("a prompt in pieces gives the same bits, ") + name(heads.element) + " " +
             std::to_string(heads.head_dim) + " " + std::to_string(heads.group));
}

/// Long enough for tiles of 128 rows, against the same in pieces of 64-row tiles, and some rows exactly.
void test_long_prefill(const Heads& heads, int length) {
  const Story story(heads, 1, length);
  Layer layer(story);
  layer.append({{0, 0, length}});
  const std::vector<float> whole = layer.attend({{0, 0, length}}, false);
  std::vector<float> in_pieces;
  for (int first = 0; first < length; first += 190) {
    const std::vector<float> out = layer.attend({{0, first, std::min(190, length - first)}}, false);
    in_pieces.insert(in_pieces.end(), out.begin(), out.end());
  }
  expect(whole == in_pieces, "large and small tiles give the same bits");
  const std::size_t row = static_cast<std::size_t>(heads.n_heads()) * heads.head_dim;
  for (int position = 0; position < length; position += 83) {
    const std::vector<float> found(whole.begin() + position * row, whole.begin() + (position + 1) * row);
    expect_close(found, exactly(story, {{0, position, 1}}), heads, false, "row " + std::to_string(position));
  }
}

/// A token that is not a number, whole or in one dim of its value, shows in its own row and later ones only.
void test_not_a_number(const Heads& heads) {
  for (const bool whole : {true, false}) {
    Story story(heads, 1, 100);
    const int at = 10 * heads.n_kv_heads * heads.head_dim;
    for (int i = 0; i < heads.head_dim; ++i) {
      if (whole || i == 5) story.v[0][at + i] = story.kept_v[0][at + i] = NAN;
      if (whole) story.k[0][at + i] = story.kept_k[0][at + i] = NAN;
    }
    Layer layer(story);
    layer.append({{0, 0, 100}});
    expect_close(layer.attend({{0, 0, 20}}, false), exactly(story, {{0, 0, 20}}), heads, false, "NaN");
    expect_close(layer.attend({{0, 0, 100}}, false), exactly(story, {{0, 0, 100}}), heads, false, "NaN");
    expect_close(layer.attend({{0, 50, 1}}, true), exactly(story, {{0, 50, 1}}), heads, true, "NaN");
  }
}

void test_units(const Heads& heads) {
  const Story story(heads, 1, 768);
  Layer layer(story);
  layer.append({{0, 0, 768}});
  std::mt19937 random(7);
  for (const int n_units : {1, 2, 3, 5, 17, 40, 48}) {
    std::vector<int> chosen(48);
    std::iota(chosen.begin(), chosen.end(), 0);
    if (n_units < 48) std::shuffle(chosen.begin(), chosen.end(), random);
    std::vector<std::int32_t> units(3, 12345);  // the choice need not begin at 0
    for (int i = 0; i < n_units; ++i) units.push_back(layer.ids()[chosen[i] / 4] * 4 + chosen[i] % 4);
    const int missing = static_cast<int>(random() % unit_tokens), last = n_units * unit_tokens - 1 - missing;
    const std::vector<SequenceMeta> metas = {{0, 1, last, 3}};
    std::vector<int> seen;
    for (int rank = 0; rank <= last; ++rank) seen.push_back(chosen[rank / 16] * 16 + rank % 16);
    const std::vector<Span> spans = {{0, 700, 1}};  // whose query
    std::vector<float> expected(story.heads.n_heads() * heads.head_dim);
    attend_exactly(story, 0, 700, seen, expected.data());
    for (const bool decode : {true, false}) {
      const std::vector<float> found = layer.attend(spans, decode, 0, &units, &metas);
      const Comparison result = compare(found, expected, heads.head_dim);
      expect(result.within(2e-5), "units " + std::to_string(n_units));
      if (n_units == 48 && decode) {
        std::vector<SequenceMeta> by_page = {{0, 1, last, 0}};
        const std::vector<std::int32_t> ids = layer.ids();
        const DeviceArray<float> q(layer.gather(story.q, spans, heads.n_heads())), out(q.size());
        const DeviceArray<SequenceMeta> meta(by_page);
        const DeviceArray<std::int32_t> pages(ids);
        cuda::AttendArgs args = layer.attend_args(q.data(), out.data(), meta.data(), pages.data());
        args.n_sequences = args.n_rows = 1;
        args.max_tokens = 768;
        cuda::attend_decode(args, nullptr);
        expect(out.get() == found, "all units in order are what pages are");
      }
    }
  }
}

/// One captured graph, replayed as a sequence grows.
void test_graph(const Heads& heads) {
  const Story story(heads, 1, 1400);
  Layer layer(story);
  layer.append({{0, 0, 1400}});
  const std::size_t row = static_cast<std::size_t>(heads.n_heads()) * heads.head_dim;
  const DeviceArray<float> q(row), out(row);
  const DeviceArray<SequenceMeta> metas(1);
  const DeviceArray<std::int32_t> ids(layer.ids());
  cuda::AttendArgs args = layer.attend_args(q.data(), out.data(), metas.data(), ids.data());
  args.n_sequences = args.n_rows = 1;
  args.max_tokens = 2048;
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  cuda::check(cudaStreamCreate(&stream), "stream");
  cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  cuda::attend_decode(args, stream);
  cuda::check(cudaStreamEndCapture(stream, &graph), "capture");
  cuda::check(cudaGraphInstantiate(&exec, graph, 0), "graph");
  for (const int depth : {3, 70, 511, 512, 1399}) {
    const std::vector<Span> spans = {{0, depth, 1}};
    q.put(layer.gather(story.q, spans, heads.n_heads()));
    metas.put(layer.meta(spans));
    cuda::check(cudaGraphLaunch(exec, stream), "graph");
    cuda::check(cudaStreamSynchronize(stream), "graph");
    expect(out.get() == layer.attend(spans, true), "a replayed graph at depth " + std::to_string(depth));
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

/// Rotated rows, and pages byte for byte: what the reference's arithmetic gives, in this backend's order.
void test_rope_append(const Heads& heads, RopePairs pairs) {
  const Story story(heads, 1, 70);
  const int d = heads.head_dim, n_kv = heads.n_kv_heads;
  const std::vector<float> cos_sin = normal(static_cast<std::size_t>(70) * d, 9);
  const auto rotated = [&](std::vector<float> x, int n_heads) {
    const int stride = pairs == RopePairs::halves ? 1 : 2, partner = pairs == RopePairs::halves ? d / 2 : 1;
    for (int t = 0; t < 70; ++t) {
      for (int h = 0; h < n_heads; ++h) {
        for (int i = 0; i < d / 2; ++i) {
          float& a = x[(static_cast<std::size_t>(t) * n_heads + h) * d + i * stride];
          float& b = (&a)[partner];
          const float c = cos_sin[t * d + i], s = cos_sin[t * d + d / 2 + i], first = a * c - b * s;
          b = a * s + b * c;
          a = first;
        }
      }
    }
    return x;
  };
  const std::vector<float> q = rotated(story.q[0], heads.n_heads()), k = rotated(story.k[0], n_kv);
  const DeviceArray<float> dq(story.q[0]), dk(story.k[0]), dv(story.v[0]), dc(cos_sin);
  const DeviceArray<std::byte> memory(2 * heads.layout().page_bytes(), page_garbage);
  const DeviceArray<SequenceMeta> meta(std::vector<SequenceMeta>{{0, 70, 0, 0}});
  const DeviceArray<std::int32_t> ids(std::vector<std::int32_t>{1, 0});
  cuda::rope_append({dq.data(), dk.data(), dv.data(), dc.data(), pairs, heads.n_heads(), memory.data(),
                     heads.layout(), meta.data(), ids.data(), 1, 70},
                    nullptr);
  cuda::check(cudaDeviceSynchronize(), "rope_append");
  const std::string what = std::string(name(heads.element)) + " " + std::to_string(d);
  expect(dq.get() == q && dk.get() == k, "rotated rows, " + what);

  // Attending with a query that finds one token returns its value as kept: the bits of values and, since the
  // query is that token's key, a test of keys. Bytes themselves are compared where rows lie in order.
  if (heads.element == KvElement::q4) return;
  const std::vector<std::byte> bytes = memory.get();
  bool same = true;
  for (int t = 0; t < 70; ++t) {
    for (int plane = 0; plane < 2; ++plane) {
      for (int h = 0; h < n_kv; ++h) {
        const float* x = &(plane == 0 ? k : story.v[0])[(static_cast<std::size_t>(t) * n_kv + h) * d];
        const std::int64_t block = page_tokens * heads.layout().vector_bytes();
        const std::byte* from =
            bytes.data() + (1 - t / 64) * heads.layout().page_bytes() + (plane * n_kv + h) * block;
        for (int i = 0; i < d; ++i) {
          if (heads.element == KvElement::f32) {
            same &= std::memcmp(from + (t % 64 * d + i) * 4, x + i, 4) == 0;
          } else if (heads.element == KvElement::bf16) {
            const std::uint16_t half = f32_to_bf16(x[i]);
            same &= std::memcmp(from + (t % 64 * d + i) * 2, &half, 2) == 0;
          } else if (i % 32 == 0) {
            BlockQ8_0 b;
            encode_block(x + i, b);
            same &= std::memcmp(from + t % 64 * d + i, b.code, 32) == 0;
            same &= std::memcmp(from + 64 * d + (t % 64 * (d / 32) + i / 32) * 2, &b.scale, 2) == 0;
          }
        }
      }
    }
  }
  expect(same, "bytes of pages, " + what);
}

void test_all() {
  for (const KvElement e : {KvElement::bf16, KvElement::q8, KvElement::q4, KvElement::f32}) {
    for (const auto& [n_kv, group] : {std::pair{1, 1}, {2, 3}, {3, 4}, {2, 7}, {1, 8}, {2, 6}, {1, 12}}) {
      for (const int d : {64, 128}) test_decode({n_kv, group, d, e});
    }
    test_decode({2, 2, 96, e});
    if (!is_block_coded(e)) test_decode({2, 3, 80, e});
    test_batch({8, 4, 128, e});
    test_batch({3, 3, 64, e});
    test_prefill({1, 1, 64, e});
    for (const auto& [n_kv, group] : {std::pair{2, 3}, {1, 4}, {2, 7}, {1, 8}}) {
      for (const int d : {64, 128}) test_prefill({n_kv, group, d, e});
    }
    test_prefill({2, 2, 96, e});
    test_graph({2, 4, 128, e});
    for (const RopePairs pairs : {RopePairs::halves, RopePairs::interleaved}) {
      for (const int d : {64, 96, 128}) test_rope_append({2, 3, d, e}, pairs);
    }
  }
  for (const KvElement e : {KvElement::bf16, KvElement::q8, KvElement::q4}) {
    test_deep({1, 2, 128, e}, 20000);
    test_long_prefill({8, 4, 128, e}, 1100);
    test_long_prefill({8, 3, 64, e}, 1500);
    test_deep({1, 3, 64, e}, 70000);
  }
  for (const KvElement e : {KvElement::bf16, KvElement::f32}) {
    for (const Heads& heads : {Heads{3, 3, 64, e}, Heads{2, 6, 128, e}, Heads{1, 7, 80, e}}) {
      test_units(heads);
      test_not_a_number(heads);
    }
  }
}

/// A few shapes of every kernel, for compute-sanitizer.
void test_some() {
  for (const KvElement e : {KvElement::bf16, KvElement::q8, KvElement::q4, KvElement::f32}) {
    test_batch({2, 4, 128, e});
    for (const Heads& heads : {Heads{2, 3, 64, e}, Heads{1, 8, 128, e}}) {
      test_prefill(heads);
      if (!is_block_coded(e)) test_units(heads);
    }
    test_rope_append({2, 3, 64, e}, RopePairs::halves);
  }
  test_deep({1, 1, 64, KvElement::bf16}, 17000);
  test_long_prefill({8, 4, 128, KvElement::q4}, 1100);
}

}  // namespace

int main(int argc, char**) {
  if (cga::test::has_no_device()) return 0;
  argc > 1 ? test_some() : test_all();
  for (const auto& [what, error] : worst) std::printf("%-22s worst relative L2 %.2e\n", what.c_str(), error);
  std::printf("%d checks, %d failed\n", n_checked, n_failed);
  return n_failed == 0 ? 0 : 1;
}
