// Steps that are cut where the host decides (kernels/cuda/runtime/steps.h): what is recorded, what is not,
// and that lists arrive either way. Kernels are copies here: of a list that was put to where the host looks.
#include "kernels/cuda/runtime/steps.h"

#include <numeric>
#include <vector>

#include "cuda/gpu.h"
#include "kernels/cuda/runtime/check.h"
#include "support/catch.h"

namespace cga::test {
namespace {

constexpr StepShape decodes{.kind = StepShape::Kind::decode,
                            .host_decides = true,
                            .n_tokens = 1,
                            .n_sequences = 1,
                            .max_position = 300};

std::vector<std::int32_t> count_from(std::int32_t first, std::size_t n) {
  std::vector<std::int32_t> numbers(n);
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

/// Steps and device memory that they write to: places of `width` numbers.
struct Bench {
  static constexpr std::size_t width = 64;

  cuda::Device device{0, 0};
  cuda::Steps steps{device};
  cuda::DeviceArray out;

  explicit Bench(std::size_t n_places) : out(device, n_places * width * sizeof(std::int32_t), "test") {
    cuda::check(cudaMemset(out.data(), 0xff, out.bytes()), "clearing");
    cuda::check(cudaDeviceSynchronize(), "clearing");
  }

  std::int32_t* at(std::size_t place) const {
    return reinterpret_cast<std::int32_t*>(out.data()) + place * width;
  }

  /// An op: puts numbers, and copies the last of them, at most `width`, to a place.
  void write(std::size_t place, std::span<const std::int32_t> numbers) {
    const std::int32_t* const put = steps.put(numbers);
    const std::size_t n = std::min(width, numbers.size());
    const std::int32_t* const from = put + (numbers.size() - n);
    std::int32_t* const to = at(place);
    const auto start = [=](cudaStream_t stream) {
      cuda::check(cudaMemcpyAsync(to, from, n * sizeof *to, cudaMemcpyDeviceToDevice, stream), "writing");
    };
    steps.launch(start, to, from, n);
  }

  /// What a place begins with, after everything before.
  std::vector<std::int32_t> read(std::size_t place, std::size_t n) {
    std::vector<std::int32_t> numbers(n);
    steps.synchronize();
    cuda::check(cudaMemcpy(numbers.data(), at(place), n * sizeof(std::int32_t), cudaMemcpyDeviceToHost),
                "reading");
    return numbers;
  }
};

}  // namespace

TEST_CASE("a step in which the host decides is recorded in parts, whatever runs apart from them", "[gpu]") {
  if (!gpu()) return;
  Bench bench(3);
  constexpr int n_steps = 9;
  for (int i = 0; i < n_steps; ++i) {
    INFO("step " << i);
    const std::vector<std::int32_t> first = count_from(100 * i, 5), last = count_from(100 * i + 50, 7);
    const std::vector<std::int32_t> varies = count_from(1000 * i, static_cast<std::size_t>(1 + i % 4 * 3));
    bench.steps.run(decodes, [&] {
      bench.write(0, first);
      const std::vector<std::int32_t> seen = bench.read(0, first.size());  // the host waits: a part ends
      CHECK(seen == first);
      bench.write(1, last);  // another part, which runs before what overwrites it
      bench.steps.begin_apart();
      bench.write(1, varies);
      bench.steps.end_apart();
      bench.write(2, last);
    });
    CHECK(bench.read(1, varies.size()) == varies);
    CHECK(bench.read(2, last.size()) == last);
  }
  CHECK(bench.steps.counts().direct == 3);
  CHECK(bench.steps.counts().recorded == 3);
  CHECK(bench.steps.counts().replayed == 3 * (n_steps - 2));
}

TEST_CASE("no step overwrites lists that an earlier one still has to read", "[gpu]") {
  if (!gpu()) return;
  constexpr std::size_t n_steps = 12;
  Bench bench(2 * n_steps);
  for (std::size_t i = 0; i < n_steps; ++i) {  // the host never waits in between
    const auto first = static_cast<std::int32_t>(100 * i);
    bench.steps.run(decodes, [&] {
      bench.write(2 * i, count_from(first, 40));
      bench.steps.begin_apart();
      bench.write(2 * i + 1, count_from(first + 50, 40));
      bench.steps.end_apart();
    });
  }
  for (std::size_t i = 0; i < n_steps; ++i) {
    INFO("step " << i);
    const auto first = static_cast<std::int32_t>(100 * i);
    CHECK(bench.read(2 * i, 40) == count_from(first, 40));
    CHECK(bench.read(2 * i + 1, 40) == count_from(first + 50, 40));
  }
}

TEST_CASE("what is put off starts before whoever uses the stream", "[gpu]") {
  if (!gpu()) return;
  Bench bench(1);
  for (int i = 0; i < 4; ++i) {
    INFO("step " << i);
    const std::vector<std::int32_t> numbers = count_from(10 * i, 3);
    bench.steps.run(decodes, [&] {
      bench.write(0, numbers);
      cuda::check(cudaStreamSynchronize(bench.steps.stream()), "waiting");
      CHECK(bench.read(0, 3) == numbers);
    });
  }
  CHECK(bench.steps.counts().replayed == 2);
}

TEST_CASE("what was recorded and is forgotten is recorded again", "[gpu]") {
  if (!gpu()) return;
  Bench bench(1);
  for (int i = 0; i < 6; ++i) {
    INFO("step " << i);
    const std::vector<std::int32_t> numbers = count_from(10 * i, 3);
    bench.steps.run(decodes, [&] {
      bench.write(0, numbers);
      if (i == 3) bench.steps.forget();  // after what was put off has started
    });
    CHECK(bench.read(0, 3) == numbers);
  }
  CHECK(bench.steps.counts().direct == 1);
  CHECK(bench.steps.counts().recorded == 2);
  CHECK(bench.steps.counts().replayed == 3);
}

TEST_CASE("several rows of a sequence, and what follows where the rest runs directly, are not recorded",
          "[gpu]") {
  if (!gpu()) return;
  Bench bench(2);
  StepShape rows = decodes;
  rows.n_tokens = 2;
  for (int i = 0; i < 4; ++i) {
    const std::vector<std::int32_t> numbers = count_from(i, 4);
    bench.steps.run(rows, [&] { bench.write(0, numbers); });
    CHECK(bench.read(0, 4) == numbers);
  }
  CHECK(bench.steps.counts().recorded == 0);
  for (int i = 0; i < 4; ++i) {
    const std::vector<std::int32_t> numbers = count_from(10 * i, 4), last = count_from(500 * i, 4);
    bench.steps.run(decodes, [&] {
      bench.write(0, numbers);
      bench.write(1, numbers);
      bench.steps.run_rest_directly();
      bench.write(1, std::span(numbers).first(static_cast<std::size_t>(i)));
      bench.write(0, last);
    });
    CHECK(bench.read(0, 4) == last);
    CHECK(bench.read(1, static_cast<std::size_t>(i)) == count_from(10 * i, static_cast<std::size_t>(i)));
  }
  CHECK(bench.steps.counts().recorded == 1);
  CHECK(bench.steps.counts().replayed == 2);
}

TEST_CASE("a step that fails, and lists that take more than their memory, leave steps as they were",
          "[gpu]") {
  if (!gpu()) return;
  Bench bench(3);
  const auto step = [&](std::int32_t first) {
    const std::vector<std::int32_t> numbers = count_from(first, 6);
    bench.steps.run(decodes, [&] { bench.write(0, numbers); });
    CHECK(bench.read(0, 6) == numbers);
  };
  step(0);
  CHECK_THROWS(bench.steps.run(decodes, [&] {
    bench.write(0, count_from(70, 6));
    throw Error(ErrorKind::device, "test", "on purpose");
  }));
  step(10);
  // 3 MB and 3 MB: the second list finds no room, and the first is still read.
  for (int i = 0; i < 3; ++i) {
    INFO("long lists, time " << i);
    const std::vector<std::int32_t> first = count_from(i, 750'000), second = count_from(2 * i, 750'000);
    bench.steps.run(decodes, [&] {
      bench.write(1, first);
      bench.write(2, second);
    });
    CHECK(bench.read(1, 64) == count_from(i + 750'000 - 64, 64));
    CHECK(bench.read(2, 64) == count_from(2 * i + 750'000 - 64, 64));
  }
  step(20);
  step(30);
  CHECK(bench.steps.counts().replayed >= 1);
}

}  // namespace cga::test
