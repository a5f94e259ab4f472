// A model family as a table: what distinguishes it from other Llama-like families, and no code.
#pragma once

#include <string_view>
#include <vector>

#include "kernels/ops.h"

namespace cga {

/// Tensor names by role; {} stands for the layer number.
struct TensorNames {
  std::string_view embedding = "token_embd.weight";
  std::string_view final_norm = "output_norm.weight";
  std::string_view head = "output.weight";              // absent: tied to the embedding
  std::string_view rope_factors = "rope_freqs.weight";  // optional: divides the rotation frequencies
  std::string_view attention_norm = "blk.{}.attn_norm.weight";
  std::string_view q = "blk.{}.attn_q.weight";
  std::string_view k = "blk.{}.attn_k.weight";
  std::string_view v = "blk.{}.attn_v.weight";
  std::string_view q_bias = "blk.{}.attn_q.bias";
  std::string_view k_bias = "blk.{}.attn_k.bias";
  std::string_view v_bias = "blk.{}.attn_v.bias";
  std::string_view output = "blk.{}.attn_output.weight";
  std::string_view mlp_norm = "blk.{}.ffn_norm.weight";
  std::string_view gate = "blk.{}.ffn_gate.weight";
  std::string_view up = "blk.{}.ffn_up.weight";
  std::string_view down = "blk.{}.ffn_down.weight";
};

struct Family {
  std::string_view architecture;  // general.architecture, and the prefix of the family's keys
  RopePairs rope_pairs = RopePairs::halves;
  bool qkv_bias = false;
  TensorNames names{};
};

/// All families, from the folder listing of models/.
std::vector<const Family*> families();

}  // namespace cga
