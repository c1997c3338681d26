// SPDX-License-Identifier: Apache-2.0
// What stands behind a kvzip_dump of the C interface.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "formats/c_api/array_reader.hpp"
#include "kvzip/io.hpp"
#include "kvzip/kvzip.h"

struct kvzip_dump {
 public:
  explicit kvzip_dump(std::unique_ptr<kvzip::DumpReader> reader) : reader_(std::move(reader)) { changed(); }
  explicit kvzip_dump(std::unique_ptr<kvzip::ArrayReader> arrays) : arrays_(arrays.get()), reader_(std::move(arrays)) {
    changed();
  }

  kvzip::DumpReader& reader() const { return *reader_; }
  const kvzip::Dump& dump() const { return reader_->dump(); }
  /// fail(invalid_argument) where the dump is not made of the caller's arrays.
  kvzip::ArrayReader& arrays();
  const kvzip::RecogniseOptions& options() const { return options_; }
  /// Throws what recognise() does; then nothing has changed.
  void set_options(kvzip::RecogniseOptions options);
  /// Called when the arrays or their metadata are others: what was given out is no longer valid.
  void changed() { views_known_ = false; }

  const kvzip::Recognition& recognition() const;
  const std::vector<kvzip_tensor>& tensors() const;
  const std::vector<std::pair<std::string, std::string>>& metadata() const;
  /// fail(invalid_argument) beyond the last.
  const kvzip_tensor& tensor(std::size_t index) const;

  unsigned threads = 0;

 private:
  void make_views() const;

  kvzip::ArrayReader* arrays_ = nullptr;
  std::unique_ptr<kvzip::DumpReader> reader_;
  kvzip::RecogniseOptions options_;
  // Made when they are asked for, not with each array that is added.
  mutable bool views_known_ = false;
  mutable kvzip::Recognition recognition_;
  mutable std::vector<std::string> texts_;  // dtypes and roles end with a zero here, axes too
  mutable std::vector<kvzip_tensor> tensors_;
  mutable std::vector<std::pair<std::string, std::string>> metadata_;
};
