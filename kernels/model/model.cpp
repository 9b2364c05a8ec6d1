#include "kernels/model/model.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "kernels/model/parts.h"

namespace faultline::kernels::model {

Model::~Model() = default;

std::vector<float> Model::logits() {
  require(device_.synchronize());
  std::vector<float> out(static_cast<std::size_t>(parts_->sequences) * static_cast<std::size_t>(config_.vocabulary));
  parts_->logits.read_into(out.data(), out.size() * 4);
  return out;
}

std::vector<int> Model::greedy() {
  require(device_.synchronize());
  std::vector<int> out(static_cast<std::size_t>(parts_->sequences));
  parts_->sample_token.read_into(out.data(), out.size() * 4);
  return out;
}

std::vector<float> Model::step(const std::vector<SequenceInput>& sequences, std::vector<OpRecord>* log) {
  prepare(sequences);
  require(launch(log));
  return logits();
}

std::uint32_t Model::take_status() {
  std::uint32_t status = 0;
  parts_->status.read_into(&status, sizeof status);
  require(device_.fill(parts_->status.data(), 0, sizeof status));
  return status;
}

std::vector<std::vector<int>> generate(Model& model, const std::vector<std::vector<int>>& prompts, int new_tokens) {
  std::vector<SequenceInput> sequences;
  int next_page = 0;
  for (const auto& prompt : prompts) {
    SequenceInput in{prompt, 0, {}};
    for (int i = 0; i < static_cast<int>(prompt.size()) + new_tokens; i += kPageTokens) in.pages.push_back(next_page++);
    sequences.push_back(in);
  }
  std::vector<std::vector<int>> out(prompts.size());
  for (int n = 0; n < new_tokens; ++n) {
    model.prepare(sequences);
    require(model.launch());
    const auto tokens = model.greedy();
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      out[s].push_back(tokens[s]);
      sequences[s].cached += static_cast<int>(sequences[s].tokens.size());
      sequences[s].tokens = {tokens[s]};
    }
  }
  return out;
}

std::string op_log_line(const OpRecord& r, const std::string& device) {
  nlohmann::ordered_json json{{"op", r.name}, {"kind", r.kind}, {"precision", r.precision}};
  for (const auto& [name, v] : {std::pair{"m", r.m},
                                {"n", r.n},
                                {"k", r.k},
                                {"batch", r.batch == 1 ? 0 : r.batch},
                                {"groups", r.groups},
                                {"sequences", r.sequences},
                                {"tokens", r.tokens},
                                {"context", r.context},
                                {"heads", r.heads}})
    if (v != 0) json[name] = v;
  json["ns"] = std::llround(r.nanoseconds);
  json["device"] = device;
  return json.dump();
}

}  // namespace faultline::kernels::model
