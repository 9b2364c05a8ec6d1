#include "core/model/pricer.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/base/assert.h"

namespace faultline::model {
namespace {

constexpr std::int64_t kOne = 1 << 16;       // 1.0 as a factor
constexpr std::size_t kTableMax = 1 << 16;   // larger batches are priced each time
constexpr std::int64_t kStepsMax = 1 << 24;  // so that slope * step stays far inside 64 bits
constexpr double kFactorMin = 1.0 / 65536, kFactorMax = 65536;

/// v * q / 2^16 rounded down, exact although v * q may exceed 64 bits: for one q it never decreases in v, and for one v
/// never in q.
std::int64_t scaled(std::int64_t v, std::int64_t q) {
  if (q == kOne) return v;
  return (v >> 16) * q + (((v & 0xffff) * q) >> 16);
}

std::int64_t factor(double x) {
  FAULTLINE_ASSERT(x >= kFactorMin && x <= kFactorMax, "factor {} outside 2^-16 … 65536", x);
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(x * 65536.0 + 0.5));
}

std::int64_t half(std::int64_t count, std::int64_t halves) { return (count + halves - 1) / halves; }

}  // namespace

struct StepPricer::Scales {
  std::span<const double> rank_slowdown;
  std::int64_t slowdown_max = kOne;
  std::int64_t xgmi = kOne;
  std::int64_t rdma = kOne;

  explicit Scales(const StepEnvironment& e, std::int64_t ranks) : rank_slowdown(e.rank_slowdown) {
    FAULTLINE_ASSERT(rank_slowdown.empty() || static_cast<std::int64_t>(rank_slowdown.size()) == ranks,
                     "slowdowns={} ranks={}", rank_slowdown.size(), ranks);
    for (std::size_t i = 0; i < rank_slowdown.size(); ++i) {
      slowdown_max = i == 0 ? factor(rank_slowdown[i]) : std::max(slowdown_max, factor(rank_slowdown[i]));
    }
    if (e.xgmi_capacity_factor != 1) xgmi = factor(1.0 / e.xgmi_capacity_factor);
    if (e.rdma_capacity_factor != 1) rdma = factor(1.0 / e.rdma_capacity_factor);
  }
  std::int64_t slowdown(std::size_t rank) const { return rank_slowdown.empty() ? kOne : factor(rank_slowdown[rank]); }
};

StepPricer::StepPricer(ModelShape shape, DeviceSpec device, ParallelPlan plan, std::shared_ptr<const CostModel> cost,
                       std::span<const std::int64_t> graph_sizes)
    : shape_(std::move(shape)), device_(std::move(device)), plan_(plan), cost_(std::move(cost)) {
  const auto problems = plan_problems(plan_, shape_, device_);
  FAULTLINE_ASSERT(problems.empty(), "{}", fmt::join(problems, "; "));
  FAULTLINE_ASSERT(cost_ != nullptr);
  kv_per_token_ = kv_bytes_per_token(shape_, plan_.kv_precision);
  for (const std::int64_t size : plan_.decode_launch == Launch::graph ? graph_sizes : std::span<const std::int64_t>()) {
    FAULTLINE_ASSERT(size > 0 && size < static_cast<std::int64_t>(kTableMax), "graph of {} rows", size);
    if (graph_rows_.empty()) graph_rows_.push_back(0);
    FAULTLINE_ASSERT(size >= static_cast<std::int64_t>(graph_rows_.size()), "graph sizes do not ascend at {}", size);
    graph_rows_.resize(static_cast<std::size_t>(size) + 1, static_cast<std::int32_t>(size));
  }
}

// ---- prices of parts ------------------------------------------------------------------------------------------------

StepPricer::Cost StepPricer::sum(const std::vector<Op>& ops) const {
  Cost total{.device = 0};
  for (const Op& op : ops) {
    if (op.kind == OpKind::all_reduce) {
      const ExchangePrice e = cost_->exchange_price(op);
      total.latency += e.latency.v * op.repeats;
      total.xgmi += e.xgmi.v * op.repeats;
    } else {
      total.device += cost_->price(op).time.v * op.repeats;
    }
  }
  return total;
}

StepPricer::Cost StepPricer::lookup(Table& table, Append append, std::int64_t count) const {
  if (count == 0) return {.device = 0};
  const auto index = static_cast<std::size_t>(count);
  if (index < table.size() && table[index].device >= 0) return table[index];
  ops_.clear();
  append(shape_, plan_, count, ops_);
  const Cost cost = sum(ops_);
  if (index < kTableMax) {
    if (index >= table.size()) table.resize(std::min(kTableMax, std::max<std::size_t>(64, 2 * index)));
    table[index] = cost;
  }
  return cost;
}

