// SPDX-License-Identifier: Apache-2.0
// Rules to plan: which pipeline each layer's keys and values get, and how they group.
#include <algorithm>
#include <map>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/kvz/kvz_plan.hpp"
#include "formats/kvz/kvz_tables.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kPassPipeline = "planes,zstd";

class Planner {
 public:
  Planner(const Dump& dump, const Recognition& recognition, const RuleSet& rules, std::uint64_t chunk_tokens,
          const KvzTables* tables)
      : dump_(dump), recognition_(recognition), rules_(rules), chunk_(chunk_tokens), tables_(tables) {}

  Plan plan(std::span<const std::uint64_t> used_tokens) {
    for (std::size_t i = 0; i < dump_.tensors.size(); ++i) add_tensor(i);
    for (auto& [key, by_layer] : joint_) add_joint(*key.first, by_layer);
    std::stable_sort(places_.begin(), places_.end(), [](const Place& a, const Place& b) { return a.order < b.order; });
    for (Place& place : places_) plan_.groups.push_back(std::move(place.group));
    finish_plan(plan_, dump_, recognition_);
    const std::size_t known = std::min(used_tokens.size(), plan_.groups.size());
    for (std::size_t g = 0; g < known; ++g) plan_.groups[g].context.used_tokens = used_tokens[g];
    resolve_pipelines();
    return std::move(plan_);
  }

 private:
  /// A group with its place among the others: that of its first sequence.
  struct Place {
    std::uint64_t order;
    PlanGroup group;
  };
  /// Sequences of one layer that a joint rule takes.
  using Layers = std::map<std::uint32_t, std::vector<Place>>;

  void add_tensor(std::size_t index) {
    const TensorInfo& info = dump_.tensors[index];
    const TensorRole& role = recognition_.tensors[index];
    const bool empty = std::find(info.shape.begin(), info.shape.end(), 0u) != info.shape.end();
    if (role.role == Role::other || role.axes.empty() || empty) return pass(index, role.role);
    // Every index combination of the axes outside the tile is a sequence of its own.
    std::vector<std::uint64_t> at(role.axes.size(), 0);
    for (;;) {
      if (!add_sequence(index, at)) return pass(index, role.role);
      std::size_t a = at.size();
      while (a > 0 && (Axes::is_inside(role.axes[a - 1]) || ++at[a - 1] == info.shape[a - 1])) at[--a] = 0;
      if (a == 0) return;
    }
  }

  /// False when no rule wants the tensor as tiles.
  bool add_sequence(std::size_t index, const std::vector<std::uint64_t>& at) {
    const TensorInfo& info = dump_.tensors[index];
    const TensorRole& role = recognition_.tensors[index];
    require_room(1, info);
    PlanSlot slot{index, at};
    std::uint64_t batch = 0;
    std::uint32_t layer = role.layer.value_or(0);
    Role kind = role.role;
    for (std::size_t a = 0; a < at.size(); ++a) {
      if (Axes::is_inside(role.axes[a])) slot.fixed[a] = PlanSlot::kFree;
      if (role.axes[a] == 'B') batch = at[a];
      if (role.axes[a] == 'L') layer = static_cast<std::uint32_t>(at[a]);
      if (role.axes[a] == '2') kind = at[a] == 0 ? Role::key : Role::value;
    }
    const Rule* rule = find_rule(kind, layer);
    if (rule == nullptr) {
      // Inside a tensor of several sequences each needs a pipeline; the exact one serves those without a rule.
      if (!role.axes.has('2') && !role.axes.has('L')) return false;
    }
    PlanGroup group;
    group.tiled = true;
    group.context.role = kind;
    group.context.layer = layer;
    group.context.layers = recognition_.model.layers;
    group.context.rope = recognition_.model.attention(layer).rope;
    group.pipeline = pipeline(rule == nullptr ? pass_text() : rule->pipeline);
    group.chunk = chunk_ == 0 ? std::max<std::uint64_t>(1, role.axes.extent('T', info.shape)) : chunk_;
    if (plan_.pipelines[group.pipeline].chained()) {
      const std::uint64_t frames = (role.axes.extent('T', info.shape) - 1) / group.chunk + 1;
      group.restart = rules_.restart.value_or(kDefaultRestart);
      if (group.restart == 0) group.restart = frames;
    }
    set_heads(group.context, info, role.axes);
    group.slots.push_back(std::move(slot));
    const std::uint64_t order = sequences_++;
    if (rule != nullptr && rule->scope == Rule::Scope::head) {
      add_heads(group, role.axes, order);
    } else if (rule != nullptr && (rule->scope == Rule::Scope::pair || rule->joint_layers > 1)) {
      joint_[{rule, batch}][layer].push_back({order, std::move(group)});
      ++joint_sequences_;
    } else {
      places_.push_back({order, std::move(group)});
    }
    return true;
  }

