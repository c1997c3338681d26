// SPDX-License-Identifier: Apache-2.0
// Tiles of every awkward kind, and representative pipelines of every stage and coder.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "codec/pipeline.hpp"
#include "codec/tile.hpp"
#include "kvzip/dtype.hpp"

namespace kvzip::test {

inline std::vector<DType> all_dtypes() {
  std::vector<DType> types;
  for (std::size_t i = 0; i < kDTypeCount; ++i) types.push_back(static_cast<DType>(i));
  return types;
}
inline std::vector<DType> codable_dtypes() {
  std::vector<DType> types;
  for (const DType t : all_dtypes()) {
    if (is_codable_float(t)) types.push_back(t);
  }
  return types;
}

/// splitmix64: the same numbers on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t n) { return next() % n; }
  /// Roughly normal: mean 0, variance 1, at most 6.
  float normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += static_cast<double>(next() >> 11) * 0x1p-53;
    return static_cast<float>(sum);
  }

 private:
  std::uint64_t state_;
};

enum class Fill : std::uint8_t { ordinary, constant, zeros, negative_zeros, tiny, huge, specials };
inline constexpr Fill kFills[] = {Fill::ordinary, Fill::constant, Fill::zeros,   Fill::negative_zeros,
                                  Fill::tiny,     Fill::huge,     Fill::specials};

/// rows x cols elements. `ordinary`: channels of different scale and mean with a few outliers, below 100.
inline Bytes sample_elements(DType type, std::uint32_t rows, std::uint32_t cols, Fill fill, std::uint64_t seed = 1) {
  Random random(seed);
  Bytes out(std::size_t{rows} * cols * dtype_unit(type));
  if (!is_codable_float(type)) {
    for (std::byte& b : out) b = static_cast<std::byte>(fill == Fill::zeros ? 0 : random.next() >> 59);
    return out;
  }
  std::vector<float> values(std::size_t{rows} * cols);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto channel = static_cast<float>(i % cols);
    const float x = random.normal();
    switch (fill) {
      case Fill::ordinary:
      case Fill::specials:
        values[i] = x * (0.25f + 0.25f * std::fmod(channel, 5.0f)) + (std::fmod(channel, 3.0f) - 1);
        if (random.below(97) == 0) values[i] *= 8;
        break;
      case Fill::constant:
        values[i] = 1.375f;
        break;
      case Fill::zeros:
        break;
      case Fill::negative_zeros:
        values[i] = -0.0f;
        break;
      case Fill::tiny:
        values[i] = x * 1e-42f;
        break;
      case Fill::huge:
        values[i] = x < 0 ? -dtype_max(type) : dtype_max(type) * (random.below(2) == 0 ? 1.0f : 0.5f);
        break;
    }
    if (fill == Fill::specials && random.below(5) == 0) {
      const float inf = std::numeric_limits<float>::infinity();
      const float nan = std::numeric_limits<float>::quiet_NaN();
      const float some[] = {inf, -inf, nan, -nan, -0.0f};
      values[i] = some[random.below(5)];
    }
  }
  from_float(type, values, out);
  return out;
}

inline std::vector<float> floats_of(DType type, ByteView elements) {
  std::vector<float> values(elements.size() / dtype_unit(type));
  to_float(type, elements, values);
  return values;
}

/// Half a unit in the last place of a value of magnitude 1 to 2, doubled for the rounding of both directions.
inline double dtype_step(DType type) {
  switch (type) {
    case DType::f16:
      return 0x1p-10;
    case DType::bf16:
      return 0x1p-7;
    case DType::f32:
    case DType::f64:
      return 0x1p-22;
    case DType::f8_e4m3:
    case DType::f8_e4m3fnuz:
      return 0x1p-3;
    default:
      return 0x1p-2;
  }
}

