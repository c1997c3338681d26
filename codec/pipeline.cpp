// SPDX-License-Identifier: Apache-2.0
// Text to chain and back, and the rules of sensible chains.
#include "codec/pipeline.hpp"

#include <algorithm>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "codec/split.hpp"

namespace kvzip {
namespace {

template <typename T>
const ComponentRow<T>* find_row(std::span<const ComponentRow<T>> rows, std::string_view name) {
  const auto it = std::find_if(rows.begin(), rows.end(), [&](const auto& r) { return r.name == name; });
  return it == rows.end() ? nullptr : &*it;
}

template <typename T>
std::string names(std::span<const ComponentRow<T>> rows) {
  std::string text;
  for (const auto& row : rows) text += fmt::format("{}{}", text.empty() ? "" : ", ", row.name);
  return text;
}

}  // namespace

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
      p.stages_.push_back(row->make());
      p.rows_.push_back(row);
      parse_fields(*p.stages_.back(), row->name, fields);
      p.stages_.back()->check();
    } else if (const auto* coder = find_row(coder_table(), items[0]); coder != nullptr) {
      if (i + 1 != parts.size()) {
        fail(ErrorCode::invalid_argument, "'{}' is a coder and must come last in '{}'", items[0], text);
      }
      p.coder_row_ = coder;
      p.coder_ = coder->make();
      parse_fields(*p.coder_, coder->name, fields);
    } else {
      fail(ErrorCode::invalid_argument, "'{}' in '{}' is neither a stage ({}) nor a coder ({})", items[0], text,
           names(stage_table()), names(coder_table()));
    }
  }
  if (p.coder_ == nullptr) {
    fail(ErrorCode::invalid_argument, "'{}' has no coder at its end; add one of {}", text, names(coder_table()));
  }
  p.check_order();
  return p;
}

std::string Pipeline::text(bool all) const {
  std::string out;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const auto defaults = rows_[i]->make();
    out += fmt::format("{}{},", rows_[i]->name, print_fields(*stages_[i], *defaults, all));
  }
  const auto defaults = coder_row_->make();
  return out + fmt::format("{}{}", coder_row_->name, print_fields(*coder_, *defaults, all));
}

void Pipeline::check_order() const {
  if (stages_.empty()) fail(ErrorCode::invalid_argument, "a pipeline needs a stage before its coder");
  if (stages_.size() > limits::kStages) {
    fail(ErrorCode::invalid_argument, "a pipeline has {} stages; {} are allowed", stages_.size(), limits::kStages);
  }
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const StageKind kind = stages_[i]->kind();
    if (kind == StageKind::exact && stages_.size() != 1) {
      fail(ErrorCode::invalid_argument, "{} is exact and stands alone before its coder", rows_[i]->name);
    }
    if (kind == StageKind::rows && i != 0) {
      fail(ErrorCode::invalid_argument, "{} must be the first stage", rows_[i]->name);
    }
    if (i == 0) continue;
    if (stages_[i - 1]->kind() == StageKind::additive && kind != StageKind::additive) {
      fail(ErrorCode::invalid_argument, "{} cannot follow {}: only what is added back may", rows_[i]->name,
           rows_[i - 1]->name);
    }
    const bool single = kind == StageKind::transform || kind == StageKind::elements;
    if (single && std::find(rows_.begin(), rows_.begin() + static_cast<std::ptrdiff_t>(i), rows_[i]) !=
                      rows_.begin() + static_cast<std::ptrdiff_t>(i)) {
      fail(ErrorCode::invalid_argument, "{} stands twice", rows_[i]->name);
    }
  }
  if (!stages_.back()->carries()) {
    fail(ErrorCode::invalid_argument,
         "a pipeline that ends with {} would drop the values; add quant, cast, lowrank, codebook or uniform before the "
         "coder",
         rows_.back()->name);
  }
}

void Pipeline::resolve(const TileContext& context, TileShape shape) {
  // Copies of a pipeline share their stages; what one group fills in must not show in the others.
  *this = parse(text(true));
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    stages_[i]->resolve(context);
    shape = stages_[i]->output(context, shape);
  }
  if (!exact() && !is_codable_float(context.source)) {
    fail(ErrorCode::invalid_argument, "{} is not a float type: only planes can take it", dtype_name(context.source));
  }
}

Pipeline::Ids Pipeline::ids() const {
  Ids ids{{}, coder_row_->id};
  for (const auto* row : rows_) ids.stages.push_back(row->id);
  return ids;
}

std::string_view Pipeline::since() const {
  // Versions of one major: the one with more digits is the later one.
  const auto earlier = [](std::string_view a, std::string_view b) {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
  };
  std::string_view largest = coder_row_->since;
  for (const auto* row : rows_) largest = std::max(largest, row->since, earlier);
  return largest;
}

std::string canonical_pipeline(std::string_view text) {
  return Pipeline::parse(text).text();
}

}  // namespace kvzip
