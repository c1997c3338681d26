// SPDX-License-Identifier: Apache-2.0
// q.k of any key in a box is at most the sum of max(q low, q high) over channels (Quest, arXiv 2406.10774), in a sphere
// at most q.centre + |q| radius; ArkVale (NeurIPS 2024) ranks pages by either.
#include "src/measure/page_digests.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "codec/fail.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/token_windows.hpp"
#include "src/measure/asking.hpp"

namespace kvzip::tool {
namespace {

constexpr double kRounding = 1e-12;  // more than sums of doubles lose
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr unsigned kCodes = 255;

bool finite(const float* x, std::size_t n) {
  return std::all_of(x, x + n, [](float v) { return std::isfinite(v); });
}

float rounded_up(double x) {
  const auto nearest = static_cast<float>(x);
  return double{nearest} < x ? std::nextafter(nearest, kInfinity) : nearest;
}

}  // namespace

PageDigester::PageDigester(std::uint64_t heads, std::uint64_t tokens, std::uint64_t channels, std::uint32_t page_tokens)
    : heads_(heads),
      tokens_(tokens),
      channels_(channels),
      page_tokens_(page_tokens),
      pages_((tokens + page_tokens - 1) / page_tokens),
      low_(heads * pages_ * channels),
      high_(low_.size()),
      mean_(low_.size()),
      radius_(heads * pages_, -1) {}

void PageDigester::add(std::uint64_t first, std::uint64_t count, std::span<const float> keys) {
  for (std::uint64_t head = 0; head < heads_; ++head) {
    for (std::uint64_t t = 0; t < count; t += page_tokens_) {
      add_page(head * pages_ + (first + t) / page_tokens_, std::min(page_tokens_, count - t),
               keys.data() + (head * count + t) * channels_);
    }
  }
}

void PageDigester::add_page(std::uint64_t at, std::uint64_t count, const float* keys) {
  float *low = low_.data() + at * channels_, *high = high_.data() + at * channels_;
  std::vector<double> sum(channels_);
  std::uint64_t used = 0;
  for (std::uint64_t t = 0; t < count; ++t) {
    const float* key = keys + t * channels_;
    if (!finite(key, channels_)) continue;
    for (std::uint64_t c = 0; c < channels_; ++c) {
      low[c] = used == 0 ? key[c] : std::min(low[c], key[c]);
      high[c] = used == 0 ? key[c] : std::max(high[c], key[c]);
      sum[c] += key[c];
    }
    ++used;
  }
  if (used == 0) return;
  float* mean = mean_.data() + at * channels_;
  for (std::uint64_t c = 0; c < channels_; ++c) {
    mean[c] = std::clamp(static_cast<float>(sum[c] / static_cast<double>(used)), low[c], high[c]);
  }
  for (std::uint64_t t = 0; t < count; ++t) {
    const float* key = keys + t * channels_;
    if (!finite(key, channels_)) continue;
    double square = 0;
    for (std::uint64_t c = 0; c < channels_; ++c) square += (double{key[c]} - mean[c]) * (double{key[c]} - mean[c]);
    radius_[at] = std::max(radius_[at], std::sqrt(square));
  }
}

PageList PageDigester::finish() const {
  PageList out;
  out.heads = static_cast<std::uint32_t>(heads_);
  out.channels = static_cast<std::uint32_t>(channels_);
  out.tokens = tokens_;
  out.pages = pages_;
  out.base.resize(heads_ * channels_);
  out.step.resize(out.base.size());
  out.low.resize(low_.size());
  out.high.resize(low_.size());
  out.centre.resize(low_.size());
  out.radius.assign(radius_.size(), -1);
  for (std::uint64_t head = 0; head < heads_; ++head) quantise(out, head);
  return out;
}

/// Codes of a box are moved outwards, and the radius takes what moving the centre costs.
void PageDigester::quantise(PageList& out, std::uint64_t head) const {
  std::vector<double> moved(pages_);
  for (std::uint64_t c = 0; c < channels_; ++c) {
    float least = kInfinity, most = -kInfinity;
    for (std::uint64_t p = 0; p < pages_; ++p) {
      if (radius_[out.page(head, p)] < 0) continue;
      least = std::min(least, low_[out.page(head, p) * channels_ + c]);
      most = std::max(most, high_[out.page(head, p) * channels_ + c]);
    }
    if (least > most) continue;  // no page with a key: scales of 0
    float &base = out.base[head * channels_ + c], &step = out.step[head * channels_ + c];
    base = least;
    step = rounded_up((double{most} - least) / kCodes);
    while (out.value(head, c, kCodes) < most) step = std::nextafter(step, kInfinity);
    for (std::uint64_t p = 0; p < pages_; ++p) {
      if (radius_[out.page(head, p)] < 0) continue;
      const std::uint64_t at = out.page(head, p) * channels_ + c;
      const auto code = [&](float x, double offset) {
        const double place = step > 0 ? (double{x} - base) / step + offset : 0;
        return static_cast<std::uint8_t>(std::clamp(std::floor(place), 0.0, double{kCodes}));
      };
      out.low[at] = code(low_[at], 0);
      while (out.value(head, c, out.low[at]) > low_[at]) --out.low[at];  // code 0 is the least
      out.high[at] = code(high_[at], 0);
      while (out.value(head, c, out.high[at]) < high_[at]) ++out.high[at];  // the last code is the most
      out.centre[at] = code(mean_[at], 0.5);
      const double by = out.value(head, c, out.centre[at]) - mean_[at];
      moved[p] += by * by;
    }
  }
  for (std::uint64_t p = 0; p < pages_; ++p) {
    const double radius = radius_[out.page(head, p)];
    if (radius >= 0) out.radius[out.page(head, p)] = rounded_up((radius + std::sqrt(moved[p])) * (1 + kRounding));
  }
}

KvzPages digest_pages(DumpReader& cache, const Recognition& recognition, std::uint32_t page_tokens,
                      const Progress& progress) {
  KvzPages out{page_tokens, {}};
  HeadMap layers = find_heads(cache.dump(), recognition, 0);
  std::erase_if(layers, [](const auto& layer) { return layer.second.keys.size() != 1; });
  if (layers.empty()) fail(ErrorCode::invalid_argument, "it has no layer with one tensor of keys, so no pages");
  const TokenPositions positions(cache, layers, recognition.model.rope.first_position, TokenPositions::Odd::refuse,
                                 first_positions(cache.dump(), recognition));
  const TokenPositions rows(recognition.model.rope.first_position);
  const std::map<std::uint32_t, Rotary> rotaries = rotaries_of_keys(recognition.model, layers, positions, 0);
  std::vector<float> keys;
  for (const auto& [layer, place] : layers) {
    const HeadRows& k = place.keys[0];
    const std::uint64_t some = tokens_at_a_time(cache.traits().chunk_tokens, k.heads * k.dims, k.tokens);
    const std::uint64_t step = (some + page_tokens - 1) / page_tokens * page_tokens;
    PageDigester digester(k.heads, k.tokens, k.dims, page_tokens);
    for (std::uint64_t first = 0; first < k.tokens; first += step) {
      const std::uint64_t count = std::min(step, k.tokens - first);
      k.read(cache, k.tensor, first, count, keys);
      const auto rotary = rotaries.find(layer.first);
      for (std::uint64_t head = 0; rotary != rotaries.end() && head < k.heads; ++head) {
        (pairs_up(place) ? positions : rows)
            .turn(rotary->second, layer, head, first, count, k.dims, keys.data() + head * count * k.dims);
      }
      digester.add(first, count, keys);
    }
    out.lists.push_back(digester.finish());
    out.lists.back().layer = layer.first;
    out.lists.back().batch = layer.second;
    if (progress) progress(out.lists.size(), layers.size());
  }
  return out;
}

KvzPages stored_pages(DumpReader& reader, const std::string& path) {
  std::optional<KvzPages> pages;
  if (reader.traits().container != nullptr) pages = find_kvz_pages(kvz_input(path));
  if (!pages) fail(ErrorCode::invalid_argument, "it holds no pages: a container gets them where it is compressed");
  return std::move(*pages);
}

double page_bound(const PageList& list, std::uint64_t head, std::uint64_t page, std::span<const float> query,
                  PageBy by) {
  if (list.empty(head, page)) return -std::numeric_limits<double>::infinity();
  const std::uint64_t at = list.page(head, page) * list.channels;
  double box = 0, box_size = 0, sphere = 0, sphere_size = 0, square = 0;
  for (std::uint64_t c = 0; c < list.channels; ++c) {
    const double q = query[c], low = q * list.value(head, c, list.low[at + c]);
    const double high = q * list.value(head, c, list.high[at + c]),
                 middle = q * list.value(head, c, list.centre[at + c]);
    box += std::max(low, high);
    box_size += std::max(std::fabs(low), std::fabs(high));
    sphere += middle;
    sphere_size += std::fabs(middle);
    square += q * q;
  }
  const double reach = square == 0 ? 0 : std::sqrt(square) * list.radius[list.page(head, page)];
  box += kRounding * box_size;
  sphere += reach + kRounding * (sphere_size + reach);
  return by == PageBy::box ? box : by == PageBy::sphere ? sphere : std::min(box, sphere);
}

}  // namespace kvzip::tool
