// SPDX-License-Identifier: Apache-2.0
// Text to chain and back, and the rules of sensible chains.
#include "codec/pipeline.hpp"

#include <algorithm>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "codec/nearest.hpp"
#include "codec/number.hpp"
#include "codec/split.hpp"
#include "kvzip/rules.hpp"

namespace kvzip {
namespace {

template <typename Row>
const Row* find_row(std::span<const Row> rows, std::string_view name) {
  const auto it = std::find_if(rows.begin(), rows.end(), [&](const auto& r) { return r.name == name; });
  return it == rows.end() ? nullptr : &*it;
}

template <typename Row>
std::string names(std::span<const Row> rows) {
  std::string text;
  for (const auto& row : rows) text += fmt::format("{}{}", text.empty() ? "" : ", ", row.name);
  return text;
}

std::vector<std::string_view> component_names() {
  std::vector<std::string_view> out;
  for (const auto& row : stage_table()) out.push_back(row.name);
  for (const auto& row : coder_table()) out.push_back(row.name);
  return out;
}

template <typename T>
std::shared_ptr<const T> configured(Factory<T> make, std::string_view name, std::span<const std::string_view> fields) {
  auto part = make();
  parse_fields(*part, name, fields);
  if constexpr (std::is_same_v<T, Stage>) part->check();
  return part;
}

/// The name with its fields. Visiting fields may change them, so copies are visited.
template <typename T>
std::string printed(const T& part, Factory<T> make, std::string_view name, bool all) {
  return fmt::format("{}{}", name, print_fields(*part.clone(), *make(), all));
}

/// Stages that a pipeline may end with.
std::vector<std::string_view> names_of_carriers() {
  std::vector<std::string_view> names;
  for (const StageRow& row : stage_table()) {
    const auto* make = std::get_if<std::unique_ptr<Stage> (*)()>(&row.make);
    if (make != nullptr && (*make)()->carries()) names.push_back(row.name);
  }
  return names;
}

}  // namespace

void Pipeline::add_stage(const StageRow& row, std::span<const std::string_view> fields) {
  if (const auto* make = std::get_if<Factory<Stage>>(&row.make)) {
    stages_.push_back({&row, configured(*make, row.name, fields)});
  } else {
    if (exact()) fail(ErrorCode::invalid_argument, "{} is exact and stands alone before its coder", exact_.row->name);
    exact_ = {&row, configured(std::get<Factory<ExactCodec>>(row.make), row.name, fields)};
  }
}

Pipeline Pipeline::parse(std::string_view text) {
  if (text.size() > limits::kPipelineText) {
    fail(ErrorCode::invalid_argument, "a pipeline's text is longer than {} bytes", limits::kPipelineText);
  }
  Pipeline p;
  const auto parts = split(text, ',');
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto items = split(parts[i], ':');
    const auto fields = std::span(items).subspan(1);
    if (const auto* row = find_row(stage_table(), items[0]); row != nullptr) {
      p.add_stage(*row, fields);
    } else if (const auto* coder = find_row(coder_table(), items[0]); coder != nullptr) {
      if (i + 1 != parts.size()) {
        fail(ErrorCode::invalid_argument, "'{}' is a coder and must come last in '{}'", items[0], text);
      }
      p.coder_ = {coder, configured(coder->make, coder->name, fields)};
    } else {
      const std::string guess = did_you_mean(items[0], component_names());
      if (!guess.empty()) {
        fail(ErrorCode::invalid_argument, "'{}' in '{}' is neither a stage nor a coder{}", items[0], text, guess);
      }
      fail(ErrorCode::invalid_argument, "'{}' in '{}' is neither a stage ({}) nor a coder ({})", items[0], text,
           names(stage_table()), names(coder_table()));
    }
  }
  if (p.coder_.part == nullptr) {
    fail(ErrorCode::invalid_argument, "'{}' has no coder at its end; add one of {}", text, names(coder_table()));
  }
  p.check_order();
  return p;
}

std::string Pipeline::text(bool all) const {
  std::string out;
  if (exact()) {
    out += printed(*exact_.part, std::get<Factory<ExactCodec>>(exact_.row->make), exact_.row->name, all) + ",";
  }
  for (const auto& stage : stages_) {
    out += printed(*stage.part, std::get<Factory<Stage>>(stage.row->make), stage.row->name, all) + ",";
  }
  return out + printed(*coder_.part, coder_.row->make, coder_.row->name, all);
}