const StepPricer::DecodeEntry& StepPricer::decode_entry(std::int64_t sequences) const {
  const auto index = static_cast<std::size_t>(sequences);
  if (index >= decode_entries_.size()) {
    FAULTLINE_ASSERT(index < kTableMax, "{} sequences on one rank", sequences);
    decode_entries_.resize(std::min(kTableMax, std::max<std::size_t>(64, 2 * index)));
  }
  DecodeEntry& entry = decode_entries_[index];
  if (entry.own.device >= 0) return entry;

  const std::int64_t part = half(sequences, halves());
  DecodeEntry fresh;
  const Cost token = lookup(token_costs_, append_token_ops, part);
  const Cost decode = lookup(decode_costs_, append_decode_ops, part);
  const Cost head = lookup(head_costs_, append_head_ops, sequences);
  fresh.own = {halves() * (token.device + decode.device) + head.device,
               halves() * (token.latency + decode.latency) + head.latency,
               halves() * (token.xgmi + decode.xgmi) + head.xgmi};
  const ContextPrice price = cost_->context_price(shape_, plan_, part);
  for (const ContextLine& l : price.lines) {
    FAULTLINE_ASSERT(l.intercept.v >= 0 && l.per_token.v >= 0, "intercept={} slope={}", l.intercept.v, l.per_token.v);
    const Line line{halves() * shape_.layers * l.intercept.v, shape_.layers * l.per_token.v};
    const auto below = [&](const Line& x, const Line& y) { return x.first <= y.first && x.slope <= y.slope; };
    if (std::any_of(fresh.lines, fresh.lines + fresh.line_count, [&](const Line& kept) { return below(line, kept); }))
      continue;
    fresh.line_count = static_cast<int>(std::remove_if(fresh.lines, fresh.lines + fresh.line_count,
                                                       [&](const Line& kept) { return below(kept, line); }) -
                                        fresh.lines);
    FAULTLINE_ASSERT(fresh.line_count < kLinesMax, "more than {} lines in the price of decode attention", kLinesMax);
    fresh.lines[fresh.line_count++] = line;
  }
  entry = fresh;
  return entry;
}

StepPricer::Exchange StepPricer::exchange(std::int64_t tokens) const {
  const auto index = static_cast<std::size_t>(tokens);
  if (index < exchanges_.size() && exchanges_[index].latency >= 0) return exchanges_[index];
  ops_.clear();
  append_exchange_ops(shape_, plan_, device_, tokens, ops_);
  Exchange e{.latency = 0};
  int part = 0;
  for (const Op& op : ops_) {
    const ExchangePrice price = cost_->exchange_price(op);
    e.latency += price.latency.v * op.repeats;
    e.xgmi[part] = price.xgmi.v * op.repeats;
    e.rdma[part] = price.rdma.v * op.repeats;
    e.rdma_bytes += op.rdma.v * op.repeats;
    ++part;
  }
  if (index < kTableMax) {
    if (index >= exchanges_.size()) exchanges_.resize(std::min(kTableMax, std::max<std::size_t>(64, 2 * index)));
    exchanges_[index] = e;
  }
  return e;
}

std::int64_t StepPricer::exchange_time(std::int64_t tokens, const Scales& scales) const {
  if (!plan_.exchanges() || tokens == 0) return 0;
  const Exchange e = exchange(half(tokens, halves()));
  std::int64_t time = e.latency;
  for (int i = 0; i < Exchange::kParts; ++i)
    time += std::max(scaled(e.xgmi[i], scales.xgmi), scaled(e.rdma[i], scales.rdma));
  return halves() * time;
}

std::int64_t StepPricer::group_expert_time(std::int64_t tokens) const {
  if (!shape_.is_moe()) return 0;
  return halves() * lookup(expert_costs_, append_expert_ops, half(tokens, halves())).device;
}

std::int64_t StepPricer::own_time(const Cost& cost, std::int64_t slowdown, const Scales& scales) const {
  return scaled(cost.device, slowdown) + cost.latency + scaled(cost.xgmi, scales.xgmi);
}

/// Everything a rank does with prefill tokens and decoding sequences but attention.
StepPricer::Cost StepPricer::prefill_cost(std::int64_t prefill_tokens, std::int64_t sequences) const {
  const Cost token = lookup(token_costs_, append_token_ops, half(prefill_tokens + sequences, halves()));
  const Cost decode = lookup(decode_costs_, append_decode_ops, half(sequences, halves()));
  const Cost prefill = lookup(prefill_costs_, append_prefill_ops, half(prefill_tokens, halves()));
  return {halves() * (token.device + decode.device + prefill.device),
          halves() * (token.latency + decode.latency + prefill.latency),
          halves() * (token.xgmi + decode.xgmi + prefill.xgmi)};
}

