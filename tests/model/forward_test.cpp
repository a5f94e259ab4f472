// The forward pass takes any range of layers and any batch of sequences, with the same result.
#include "model/forward.h"

#include <algorithm>
#include <vector>

#include "support/catch.h"

namespace cga {
namespace {

/// A tiny checked-in model on one backend, fed by hand.
class Rig {
 public:
  explicit Rig(const char* device)
      : backend_(make_backend(device, 2)),
        file_(open_model_file(CGA_VECTORS "/tiny/qwen2-mixed.gguf")),
        model_(load()),
        cache_(*backend_, layout(), model_.hparams.n_layers, 8),
        activations_(*backend_, model_.hparams, 128),
        logits_(backend_->allocate(static_cast<std::size_t>(128 * model_.weights.n_vocab()) * 4, "logits")) {}

  std::int32_t n_layers() const { return model_.hparams.n_layers; }

  /// Runs tokens of each sequence through the given ranges in order. @return logits of all rows
  std::vector<float> run(const std::vector<std::vector<std::int32_t>>& texts,
                         std::vector<SequencePages>& pages, const std::vector<LayerRange>& ranges) {
    std::vector<std::int32_t> ids, positions, rows;
    std::vector<SequenceRows> sequences;
    for (std::size_t s = 0; s < texts.size(); ++s) {
      const std::int32_t position = pages[s].n_tokens();
      const auto n = static_cast<std::int32_t>(texts[s].size());
      cache_.grow(pages[s], n);
      sequences.push_back({static_cast<std::int32_t>(ids.size()), n, position, pages[s].pages()});
      for (std::int32_t i = 0; i < n; ++i) {
        rows.push_back(static_cast<std::int32_t>(ids.size()));
        ids.push_back(texts[s][static_cast<std::size_t>(i)]);
        positions.push_back(position + i);
      }
    }
    const Batch batch{ids, positions, rows};
    DenseStep step(cache_, sequences);
    for (const LayerRange range : ranges) {
      forward(model_, backend_->ops(), step, batch, range, activations_, logits_->as<float>());
    }
    const float* first = logits_->as<float>();
    return {first, first + static_cast<std::int64_t>(rows.size()) * model_.weights.n_vocab()};
  }

 private:
  Model load() {
    const Family* family = nullptr;
    for (const Family* candidate : families()) {
      if (candidate->architecture == "qwen2") family = candidate;
    }
    Model model;
    model.hparams = read_hparams(*file_, *family);
    model.weights = load_weights(*file_, *family, model.hparams, *backend_);
    model.plan = LayerPlan::dense(model.hparams.n_layers);
    return model;
  }
  KvLayout layout() const {
    return {model_.hparams.attention.n_kv_heads, model_.hparams.attention.head_dim, KvElement::bf16};
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<ModelFile> file_;
  Model model_;
  KvCache cache_;
  Activations activations_;
  std::unique_ptr<Buffer> logits_;
};

std::vector<std::int32_t> text(std::int32_t n, std::int32_t step) {
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < n; ++i) ids.push_back(1 + i * step % 250);
  return ids;
}

TEST_CASE("Layers run one by one give what all at once give, bit for bit") {
  for (const char* device : {"scalar", "cpu"}) {
    INFO(device);
    Rig rig(device);
    REQUIRE(rig.n_layers() >= 2);
    std::vector<LayerRange> singles;
    for (std::int32_t i = 0; i < rig.n_layers(); ++i) singles.push_back({i, i + 1});
    std::vector<SequencePages> whole(1), split(1);
    CHECK(rig.run({text(70, 7)}, whole, {{0, rig.n_layers()}}) == rig.run({text(70, 7)}, split, singles));
  }
}

TEST_CASE("A sequence in a batch gives what it gives alone, bit for bit") {
  for (const char* device : {"scalar", "cpu"}) {
    INFO(device);
    Rig rig(device);
    const std::vector<LayerRange> all{{0, rig.n_layers()}};
    std::vector<SequencePages> alone(1), together(3);
    const std::vector<float> expected = rig.run({text(33, 11)}, alone, all);
    const std::vector<float> batch = rig.run({text(5, 3), text(33, 11), text(66, 5)}, together, all);
    const auto row = static_cast<std::ptrdiff_t>(expected.size() / 33);
    CHECK(std::equal(expected.begin(), expected.end(), batch.begin() + 5 * row));
  }
}

TEST_CASE("Tokens fed one by one give what a prompt gives, to rounding") {
  for (const char* device : {"scalar", "cpu"}) {
    INFO(device);
    Rig rig(device);
    const std::vector<LayerRange> all{{0, rig.n_layers()}};
    std::vector<SequencePages> whole(1), steps(1);
    const std::vector<std::int32_t> ids = text(70, 7);
    const std::vector<float> prompt = rig.run({ids}, whole, all);
    std::vector<float> last;
    for (const std::int32_t id : ids) last = rig.run({{id}}, steps, all);
    double worst = 0;
    for (std::size_t i = 0; i < last.size(); ++i) {
      worst =
          std::max(worst, static_cast<double>(std::abs(last[i] - prompt[prompt.size() - last.size() + i])));
    }
    CHECK(worst < 1e-3);
  }
}

}  // namespace
}  // namespace cga
