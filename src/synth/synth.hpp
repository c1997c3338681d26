// SPDX-License-Identifier: Apache-2.0
// A reader of dumps that do not exist: it makes each value when it is asked for.
#pragma once

#include "kvzip/io.hpp"
#include "src/synth/synth_model.hpp"

namespace kvzip {

class SynthReader final : public DumpReader {
 public:
  /// fail(invalid_argument or limit) when the options make no cache.
  explicit SynthReader(const SynthOptions& options);

  const Dump& dump() const override { return dump_; }
  std::uint64_t part_count() const override;
  Part part(std::uint64_t index) const override;
  void fetch(Part&) override {}
  void expand(Part& part) const override;
  void read(const Slice& slice, std::span<std::byte> out) override { generate(slice, out); }

 private:
  struct Place {
    Role role = Role::other;
    std::uint32_t layer = 0;
  };
  Place place(std::size_t tensor) const;
  std::size_t tensors_per_layer() const { return options_.query_heads > 0 ? 3 : 2; }
  void generate(const Slice& slice, std::span<std::byte> out) const;
  void generate_ids(const Slice& slice, std::span<std::byte> out) const;

  SynthOptions options_;
  Dump dump_;
  std::uint64_t part_tokens_ = 0, token_parts_ = 0;
  SynthModel model_;
};

}  // namespace kvzip
