// SPDX-License-Identifier: Apache-2.0
// The codes of a tile's rows, and their way to and from streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "codec/buffer.hpp"
#include "codec/magnitudes.hpp"
#include "codec/stages/adapt_repeats.hpp"

namespace kvzip {

/// Predicted rows stand after the others, since their magnitudes are smaller.
class AdaptCodes {
 public:
  AdaptCodes(TileShape shape, const RepeatRows& repeats) : cols_(shape.cols), repeats_(repeats) {
    for (std::size_t r = 0; r < repeats.rows.size(); ++r) ++count_[repeats.predicted(r)];
  }
  void make_room() {
    for (const bool predicted : {false, true}) codes_[predicted].resize(std::size_t{count_[predicted]} * cols_);
    find_rows();
  }
  /// Through the port, either way.
  void pass(StreamPort& port, const RowGains& gains) {
    for (const bool predicted : {false, true}) {
      if (predicted && repeats_.contexts == 0) break;
      RowGains own{{}, gains.spans};
      for (std::size_t r = 0; r < repeats_.rows.size(); ++r) {
        if (repeats_.predicted(r) == predicted) own.values.insert(own.values.end(), gains.row(r), gains.row(r + 1));
      }
      pass_magnitudes(port, count_[predicted], cols_, own, codes_[predicted]);
    }
    if (!port.writes()) find_rows();
  }
  /// Where the rows from r on are.
  std::int16_t* const* rows(std::uint32_t r) const { return at_.data() + r; }

 private:
  void find_rows() {
    std::int16_t* next[2] = {codes_[0].data(), codes_[1].data()};
    for (std::size_t r = 0; r < repeats_.rows.size(); ++r) {
      std::int16_t*& row = next[repeats_.predicted(r)];
      at_.push_back(row);
      row += cols_;
    }
  }

  std::uint32_t cols_, count_[2] = {0, 0};
  const RepeatRows& repeats_;
  Buffer<std::int16_t> codes_[2];  // those of predicted rows are the second ones
  std::vector<std::int16_t*> at_;  // each row
};

}  // namespace kvzip
