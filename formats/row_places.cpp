// SPDX-License-Identifier: Apache-2.0
#include "formats/row_places.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codec/limits.hpp"
#include "formats/token_windows.hpp"
#include "formats/used_rows.hpp"

namespace kvzip {
namespace {

/// What a list of positions says of the rows beside it.
struct Listed {
  std::uint64_t rows = 0, least = 0, end = 0;
  bool ascending = true;   // one after the other
  std::uint64_t turn = 0;  // as in RowPlaces
};

std::optional<Listed> listed_positions(DumpReader& reader, std::size_t tensor) {
  const TensorInfo& info = reader.dump().tensors[tensor];
  const bool list = info.dtype == DType::i32 && info.shape.size() == 1;
  if (!list || info.elements() == 0 || info.elements() > limits::kCells) return std::nullopt;
  std::vector<std::int32_t> cells(info.elements());
  reader.read({tensor, {0}, {cells.size()}}, std::as_writable_bytes(std::span(cells)));
  const auto [least, most] = std::ranges::minmax_element(cells);
  if (*least < 0) return std::nullopt;
  Listed out{cells.size(), static_cast<std::uint64_t>(*least), static_cast<std::uint64_t>(*most) + 1};
  const auto turn = least - cells.begin();
  std::rotate(cells.begin(), cells.begin() + turn, cells.end());
  const auto breaks = [](std::int32_t a, std::int32_t b) { return b - 1 != a; };
  const bool one_by_one = std::ranges::adjacent_find(cells, breaks) == cells.end();
  out.ascending = one_by_one && turn == 0;
  if (one_by_one) out.turn = static_cast<std::uint64_t>(turn);
  return out;
}

class Placing {
 public:
  Placing(DumpReader& reader, Recognition recognition) : reader_(reader), recognition_(std::move(recognition)) {
    const std::size_t count = reader.dump().tensors.size();
    // What it does not know of is another tensor: positions that a reader adds to those it reads from.
    recognition_.tensors.resize(std::max(count, recognition_.tensors.size()));
    places_.first.assign(count, 0);
    places_.rows.assign(count, 0);
    places_.turn.assign(count, 0);
    for (std::size_t t = 0; t < count; ++t) {
      const TensorRole& role = recognition_.tensors[t];
      const bool cached = role.role == Role::key || role.role == Role::value || role.role == Role::pair;
      const std::vector<std::uint64_t>& shape = reader.dump().tensors[t].shape;
      if (cached && role.axes.has('T') && role.axes.size() == shape.size()) {
        places_.rows[t] = role.axes.extent('T', shape);
      }
    }
  }

  RowPlaces run() && {
    places_.stated = !reader_.traits().once && (place_mlx() || place_llama());
    if (!places_.stated) place_by_length();
    for (std::size_t t = 0; t < places_.rows.size(); ++t) {
      if (places_.rows[t] > 0) places_.end = std::max(places_.end, places_.first[t] + places_.rows[t]);
    }
    return std::move(places_);
  }

 private:
  /// Nothing is said of rings before their counts were kept, and of what has none: those hold the last positions.
  bool place_mlx() {
    places_.mlx = mlx_rows(reader_);
    if (places_.mlx.empty()) return false;
    const std::uint64_t stated = places_.end = mlx_end(places_.mlx);
    const std::vector<TensorInfo>& tensors = reader_.dump().tensors;
    for (const MlxRows& cache : places_.mlx) {
      const std::string type = cache.type.empty() ? "a class that is not known" : "class " + cache.type;
      RowPlaces::Whole own{{}, fmt::format("cache {} of {}", cache.prefix, type), cache.whole, cache.least};
      const bool may_be_ring = !cache.first && cache.type == "RotatingKVCache";
      for (const std::size_t t : cache.tensors) {
        own.tensors.push_back(tensors[t].name);
        if (may_be_ring || (!cache.whole.empty() && cache.mixed)) places_.mixed.insert(tensors[t].name);
        if (places_.rows[t] == 0) continue;
        places_.first[t] = cache.first.value_or(stated - std::min(stated, places_.rows[t]));
        if (cache.first) places_.rows[t] = std::min(places_.rows[t], cache.used);
        places_.turn[t] = cache.turn;
      }
      if (!cache.whole.empty()) places_.whole.push_back(std::move(own));
    }
    return true;
  }

  /// Names of a cache's rows begin like that of its list.
  bool place_llama() {
    if (reader_.dump().text("llama.cpp").empty()) return false;
    const std::vector<TensorInfo>& tensors = reader_.dump().tensors;
    struct Cache {
      Listed rows;
      std::vector<std::string> mixed{};  // tensors whose rows are not one after the other
    };
    std::map<std::string, Cache, std::less<>> caches;  // by what names begin with
    std::uint64_t least = ~std::uint64_t{0};
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      if (!tensors[t].name.ends_with("positions")) continue;
      const auto found = listed_positions(reader_, t);
      if (!found) continue;
      caches.emplace(tensors[t].name.substr(0, tensors[t].name.size() - std::strlen("positions")), Cache{*found});
      least = std::min(least, found->least);
    }
    if (caches.empty()) return false;
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      const std::string_view name = tensors[t].name;
      for (std::size_t at = name.find("layers."); at != name.npos; at = name.find("layers.", at + 1)) {
        const auto found = caches.find(name.substr(0, at));
        if (found == caches.end() || found->second.rows.rows != places_.rows[t]) continue;
        const Listed& list = found->second.rows;
        places_.first[t] = list.least - least;
        places_.turn[t] = list.turn;
        if (list.ascending) continue;
        found->second.mixed.push_back(tensors[t].name);
        places_.mixed.insert(tensors[t].name);
      }
    }
    for (auto& [prefix, cache] : caches) {
      if (cache.mixed.empty()) continue;
      const std::string what =
          prefix.empty() ? "the cache" : fmt::format("cache {}", prefix.substr(0, prefix.size() - 1));
      places_.whole.push_back(
          {std::move(cache.mixed), what, "its rows are not in the order of positions", cache.rows.least - least});
    }
    return true;
  }

  void place_by_length() {
    places_.first = first_positions(reader_.dump(), recognition_);
    std::set<std::uint64_t> lengths(places_.rows.begin(), places_.rows.end());
    lengths.erase(0);
    // Looking at what containers hold means decoding it: only where padding tells which positions shorter layers have.
    if (reader_.traits().once || (lengths.size() < 2 && reader_.traits().container != nullptr)) return;
    const bool placed = std::ranges::any_of(places_.first, [](std::uint64_t first) { return first > 0; });
    std::vector<std::uint64_t> used = places_.rows;
    std::uint64_t end = 0;
    for (std::size_t t = 0; t < used.size(); ++t) {
      if (used[t] == 0) continue;
      const std::uint64_t own = used_rows(reader_, t, recognition_.tensors[t].axes.find('T'));
      if (own != 0) used[t] = own;
      end = std::max(end, used[t]);
    }
    for (std::size_t t = 0; t < used.size(); ++t) {
      if (placed && used[t] > 0 && recognition_.tensors[t].layer) {
        places_.first[t] = end - std::min(end, places_.rows[t]);
      }
    }
    places_.rows = std::move(used);
  }

  DumpReader& reader_;
  Recognition recognition_;
  RowPlaces places_;
};

}  // namespace

RowPlaces row_places(DumpReader& reader, const Recognition& recognition) {
  return Placing(reader, recognition).run();
}

bool is_mixed(const RowPlaces& places, const std::string& tensor) {
  return places.mixed.contains(tensor);
}

}  // namespace kvzip