  /// For so many groups more.
  void require_room(std::uint64_t groups, const TensorInfo& info) const {
    if (!limits::room_for_groups(places_.size() + joint_sequences_, groups)) {
      fail(ErrorCode::limit, "{}: more than {} tile groups", info.name, limits::kPlanGroups);
    }
  }

  const Rule* find_rule(Role kind, std::uint32_t layer) const {
    for (const Rule& rule : rules_.rules) {
      const bool pair = rule.scope == Rule::Scope::pair && (kind == Role::key || kind == Role::value);
      if (rule.matches(pair ? Role::pair : kind, layer, recognition_.model.layers)) return &rule;
    }
    return nullptr;
  }

  void set_heads(TileContext& context, const TensorInfo& info, const Axes& axes) const {
    std::uint64_t heads = axes.extent('H', info.shape);
    std::uint64_t dim = axes.extent(axes.has('C') ? 'C' : 'D', info.shape);
    const std::uint64_t known = recognition_.model.kv_heads, width = recognition_.model.head_dim;
    if (axes.has('C')) {
      // Merged channels: the model's own numbers say where heads begin; without them all channels are one head.
      if (width > 1 && dim % width == 0) {
        heads = dim / width;
      } else if (known > 1 && dim % known == 0) {
        heads = known;
      }
      dim /= heads;
    }
    if (heads > 0xffffffffu || dim > 0xffffffffu) fail(ErrorCode::limit, "{}: too many channels", info.name);
    context.heads = static_cast<std::uint32_t>(heads);
    context.head_dim = static_cast<std::uint32_t>(dim);
  }

  void add_heads(const PlanGroup& whole, const Axes& axes, std::uint64_t order) {
    const auto axis = axes.find('H');
    if (axis == Axes::npos) {
      fail(ErrorCode::invalid_argument, "{}: a rule per head needs an axis H",
           dump_.tensors[whole.slots[0].tensor].name);
    }
    require_room(whole.context.heads, dump_.tensors[whole.slots[0].tensor]);
    for (std::uint32_t h = 0; h < whole.context.heads; ++h) {
      PlanGroup group = whole;
      group.context.heads = 1;
      group.slots[0].fixed[axis] = h;
      places_.push_back({order, std::move(group)});
    }
  }

  /// Tiles of a rule for keys and values together, or for several layers, on one batch.
  void add_joint(const Rule& rule, Layers& by_layer) {
    std::vector<std::vector<Place>*> run;
    std::uint32_t last = 0;
    for (auto& [layer, sequences] : by_layer) {
      check_layer(rule, layer, sequences);
      if (!run.empty() && (run.size() == rule.joint_layers || layer != last + 1 || !alike(*run.back(), sequences))) {
        add_run(run);
      }
      run.push_back(&sequences);
      last = layer;
    }
    add_run(run);
  }

  /// One sequence of each role; keys first from here on.
  void check_layer(const Rule& rule, std::uint32_t layer, std::vector<Place>& sequences) const {
    const bool pair = rule.scope == Rule::Scope::pair;
    const auto name = [&](const Place& p) { return std::string_view(dump_.tensors[p.group.slots[0].tensor].name); };
    std::stable_sort(sequences.begin(), sequences.end(),
                     [](const Place& a, const Place& b) { return a.group.context.role < b.group.context.role; });
    for (std::size_t i = 1; i < sequences.size(); ++i) {
      if (sequences[i].group.context.role != sequences[i - 1].group.context.role) continue;
      fail(ErrorCode::invalid_argument, "{}: layer {} has more than one tensor of this role", name(sequences[i]),
           layer);
    }
    if (pair && sequences.size() != 2) {
      fail(ErrorCode::invalid_argument, "{}: a kv rule needs a key and a value of the same layer", name(sequences[0]));
    }
  }