void Pipeline::check_order() const {
  if (exact() && !stages_.empty()) {
    fail(ErrorCode::invalid_argument, "{} is exact and stands alone before its coder", exact_.row->name);
  }
  if (exact()) return;
  if (stages_.empty()) fail(ErrorCode::invalid_argument, "a pipeline needs a stage before its coder");
  if (stages_.size() > limits::kStages) {
    fail(ErrorCode::invalid_argument, "a pipeline has {} stages; {} are allowed", stages_.size(), limits::kStages);
  }
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const StageKind kind = stages_[i]->kind();
    const std::string_view name = stages_[i].row->name;
    if (kind == StageKind::rows && i != 0) {
      fail(ErrorCode::invalid_argument, "{} must be the first stage", name);
    }
    if (i == 0) continue;
    if (stages_[i - 1]->kind() == StageKind::additive && kind != StageKind::additive) {
      fail(ErrorCode::invalid_argument, "{} cannot follow {}: only what is added back may", name,
           stages_[i - 1].row->name);
    }
    const bool single = kind == StageKind::transform || kind == StageKind::elements;
    const auto before = std::span(stages_).first(i);
    if (single && std::any_of(before.begin(), before.end(), [&](const auto& s) { return s.row == stages_[i].row; })) {
      fail(ErrorCode::invalid_argument, "{} stands twice", name);
    }
  }
  if (!stages_.back()->carries()) {
    fail(ErrorCode::invalid_argument,
         "a pipeline that ends with {} would drop the values; add one of {} before the coder", stages_.back().row->name,
         fmt::join(names_of_carriers(), ", "));
  }
}

void Pipeline::resolve(const TileContext& context, TileShape shape) {
  for (auto& stage : stages_) {
    auto resolved = stage->clone();
    resolved->resolve(context);
    shape = resolved->output(context, shape);
    stage.part = std::move(resolved);
  }
  if (!exact() && !is_codable_float(context.source)) {
    fail(ErrorCode::invalid_argument, "{} is not a float type: only planes can take it", dtype_name(context.source));
  }
}

double Pipeline::work(const TileContext& context, TileShape shape) const {
  double sum = 0;
  for (const auto& stage : stages_) {
    sum += stage->work(context, shape);
    shape = stage->output(context, shape);
  }
  return sum;
}

void fail_without_table(std::string_view stage, std::string_view reference) {
  fail(ErrorCode::unsupported,
       "{}: its table {} is neither in the container nor in the tables given or found beside it (.kvzd)", stage,
       reference);
}

std::vector<std::string> Pipeline::lacking_tables() const {
  std::vector<std::string> references;
  for (const auto& stage : stages_) references.emplace_back(stage->lacks_table());
  return references;
}

std::string Pipeline::table_name(std::string_view group, std::size_t stage) {
  return fmt::format("{}.{}", group, stage);
}

void Pipeline::use_tables(const FindTable& find, std::string_view name) {
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const std::string wanted(stages_[i]->lacks_table());
    if (wanted.empty()) continue;
    const bool fitted = wanted == kFittedTable, made = fitted || wanted == kDumpTable;
    FoundTable found = find(fitted ? table_name(name, i) : made ? std::string(kRepeatsTable) : wanted);
    if (found.table == nullptr && !made) continue;
    auto stage = stages_[i]->clone();
    stage->use_table(std::move(found.table), found.reference);
    stages_[i].part = std::move(stage);
  }
}

bool Pipeline::by_role() const {
  return std::any_of(stages_.begin(), stages_.end(), [](const auto& stage) { return stage->by_role(); });
}

Pipeline Pipeline::before_padding() const {
  Pipeline out = *this;
  if (exact()) {
    auto codec = exact_->clone();
    codec->leave_out_padding();
    out.exact_.part = std::move(codec);
  } else if (stages_.front()->kind() != StageKind::rows && stages_.size() < limits::kStages) {
    out.stages_.insert(out.stages_.begin(), parse("window:recent=0,quant,pack").stages_.front());
  }
  constexpr std::size_t kEnd = 16;  // digits of where the padding begins, at most
  return out.text(true).size() + kEnd > limits::kPipelineText ? *this : out;
}

bool Pipeline::weighs() const {
  return std::any_of(stages_.begin(), stages_.end(), [](const auto& stage) { return stage->weighs(); });
}

bool Pipeline::chained() const {
  return std::any_of(stages_.begin(), stages_.end(), [](const auto& stage) { return stage->chained(); });
}

Chain Pipeline::begin_chain() const {
  Chain chain;
  for (const auto& stage : stages_) chain.states.push_back(stage->chained() ? stage->begin_chain() : nullptr);
  return chain;
}

std::vector<const StageRow*> Pipeline::stage_rows() const {
  if (exact()) return {exact_.row};
  std::vector<const StageRow*> rows;
  for (const auto& stage : stages_) rows.push_back(stage.row);
  return rows;
}

Pipeline::Ids Pipeline::ids() const {
  Ids ids{{}, coder_.row->id};
  for (const StageRow* row : stage_rows()) ids.stages.push_back(row->id);
  return ids;
}

std::string_view Pipeline::since() const {
  std::string_view latest = coder_.row->since;
  if (exact()) return later_version(latest, exact_.row->since);
  for (const auto& stage : stages_) {
    const auto defaults = std::get<Factory<Stage>>(stage.row->make)();
    latest = later_version(latest, fields_since(*stage->clone(), *defaults, stage.row->since));
  }
  return latest;
}

unsigned Pipeline::since_minor() const {
  return parse_number<unsigned>(since().substr(since().find('.') + 1)).value_or(0);
}

std::string canonical_pipeline(std::string_view text) {
  return Pipeline::parse(text).text();
}

}  // namespace kvzip