// ---- a step as lines
// -------------------------------------------------------------------------------------------------

void StepPricer::append_lines(const RankLoad& load, std::int64_t rows, std::int64_t slowdown,
                              const Scales& scales) const {
  const DecodeEntry& entry = decode_entry(rows);
  const std::int64_t base = own_time(entry.own, slowdown, scales);
  for (int i = 0; i < entry.line_count; ++i) {
    const std::int64_t per_token = scaled(entry.lines[i].slope, slowdown);
    lines_.push_back(
        {base + scaled(entry.lines[i].first, slowdown) + per_token * load.context_tokens, per_token * load.sequences});
  }
}

/// Returns what is added to the slowest rank's time; `at_least` is what the step lasts even if that sum is shorter.
std::int64_t StepPricer::frame(std::int64_t tokens, std::int64_t tokens_max, bool eager, const Scales& scales,
                               std::int64_t& at_least) const {
  const Launch launch = eager ? Launch::eager : plan_.decode_launch;
  const std::int64_t host = cost_->host_step(plan_.decode_launch).v;
  const std::int64_t experts = scaled(group_expert_time(tokens), scales.slowdown_max);
  const std::int64_t exchanged = exchange_time(tokens_max, scales);
  at_least = host + cost_->host_launch(launch, shape_.layers * halves()).v;
  if (plan_.dual_batch_overlap) {
    at_least = std::max(at_least, host + exchanged);
    return host + experts;
  }
  return host + experts + exchanged;
}

void StepPricer::decode_run(std::span<const RankLoad> loads, const StepEnvironment& environment, std::int64_t steps_max,
                            std::vector<DecodeSegment>& out) const {
  FAULTLINE_ASSERT(static_cast<std::int64_t>(loads.size()) == plan_.dp && steps_max >= 1 && steps_max <= kStepsMax,
                   "loads={} dp={} steps_max={}", loads.size(), plan_.dp, steps_max);
  const Scales scales(environment, plan_.dp);
  out.clear();
  lines_.clear();
  std::int64_t tokens = 0, tokens_max = 0;
  for (std::size_t r = 0; r < loads.size(); ++r) {
    if (loads[r].sequences == 0) continue;
    append_lines(loads[r], graph_rows(loads[r].sequences), scales.slowdown(r), scales);
    tokens += loads[r].sequences;
    tokens_max = std::max<std::int64_t>(tokens_max, loads[r].sequences);
  }
  if (tokens == 0) {
    out.push_back({});
    return;
  }
  std::int64_t at_least = 0;
  const std::int64_t added = frame(tokens, tokens_max, !captured(tokens_max), scales, at_least);
  lines_.push_back({at_least - added, 0});

  // Upper envelope at the integers 0 … last, walked from the left: from the current line, the next one is the steeper
  // line that overtakes it first.
  const auto steeper = [](const Line& x, const Line& y) {
    return x.first > y.first || (x.first == y.first && x.slope > y.slope);
  };
  Line current = lines_.front();
  for (const Line& l : lines_) {
    if (steeper(l, current)) current = l;
  }
  const std::int64_t last = steps_max - 1;
  std::int64_t at = 0;
  while (true) {
    out.push_back({at, {added + current.first + current.slope * at}, {current.slope}});
    std::int64_t next_at = last + 1;
    Line next;
    for (const Line& l : lines_) {
      if (l.slope <= current.slope || l.first + l.slope * last <= current.first + current.slope * last) continue;
      const std::int64_t crossing = (current.first - l.first) / (l.slope - current.slope) + 1;
      const auto value = [&](const Line& x) { return x.first + x.slope * crossing; };
      if (crossing < next_at ||
          (crossing == next_at && (value(l) > value(next) || (value(l) == value(next) && l.slope > next.slope)))) {
        next_at = crossing;
        next = l;
      }
    }
    if (next_at > last) return;
    current = next;
    at = next_at;
  }
}

FixedTime StepPricer::step(std::span<const PrefillItem> prefill, std::span<const RankLoad> decode,
                           const StepEnvironment& environment) const {
  return compose(prefill, decode, Scales(environment, plan_.dp)).total;
}