/// A pipeline and the largest error it may make, as a share of the tile's largest magnitude; 0 = bit-exact.
/// For n levels over a range of at most 2 M the error is M / (n - 1), plus the rounding of scales to 11 bits.
struct PipelineCase {
  std::string_view text;
  double bound;
};
inline constexpr PipelineCase kPipelineCases[] = {
    {"planes,pack", 0},
    {"planes,zstd", 0},
    {"planes,zstd:level=19", 0},
    {"planes,ac", 0},
    {"planes,rans", 0},
    {"quant:bits=6:axis=channel,rans", 0.02},
    {"planes,ac:context=channel", 0},
    {"planes,ac:context=previous", 0},
    {"planes,ac:model=static", 0},
    {"planes,ac:model=static:per=tile", 0},
    {"planes,ac:model=cachegen", 0},
    {"quant,pack", 0.075},
    {"quant:bits=8:axis=channel:group=64,ac", 0.01},
    {"quant:bits=8:axis=token-head,zstd", 0.01},
    {"quant:bits=1:axis=token,pack", 1.01},
    {"quant:bits=2:axis=token:group=5,ac:model=static", 0.34},
    {"quant:bits=3:axis=head:group=7,ac:model=static:per=head", 0.15},
    {"quant:bits=4:axis=tile:scale=f32,ac:model=static:per=tile", 0.07},
    {"quant:levels=3:axis=token-head:group=4:scale=bf16,ac:context=channel", 0.53},
    {"quant:levels=17:axis=channel:group=16,ac", 0.07},
    {"quant:levels=40:axis=channel,ac:context=previous", 0.04},
    {"quant:levels=257:axis=token,ac", 0.01},
    {"quant:levels=65535:axis=channel:scale=f32,pack", 0.001},
    {"quant:mode=sym:bits=8:axis=token-head,pack", 0.01},
    {"quant:mode=sym:bits=3:axis=tile:scale=source,zstd", 0.3},
    {"quant:mode=absmax:levels=31:axis=token:scale=source,ac:model=cachegen:bins=32", 0.2},
    {"quant:mode=absmax:levels=15:axis=token:scale=source,ac", 0.2},
    {"window:recent=128:rule=modulo,quant:bits=2:axis=channel:group=32,pack", 0.34},
    {"window:sink=2:recent=3,quant:bits=2:axis=token-head:group=32,ac", 0.34},
    {"window:sink=1000:recent=0,quant,pack", 0.075},
    {"outliers,quant:bits=4,pack", 0.075},
    {"outliers:share=0.1:axis=token,quant:bits=4:axis=token,ac", 0.075},
    {"outliers:count=3:axis=tile:select=magnitude,quant:bits=4,zstd", 0.075},
    {"outliers:share=0.5,quant:bits=2,ac:model=static", 0.34},
    {"outliers:share=0,quant:bits=4,ac", 0.075},
    {"lowrank:rank=64:loops=8,pack", 0.05},
    {"quant:bits=4,lowrank:rank=2,pack", 0.3},
    {"quant:bits=4,lowrank:rank=3:bits=5:per=tile,ac", 0.3},
    {"outliers:axis=channel,quant:bits=2:group=64,lowrank:rank=4:loops=3,pack", 1},
    {"norm,quant:bits=8:axis=token,ac", 0.1},
    {"norm:kind=absmax:center=mean,quant:bits=8,ac", 0.02},
    {"norm:kind=sqrt-absmax:scale=f32,quant:bits=8:axis=token,zstd", 0.1},
    {"norm:kind=none:center=mean:scale=bf16,quant:bits=8,pack", 0.02},
    {"delta,quant:mode=absmax:levels=31:axis=token:scale=source,ac", 0.3},
    {"delta:every=4:keep=always,quant:bits=8,ac", 0.03},
    {"delta:ref=previous:every=5:keep=always,quant:bits=8,ac", 0.1},
    {"delta:ref=previous:every=3,quant:bits=8,pack", 0.05},
    {"rope,quant:bits=8,ac", 0.02},
    {"rope:theta=10000:layout=interleaved:dims=2,quant:bits=8,ac", 0.02},
    {"window:sink=1:recent=4,rope,outliers,norm,delta:every=4,quant:bits=6,quant:bits=8,lowrank:rank=1,ac", 0.5},
    {"cast:to=f32,pack", 0},
    {"cast:to=f16:scale=tile,zstd", 0.002},
    {"cast:to=bf16,ac", 0.01},
    {"cast:to=e4m3:scale=token,ac", 0.07},
    {"cast:to=e5m2,pack", 0.13},
    {"cast:to=e4m3,cast:to=e4m3:scale=tile,ac", 0.02},
    {"rotate,quant:bits=8:axis=token-head,ac", 0.05},
    {"rotate:rounds=4:seed=7,cast:to=f32,pack", 1e-5},
    {"rotate,codebook,pack", 0.6},
    {"codebook:bits=1:scale=bf16,ac", 3.5},
    {"window:sink=2:recent=3,rotate,codebook:bits=5:scale=source,quant:bits=4,lowrank:rank=1,rans", 0.2},
    {"uniform:step=0.01,rans", 0.005},
    {"uniform:step=0.25:unit=rms:points=centroid,rans", 0.2},
    {"uniform:step=0.25:round=0.3:points=centroid,ac", 0.2},
    {"uniform:step=30:points=centroid,pack", 1},
    {"uniform:step=1e-06,zstd", 1},
    {"uniform:step=2:round=0,ac:model=static", 1},
    {"uniform:step=0.5,ac:model=cachegen", 0.1},
    {"outliers,norm,rotate,uniform:step=0.5:points=centroid,uniform:step=0.02,ac:context=channel", 0.2},
    {"planes:split=none,pack", 0},
    {"planes:split=none,zstd:level=19", 0},
    {"planes:split=none,rans", 0},
    {"planes,deflate", 0},
    {"planes:split=none,deflate:level=1", 0},
    {"quant:bits=3:axis=token,deflate", 0.15},
    {"klt:bits=40,pack", 0.01},
    {"klt:bits=40:per=head,deflate", 0.01},
    {"klt:bits=10,deflate", 1},
    {"window:sink=1:recent=3,rope:missing=skip,klt,rans", 2},
    {"outliers:share=0.1,klt:bits=6:per=head,quant:bits=6,ac", 0.1},
    {"carry,quant:bits=6:axis=channel,pack", 0.02},
    {"carry:of=last:weight=0.75:decay=0.5,cast:to=f32,pack", 1e-5},
    {"adapt,rans", 0.5},
    {"adapt:width=none,pack", 0.2},
    {"adapt:step=0.05:round=0.5:width=8,rans", 0.1},
    {"adapt:step=0.02:width=5,ac", 0.02},
    {"adapt:step=64:round=0,zstd", 4},
    {"adapt:step=0.1:width=3:heads=1,rans", 0.2},
    {"window:sink=1:recent=2,rope,carry,adapt:step=0.25:width=none,quant:bits=6:axis=tile,rans:model=adaptive", 0.1},
    {"outliers,norm,adapt:step=0.1,uniform:step=0.02,deflate", 0.3},
    {"bfp,pack", 0.01},
    {"bfp:bits=2:group=5:order=magnitude,ac", 0.51},
    {"bfp:bits=4:group=3,bfp:bits=4,rans", 0.02},
    {"bfp:type=e2m1:group=16,rans", 0.26},
    {"bfp:type=e2m3:order=magnitude,deflate", 0.07},
    {"bfp:type=e3m2,ac:model=static", 0.13},
    {"rotate,bfp:type=e4m3:order=magnitude,zstd", 0.6},
    {"outliers,bfp:type=e5m2:group=1,pack", 0.13},
    {"nuq,pack", 0.6},
    {"nuq:bits=8:axis=token:scale=f32,rans", 0.1},
    {"nuq:bits=1:axis=token-head:weight=none,ac", 1.01},
    {"nuq:bits=2:norm=moments:scale=bf16,zstd", 1.01},
    {"quant:mode=sym:levels=3:fit=mean:axis=token,rans", 1},
    {"lowrank:share=1:per=tile:loops=8,pack", 0.05},
    {"quant:bits=4,lowrank:rank=6:energy=0.5,rans", 0.3},
    {"lowrank:rank=64:energy=1:bits=8:loops=8:per=tile,pack", 0.1},
    {"tiers,pack", 0.34},
    {"norm:kind=sqrt-absmax,tiers:high=4:low=3:share=0.6:axis=token:group=7,ac", 1},
    {"tiers:high=exact:low=ternary:share=0.2:recent=0.5:axis=token-head,rans", 1},
    {"window:sink=1:recent=2,rope,outliers,tiers:high=6:low=4:share=0.3:group=4,quant:bits=6,zstd", 0.1},
    {"bands,pack", 2},
    {"bands:share=0.25:high=6:low=6:spectrum=none:group=5,ac", 0.02},
    {"outliers,bands:share=0.6:high=8:low=8,quant:bits=6,rans", 0.05},
    {"rotate,polar,pack", 2},
    {"polar:bits=8:scale=bf16,rans", 2},
    {"outliers,polar:bits=2,quant:bits=6,ac", 0.3},
    {"slerp,pack", 0.01},
    {"slerp:t=0.5:bits=8:axis=token-head:scale=f32,rans", 0.1},
    {"window:sink=1:recent=2,rope,outliers,slerp:bits=4:group=5,quant:bits=6,ac", 0.2},
    {"runs:share=1,pack", 0},
    {"runs:cosine=0.5:share=0.3:bits=8:axis=token,quant:bits=6,rans", 0.1},
    {"window:sink=1:recent=2,rope,outliers,runs,zstd", 2},
    {"clusters,pack", 1},
    {"clusters:levels=256:group=3:clip=1:scale=f32,rans", 0.01},
    {"clusters:levels=16:group=5:clip=1:scale=e4m3,deflate", 0.3},
    {"window:sink=1:recent=2,rope,outliers,clusters:levels=3:group=8:clip=0.92:scale=e4m3,quant:bits=6,ac", 0.1},
    {"couple,pack", 0.002},
    {"couple:channels=3:bits=1:weight=none:scale=bf16,ac", 2},
    {"window:sink=1:recent=2,rope,outliers,couple:channels=2:bits=4:rounds=2,quant:bits=6,rans", 0.1},
    {"sort:block=2,cast:to=f32,pack", 0},
    {"sort,quant:bits=6,packs", 0.02},
    {"window:sink=1:recent=2,rope,sort:block=8,outliers,quant:bits=8:axis=token-head,packs:rows=5", 0.01},
    {"planes,packs", 0},
    {"planes:rows=used,rans", 0},
    {"planes:split=none:rows=used,pack", 0},
    {"nested:share=1,pack", 0.01},
    {"norm:kind=none:center=mean,nested:share=1:bits=8,packs", 0.1},
    {"window:sink=1:recent=2,rope,outliers,nested:share=0.3:bits=6:group=8,quant:bits=6,ac", 0.1},
    {"predict,pack", 0.1},
    {"window:sink=1:recent=2,rope,outliers,predict:first=3:bits=8:group=5:damp=0.1:scale=bf16,quant:bits=6,rans", 0.1},
    {"window:sink=1:recent=0,rope,outliers:share=0.1,nuq:bits=4,quant:bits=6,rans", 0.1},
};

/// What a group of keys says of itself: two heads where the channels allow it.
inline TileContext sample_context(DType source, std::uint32_t cols, std::uint64_t tokens) {
  TileContext c;
  c.role = Role::key;
  c.layer = 1;
  c.layers = 4;
  c.heads = cols % 4 == 0 ? 2 : 1;
  c.head_dim = cols / c.heads;
  c.total_tokens = tokens;
  c.source = source;
  c.rope.state = Rope::State::post;
  c.rope.theta = 10000;
  return c;
}

}  // namespace kvzip::test