  /// Layers that can stand in one tile: of the same types, tokens, heads and rotation.
  bool alike(const std::vector<Place>& a, const std::vector<Place>& b) const {
    const auto same = [&](const Place& x, const Place& y) {
      const std::size_t s = x.group.slots[0].tensor, t = y.group.slots[0].tensor;
      return dump_.tensors[s].dtype == dump_.tensors[t].dtype && x.group.context.heads == y.group.context.heads &&
             x.group.context.head_dim == y.group.context.head_dim && x.group.context.rope == y.group.context.rope &&
             recognition_.tensors[s].axes.extent('T', dump_.tensors[s].shape) ==
                 recognition_.tensors[t].axes.extent('T', dump_.tensors[t].shape);
    };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
  }

  /// One group: the keys of all its layers, then the values.
  void add_run(std::vector<std::vector<Place>*>& run) {
    Place joint = run[0]->front();
    PlanGroup& group = joint.group;
    if (run[0]->size() == 2) group.context.role = Role::pair;
    group.slots.clear();
    std::uint64_t heads = 0;
    bool same_width = true;
    for (std::size_t role = 0; role < run[0]->size(); ++role) {
      for (const std::vector<Place>* layer : run) {
        const Place& one = (*layer)[role];
        joint.order = std::min(joint.order, one.order);
        group.slots.push_back(one.group.slots[0]);
        group.slots.back().heads = one.group.context.heads;
        group.slots.back().head_dim = one.group.context.head_dim;
        heads += one.group.context.heads;
        same_width = same_width && one.group.context.head_dim == group.context.head_dim;
      }
    }
    if (heads > 0xffffffffu) fail(ErrorCode::limit, "{}: too many channels", dump_.tensors[group.slots[0].tensor].name);
    group.context.heads = same_width ? static_cast<std::uint32_t>(heads) : 0;
    if (!same_width) group.context.head_dim = 0;
    places_.push_back(std::move(joint));
    run.clear();
  }

  std::string pass_text() const {
    for (const Rule& rule : rules_.rules) {
      if (rule.role == Role::other) return rule.pipeline;
    }
    return std::string(kPassPipeline);
  }

  void pass(std::size_t index, Role role) {
    PlanGroup group;
    group.slots.push_back({index, {}});
    group.chunk = kPassChunk;
    group.pipeline = pipeline(pass_text());
    group.context.role = role;
    places_.push_back({sequences_++, std::move(group)});
  }

  std::size_t pipeline(const std::string& text) {
    const auto [it, is_new] = known_.emplace(text, plan_.pipelines.size());
    if (is_new) plan_.pipelines.push_back(Pipeline::parse(text));
    return it->second;
  }

  /// Pipelines whose "auto" fields the groups fill differently become different pipelines.
  void resolve_pipelines() {
    std::map<std::string, std::size_t> known;
    std::vector<Pipeline> resolved;
    for (std::size_t g = 0; g < plan_.groups.size(); ++g) {
      PlanGroup& group = plan_.groups[g];
      const bool padded = group.tiled && group.context.used_tokens < group.rows;
      Pipeline p = padded ? plan_.pipelines[group.pipeline].before_padding() : plan_.pipelines[group.pipeline];
      if (tables_ != nullptr) use_tables_to_write(p, g, tables_->stored, tables_->beside);
      if (group.tiled && group.frames > 0) p.resolve(group.context, plan_.shape(dump_, group, group.first_frame));
      const auto [it, is_new] = known.emplace(p.text(true), resolved.size());
      if (is_new) resolved.push_back(std::move(p));
      group.pipeline = it->second;
    }
    plan_.pipelines = std::move(resolved);
  }

  const Dump& dump_;
  const Recognition& recognition_;
  const RuleSet& rules_;
  std::uint64_t chunk_;
  const KvzTables* tables_;
  Plan plan_;
  std::map<std::string, std::size_t> known_;
  std::vector<Place> places_;
  std::map<std::pair<const Rule*, std::uint64_t>, Layers> joint_;  // by rule and batch
  std::uint64_t sequences_ = 0, joint_sequences_ = 0;
};

}  // namespace

Plan make_plan(const Dump& dump, const Recognition& recognition, const RuleSet& rules,
               std::optional<std::uint64_t> chunk_tokens, const KvzTables* tables,
               std::span<const std::uint64_t> used_tokens) {
  const std::uint64_t chunk = chunk_tokens ? *chunk_tokens : rules.chunk_tokens.value_or(kDefaultChunk);
  return Planner(dump, recognition, rules, chunk, tables).plan(used_tokens);
}

}  // namespace kvzip