StepPricer::Composed StepPricer::compose(std::span<const PrefillItem> prefill, std::span<const RankLoad> decode,
                                         const Scales& scales) const {
  FAULTLINE_ASSERT(decode.empty() || static_cast<std::int64_t>(decode.size()) == plan_.dp, "loads={} dp={}",
                   decode.size(), plan_.dp);
  const auto ranks = static_cast<std::size_t>(plan_.dp);
  per_rank_.assign(3 * ranks, 0);
  const auto work = [this](std::size_t r) { return per_rank_.data() + 3 * r; };  // {tokens, chunks, attention time}
  Composed c;
  for (const PrefillItem& item : prefill) {
    FAULTLINE_ASSERT(item.rank >= 0 && item.rank < plan_.dp && item.chunk_tokens >= 0 && item.context_before >= 0,
                     "rank={} chunk={} before={}", item.rank, item.chunk_tokens, item.context_before);
    if (item.chunk_tokens == 0) continue;
    c.prefill = true;
    const Chunk chunk{item.chunk_tokens, item.context_before};
    std::int64_t* const w = work(static_cast<std::size_t>(item.rank));
    const Op attention = prefill_attention_op(shape_, plan_, chunk);
    w[0] += item.chunk_tokens;
    w[1] += 1;
    w[2] += cost_->price(attention).time.v * attention.repeats;
    if (const Op up = context_up_op(shape_, plan_, chunk); up.repeats > 0) w[2] += cost_->price(up).time.v * up.repeats;
  }
  for (std::size_t r = 0; r < ranks; ++r) {
    const std::int64_t* const w = work(r);
    const RankLoad load = decode.empty() ? RankLoad{} : decode[r];
    const std::int64_t own_tokens = w[0] + load.sequences;
    if (own_tokens == 0) continue;
    c.tokens += own_tokens;
    c.tokens_max = std::max(c.tokens_max, own_tokens);
    const std::int64_t slowdown = scales.slowdown(r);
    std::int64_t time = 0;
    if (w[0] == 0) {
      lines_.clear();
      append_lines(load, c.prefill ? load.sequences : graph_rows(load.sequences), slowdown, scales);
      for (const Line& l : lines_) time = std::max(time, l.first);
    } else {
      time = own_time(prefill_cost(w[0], load.sequences), slowdown, scales) +
             own_time(lookup(head_costs_, append_head_ops, load.sequences + w[1]), slowdown, scales) +
             scaled(w[2], slowdown);
      if (load.sequences > 0) {
        std::int64_t attention = 0;
        const DecodeEntry& entry = decode_entry(load.sequences);
        for (int i = 0; i < entry.line_count; ++i) {
          attention = std::max(attention, scaled(entry.lines[i].first, slowdown) +
                                              scaled(entry.lines[i].slope, slowdown) * load.context_tokens);
        }
        time += attention;
      }
    }
    if (time > c.slowest_time) {
      c.slowest_time = time;
      c.slowest_rank = static_cast<std::int64_t>(r);
    }
  }
  if (c.tokens == 0) return c;
  std::int64_t at_least = 0;
  const std::int64_t added = frame(c.tokens, c.tokens_max, c.prefill || !captured(c.tokens_max), scales, at_least);
  c.total = {std::max(added + c.slowest_time, at_least)};
  return c;
}

