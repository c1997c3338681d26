// SPDX-License-Identifier: Apache-2.0
// What `kvzip bench` measures: rule sets on the tiles of a dump, and the peers that their speed is compared to.
#pragma once

#include <memory>

#include "formats/kvz/kvz_plan.hpp"
#include "kvzip/container.hpp"
#include "kvzip/saliency.hpp"
#include "src/bench/bench.hpp"

namespace kvzip::tool {

/// The elements of all tensors as they lie in the file.
std::vector<Bytes> read_tensors(DumpReader& reader);

/// A codec of the bytes of tensors, which must outlive it.
class Peer : public Codec {
 public:
  explicit Peer(const std::vector<Bytes>& tensors) : tensors_(tensors) {}
  std::size_t pieces() const override { return tensors_.size(); }
  ByteView source(std::size_t piece) const override { return tensors_[piece]; }
  std::string piece_name(std::size_t piece) const override { return "tensor " + std::to_string(piece); }
  bool exact(std::size_t) const override { return true; }

 private:
  const std::vector<Bytes>& tensors_;
};
std::unique_ptr<Codec> make_copy(const std::vector<Bytes>& tensors);
std::unique_ptr<Codec> make_zstd_peer(const std::vector<Bytes>& tensors, int level);

/// One step of the pipelines of a role: "convert" (to and from float), a stage, a coder, or "frame" (the rest).
struct Step {
  Role role;
  std::string name;
  std::uint64_t bytes = 0;  // source bytes of the tiles that take it
};

/// Errors of decoded keys and values over the root mean square of the originals.
struct Errors {
  std::optional<double> key, value;
};

/// Rules on a dump, cut into tiles exactly as `kvzip compress` cuts them. All tiles are held in memory.
class TiledDump final : public Codec {
 public:
  TiledDump(DumpReader& reader, const Recognition& recognition, RuleSet rules,
            std::optional<std::uint64_t> chunk_tokens);

  std::size_t pieces() const override { return tiles_.size(); }
  ByteView source(std::size_t piece) const override { return tiles_[piece].elements; }
  std::string piece_name(std::size_t piece) const override;
  bool exact(std::size_t piece) const override { return pipeline(piece).exact(); }
  std::vector<std::uint64_t> step_bytes() const override;
  ByteView encode(std::size_t piece, std::span<double> steps) override;
  void decode(std::size_t piece, ByteView coded, std::span<std::byte> out, std::span<double> steps) override;

  const std::vector<Step>& steps() const { return steps_; }
  Errors errors(const std::vector<Bytes>& decoded) const;
  /// Writes the container that `kvzip compress` writes to a temporary file and reads it back; its size. Throws Error
  /// when its tiles are not the decoded ones.
  std::uint64_t file_bytes(std::vector<Bytes>& coded, const std::vector<Bytes>& decoded) const;

 private:
  struct Tile {
    std::size_t group = 0;  // index into plan_.groups
    bool first = true;      // of its part: nothing is kept from the frame before
    TileShape shape;
    Bytes elements;
    std::vector<float> saliency;
  };
  const PlanGroup& group_of(std::size_t piece) const { return plan_.groups[tiles_[piece].group]; }
  const Pipeline& pipeline(std::size_t piece) const { return plan_.pipelines[group_of(piece).pipeline]; }
  void add_tiles(const Part& part, const Saliency* saliency);
  void find_steps();
  void add_times(std::size_t piece, const class StageClock& clock, std::span<double> steps) const;

  Dump dump_;
  Recognition recognition_;
  KvzOptions options_;
  Plan plan_;
  std::vector<Tile> tiles_;  // by frame
  std::vector<Step> steps_;
  std::vector<std::vector<std::size_t>> step_of_;  // of each group: steps_ index of each step of the clock
  Chain encoding_, decoding_;                      // of chained pipelines, from frame to frame
  Bytes coded_, decoded_;
};

}  // namespace kvzip::tool
