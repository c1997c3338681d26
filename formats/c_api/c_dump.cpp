// SPDX-License-Identifier: Apache-2.0
#include "formats/c_api/c_dump.hpp"

#include <algorithm>
#include <string_view>

#include "codec/fail.hpp"
#include "formats/settle_axes.hpp"
#include "kvzip/container.hpp"

using namespace kvzip;

ArrayReader& kvzip_dump::arrays() {
  if (arrays_ == nullptr) {
    fail(ErrorCode::invalid_argument, "what was opened stays as it is: only a dump of kvzip_new() can be added to");
  }
  return *arrays_;
}

void kvzip_dump::set_options(RecogniseOptions options) {
  std::swap(options_, options);
  try {
    make_views();
  } catch (...) {
    std::swap(options_, options);
    changed();
    throw;
  }
}

const Recognition& kvzip_dump::recognition() const {
  if (!views_known_) make_views();
  return recognition_;
}

const std::vector<kvzip_tensor>& kvzip_dump::tensors() const {
  if (!views_known_) make_views();
  return tensors_;
}

const std::vector<std::pair<std::string, std::string>>& kvzip_dump::metadata() const {
  if (!views_known_) make_views();
  return metadata_;
}

const kvzip_tensor& kvzip_dump::tensor(std::size_t index) const {
  const std::vector<kvzip_tensor>& all = tensors();
  if (index >= all.size()) {
    fail(ErrorCode::invalid_argument, "there is no tensor {}: the dump has {}", index, all.size());
  }
  return all[index];
}

void kvzip_dump::make_views() const {
  if (arrays_ != nullptr) arrays_->cut_parts();
  recognition_ = recognise_with_values(*reader_, options_);

  texts_.clear();
  texts_.reserve(3 * dump().tensors.size());  // views point into it
  const auto text = [&](std::string_view view) { return texts_.emplace_back(view).c_str(); };
  tensors_.clear();
  for (std::size_t i = 0; i < dump().tensors.size(); ++i) {
    const TensorInfo& info = dump().tensors[i];
    const TensorRole& role = recognition_.tensors[i];
    kvzip_tensor& view = tensors_.emplace_back();
    view.name = info.name.c_str();
    view.dtype = text(dtype_name(info.dtype));
    view.rank = info.shape.size();
    view.shape = info.shape.data();
    view.bytes = info.bytes();
    view.role = text(role_name(role.role));
    view.axes = text(role.axes.text());
    view.why = role.why.c_str();
    view.layer = role.layer ? static_cast<std::int64_t>(*role.layer) : -1;
    view.token_axis = role.axes.has('T') ? static_cast<int>(role.axes.find('T')) : -1;
  }

  metadata_.clear();
  for (const Attribute& attribute : dump().attributes) {
    if (attribute.object.empty() && !attribute.name.empty()) {
      metadata_.emplace_back(attribute.name, dump().text(attribute.name));
    }
  }
  if (KvzReader* container = reader_->traits().container; container != nullptr) {
    for (const auto& pair : container->description().user) metadata_.push_back(pair);
  }
  views_known_ = true;
}