Breakdown StepPricer::breakdown(std::span<const PrefillItem> prefill, std::span<const RankLoad> decode,
                                const StepEnvironment& environment) const {
  const Scales scales(environment, plan_.dp);
  const Composed c = compose(prefill, decode, scales);
  Breakdown out;
  out.rank = c.slowest_rank;
  out.total = c.total;
  if (c.tokens == 0) return out;
  const std::int64_t slowdown = scales.slowdown(static_cast<std::size_t>(c.slowest_rank));
  out.host = cost_->host_step(plan_.decode_launch);
  FixedTime sum = out.host;
  // One entry an operation; overlapped half batches run it `halves` times on half the tokens.
  const auto add = [&](Op op, std::int64_t times, std::int64_t compute_slowdown) {
    op.repeats *= times;
    OpTime entry;
    entry.op = op;
    if (op.kind == OpKind::all_reduce || op.kind == OpKind::dispatch || op.kind == OpKind::combine) {
      const ExchangePrice p = cost_->exchange_price(op);
      entry.time = {p.latency.v * op.repeats +
                    std::max(scaled(p.xgmi.v * op.repeats, scales.xgmi), scaled(p.rdma.v * op.repeats, scales.rdma))};
      entry.extrapolated = p.extrapolated;
      entry.source = p.source;
      entry.why = p.why;
    } else {
      const Price p = cost_->price(op);
      entry.time = {scaled(p.time.v * op.repeats, compute_slowdown)};
      entry.extrapolated = p.extrapolated;
      entry.source = p.source;
      entry.why = p.why;
    }
    sum += entry.time;
    out.ops.push_back(entry);
  };
  RankLoad load = decode.empty() ? RankLoad{} : decode[static_cast<std::size_t>(c.slowest_rank)];
  const std::int64_t decode_rows = c.prefill ? load.sequences : graph_rows(load.sequences);
  std::int64_t prefill_tokens = 0, rows = decode_rows;
  std::vector<Chunk> chunks;
  for (const PrefillItem& item : prefill) {
    if (item.rank != c.slowest_rank || item.chunk_tokens == 0) continue;
    prefill_tokens += item.chunk_tokens;
    ++rows;
    chunks.push_back({item.chunk_tokens, item.context_before});
  }
  std::vector<Op> ops;
  const auto add_all = [&](std::int64_t times, std::int64_t compute_slowdown) {
    for (const Op& op : ops) add(op, times, compute_slowdown);
    ops.clear();
  };
  append_token_ops(shape_, plan_, half(prefill_tokens + decode_rows, halves()), ops);
  append_decode_ops(shape_, plan_, half(decode_rows, halves()), ops);
  append_prefill_ops(shape_, plan_, half(prefill_tokens, halves()), ops);
  add_all(halves(), slowdown);
  for (const Chunk& chunk : chunks) {
    if (const Op up = context_up_op(shape_, plan_, chunk); up.repeats > 0) ops.push_back(up);
    ops.push_back(prefill_attention_op(shape_, plan_, chunk));
  }
  append_head_ops(shape_, plan_, rows, ops);
  add_all(1, slowdown);
  if (load.sequences > 0) {
    const DecodeEntry& entry = decode_entry(decode_rows);
    std::int64_t time = 0;
    for (int i = 0; i < entry.line_count; ++i) {
      time = std::max(
          time, scaled(entry.lines[i].first, slowdown) + scaled(entry.lines[i].slope, slowdown) * load.context_tokens);
    }
    const ContextPrice p = cost_->context_price(shape_, plan_, half(decode_rows, halves()));
    const bool longer = load.context_tokens / load.sequences > p.context_measured;
    out.ops.push_back({decode_attention_op(shape_, plan_, decode_rows, load.context_tokens),
                       {time},
                       p.extrapolated || longer,
                       p.source,
                       p.extrapolated || !longer ? p.why : "contexts longer than any measured"});
    sum += FixedTime{time};
  }
  append_exchange_ops(shape_, plan_, device_, half(c.tokens_max, halves()), ops);
  append_expert_ops(shape_, plan_, half(c.tokens, halves()), ops);
  add_all(halves(), scales.slowdown_max);
  std::stable_sort(out.ops.begin(), out.ops.end(),
                   [](const OpTime& x, const OpTime& y) { return forward_place(x.op) < forward_place(y.op); });
  out.overlap = sum - out.total;
  return out;
}

// ---- traffic
// ---------------------------------------------------------------------------------------------------------

Bytes StepPricer::ep_rdma_bytes_per_step(std::int64_t tokens) const {
  if (!plan_.exchanges() || tokens == 0) return {};
  return {exchange(half(half(tokens, plan_.dp - plan_.absent_gpus / plan_.tp), halves())).rdma_bytes * halves()};
}

Bytes StepPricer::ep_rdma_bytes_per_step(std::span<const RankLoad> loads) const {
  std::int64_t tokens = 0;
  for (const RankLoad& load : loads) tokens += load.sequences;
  return ep_rdma_bytes_per_step(tokens);
}

double StepPricer::ep_rdma_time_share(std::span<const PrefillItem> prefill, std::span<const RankLoad> decode,
                                      const StepEnvironment& environment) const {
  if (!plan_.exchanges() || nodes() == 1) return 0;
  const FixedTime whole = step(prefill, decode, environment);
  if (whole.v == 0) return 0;
  per_rank_.assign(static_cast<std::size_t>(plan_.dp), 0);
  for (std::size_t r = 0; r < decode.size(); ++r) per_rank_[r] += decode[r].sequences;
  for (const PrefillItem& item : prefill) per_rank_[static_cast<std::size_t>(item.rank)] += item.chunk_tokens;
  const std::int64_t tokens_max = *std::max_element(per_rank_.begin(), per_rank_.end());
  const std::int64_t exchanged = exchange_time(tokens_max, Scales(environment, plan_.dp));
  return std::min(1.0, static_cast<double>(exchanged) / static_cast<double>(whole.v));
}

}  // namespace faultline::model
