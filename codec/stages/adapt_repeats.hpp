// SPDX-License-Identifier: Apache-2.0
// Tokens that came before predict those that are alike: in the first layers a token's keys, before their rotation, and
// its values hardly depend on its place, and even in the last ones a good part of them does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "codec/stages/adapt_basis.hpp"
#include "codec/tile.hpp"
#include "kvzip/dtype.hpp"

namespace kvzip {

/// Which rows of a tile predict which, as a table of repeats and nothing else says. A context is a token, or a token
/// with the one before it. A row is predicted from the longest of its contexts that an earlier row of the tile had.
struct RepeatRows {
  static constexpr std::uint32_t kNone = 0xffffffff;
  struct Row {
    std::uint32_t source = kNone;          // the context that predicts it
    std::uint32_t feeds[2]{kNone, kNone};  // the contexts it is one of that later rows are predicted from
  };
  std::vector<Row> rows;
  std::vector<std::uint32_t> token;     // of each row, a number for its token
  std::uint32_t contexts = 0;           // numbered from 0
  std::vector<std::uint32_t> last_use;  // of each context, the last row that is predicted from it

  /// `table`: for each token of the sequence a little-endian u32, how many tokens before it the last one that is the
  /// same stands; 0 where there is none. No row is predicted where the table does not count the sequence's tokens or
  /// rows are not consecutive tokens.
  RepeatRows(ByteView table, const TileContext& context, TileShape shape);
  bool predicted(std::size_t r) const { return rows[r].source != kNone; }

 private:
  /// The context that each row is of with the row before it, where several are, or kNone; such rows but for the first
  /// one take it for their source. `count`: how many rows have a token.
  std::vector<std::uint32_t> pairs_of(const std::vector<std::uint32_t>& count);
};

/// Predictions of rows in an AdaptBasis, run by run: means of what the context's earlier rows were decoded to, each
/// component times a factor that follows how well it did. man/kvz.5, stage adapt, is the definition.
class RepeatPredictor {
 public:
  RepeatPredictor(const RepeatRows& repeats, std::uint32_t width);

  /// Rows `from` to `to` - 1 come next.
  void begin_run(std::uint32_t from, std::uint32_t to, AdaptBasis& basis);
  /// The prediction of row r, or null.
  const float* predict(std::size_t r);
  /// Row r, a usual one, became these coefficients. Rows come in their order, each after its prediction.
  void learn(std::size_t r, const float* coefficients);
  /// Rows of the run from `first` on as they were decoded, and which of them are usual. All of the run's come in their
  /// order, after the last prediction.
  void add_rows(std::uint32_t first, const float* rows, std::span<const std::uint8_t> usual);

 private:
  const RepeatRows& repeats_;
  std::uint32_t width_, run_end_ = 0;
  std::vector<std::uint32_t> counts_;  // rows in the sums of each context
  std::vector<float> sums_;            // of each context, contexts x width: of rows before the run
  std::vector<std::uint32_t> place_;   // of each context in run_sums_, for this run; or kNone
  std::vector<float> before_;          // of each place: the sum of its context
  std::vector<float> run_sums_;        // of all rows so far, as coefficients
  std::vector<float> mean_, prediction_, with_mean_, of_mean_;  // one a component
};

}  // namespace kvzip
