// SPDX-License-Identifier: Apache-2.0
// Any elements of any float type, through the pipelines of every preset: what was coded is decoded; what is not finite
// comes back bit for bit, nothing else becomes so, and exact pipelines are exact. Damaged bytes are refused or decode.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "codec/bytes.hpp"
#include "kvzip/error.hpp"
#include "kvzip/rules.hpp"
#include "kvzip/tile_codec.hpp"

namespace {

using namespace kvzip;

struct Choice {
  Role role;
  std::string pipeline;
};

/// Each pipeline of the presets once for each role that it is for; what is for both together is for either here.
const std::vector<Choice>& choices() {
  static const std::vector<Choice> all = [] {
    std::vector<Choice> found;
    for (const PresetText& preset : builtin_presets()) {
      for (const Rule& rule : RuleSet::parse(preset.text, preset.name).rules) {
        for (const Role role : {Role::key, Role::value}) {
          const bool known = std::any_of(found.begin(), found.end(), [&](const Choice& c) {
            return c.role == role && c.pipeline == rule.pipeline;
          });
          if ((rule.role == role || rule.role == Role::pair) && !known) found.push_back({role, rule.pipeline});
        }
      }
    }
    return found;
  }();
  return all;
}

std::vector<float> floats(DType type, ByteView elements) {
  std::vector<float> out(elements.size() / dtype_unit(type));
  to_float(type, elements, out);
  return out;
}

void check(const TileFormat& format, bool exact, ByteView in, ByteView out) {
  if (exact && !std::equal(in.begin(), in.end(), out.begin())) std::abort();
  const std::size_t unit = dtype_unit(format.dtype);
  const std::vector<float> before = floats(format.dtype, in), after = floats(format.dtype, out);
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (std::isfinite(before[i]) ? !std::isfinite(after[i]) : std::memcmp(&in[i * unit], &out[i * unit], unit) != 0) {
      std::abort();
    }
  }
}

void decode_damaged(const TileCodec& codec, ByteView coded, std::span<std::byte> out, std::uint64_t first) {
  try {
    codec.decode(coded, out, first);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::corrupt && e.code() != ErrorCode::truncated) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kHead = 8;
  constexpr std::array kTypes{DType::f16, DType::bf16, DType::f32, DType::f64};
  if (size <= kHead) return 0;
  const Choice& choice = choices()[data[0] % choices().size()];
  TileFormat format;
  format.role = choice.role;
  format.dtype = kTypes[data[1] % kTypes.size()];
  format.heads = data[2] % 4 + 1u;
  format.head_dim = data[3] % 16 + 1u;
  const std::uint32_t tokens = data[4] < 224 ? data[4] % 48 + 1u : data[4];  // outliers of 1 % need many
  const std::uint64_t first = data[5] % 8 * 16u;
  format.total_tokens = data[5] >= 128 ? first + tokens + data[5] % 128 : 0;
  const ByteView rest = std::as_bytes(std::span(data, size)).subspan(kHead);
  Bytes elements(tokens * format.row_bytes());
  for (std::size_t at = 0; at < elements.size(); at += rest.size()) {
    std::memcpy(&elements[at], rest.data(), std::min(rest.size(), elements.size() - at));
  }

  std::optional<TileCodec> codec;
  try {
    codec.emplace(choice.pipeline, format, tokens);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::invalid_argument) std::abort();
    return 0;
  }
  Bytes coded = codec->encode(elements, first);
  Bytes out(elements.size());
  codec->decode(coded, out, first);
  check(format, choice.pipeline.starts_with("planes"), elements, out);
  coded[(data[6] + 256u * data[7]) % coded.size()] ^= static_cast<std::byte>(data[7] | 1);
  decode_damaged(*codec, coded, out, first);
  decode_damaged(*codec, ByteView(coded).first(data[6] % coded.size()), out, first);
  return 0;
}
