// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "kvzip/error.hpp"
#include "src/measure/comparison.hpp"

using namespace kvzip;
using namespace kvzip::tool;

namespace {

/// Tensors in memory, handed out in parts of `part_bytes`.
class MemoryReader final : public DumpReader {
 public:
  explicit MemoryReader(std::uint64_t part_bytes = 1 << 20) : part_bytes_(part_bytes) {}
  void add(const TensorInfo& info, const std::vector<float>& values) {
    Bytes bytes(info.bytes());
    from_float(info.dtype, values, bytes);
    add_raw(info, std::move(bytes));
  }
  void add_raw(const TensorInfo& info, Bytes bytes) {
    for (Slice& slice : split_contiguous(info, dump_.tensors.size(), part_bytes_)) slices_.push_back(std::move(slice));
    dump_.tensors.push_back(info);
    data_.push_back(std::move(bytes));
  }

  const Dump& dump() const override { return dump_; }
  std::uint64_t part_count() const override { return slices_.size(); }
  Part part(std::uint64_t index) const override {
    Part part;
    part.index = index;
    part.slices.push_back(slices_.at(index));
    return part;
  }
  void fetch(Part& part) override {
    part.data.resize(1);
    part.data[0].resize(part.slices[0].elements() * slice_unit(dump_.tensors[part.slices[0].tensor]));
    read(part.slices[0], part.data[0]);
  }
  void read(const Slice& slice, std::span<std::byte> out) override {
    const TensorInfo& info = dump_.tensors[slice.tensor];
    const std::size_t unit = slice_unit(info);
    for_each_run(slice_shape(info), slice, [&](std::uint64_t from, std::uint64_t to, std::uint64_t n) {
      std::memcpy(out.data() + to * unit, data_[slice.tensor].data() + from * unit, n * unit);
    });
  }

 private:
  std::uint64_t part_bytes_;
  Dump dump_;
  std::vector<Bytes> data_;
  std::vector<Slice> slices_;
};

std::vector<float> wave(std::size_t n, double phase) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(std::sin(0.37 * static_cast<double>(i) + phase));
  return out;
}

std::vector<float> shifted(std::vector<float> x) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += 0.05f * static_cast<float>(std::cos(1.7 * static_cast<double>(i)));
  return x;
}

Recognition roles(std::initializer_list<TensorRole> list) {
  Recognition out;
  out.tensors = list;
  return out;
}

Comparison run(MemoryReader& a, MemoryReader& b, const Recognition& recognition, bool common = false) {
  return compare_dumps(a, b, recognition, {common, true, 1}, {});
}

/// Vectors along the axis of a tensor, one after another.
std::vector<float> along(const std::vector<float>& x, const std::vector<std::uint64_t>& shape, std::size_t axis) {
  std::size_t inner = 1;
  for (std::size_t a = axis + 1; a < shape.size(); ++a) inner *= shape[a];
  std::vector<float> out;
  for (std::size_t outer = 0; outer < x.size() / (inner * shape[axis]); ++outer) {
    for (std::size_t i = 0; i < inner; ++i) {
      for (std::size_t k = 0; k < shape[axis]; ++k) out.push_back(x[(outer * shape[axis] + k) * inner + i]);
    }
  }
  return out;
}

}  // namespace

TEST_CASE("compare: vectors lie along head_dim wherever that axis is, however small the parts") {
  const std::vector<float> x = wave(3 * 20 * 16, 0.1), y = shifted(x);
  struct Case {
    std::string axes;
    std::vector<std::uint64_t> shape;
    std::size_t axis;
  };
  for (const Case& c : {Case{"HTD", {3, 20, 16}, 2}, Case{"HDT", {3, 16, 20}, 1}, Case{"TC", {20, 48}, 1},
                        Case{"DHT", {16, 3, 20}, 0}}) {
    CAPTURE(c.axes);
    Distortion expected;
    expected.add(along(x, c.shape, c.axis), along(y, c.shape, c.axis), c.shape[c.axis]);
    for (const std::uint64_t part_bytes : {std::uint64_t{1} << 20, std::uint64_t{40}, std::uint64_t{4}}) {
      MemoryReader a(part_bytes), b;
      const TensorInfo info{"k", DType::f32, c.shape};
      a.add(info, x);
      b.add(info, y);
      const Comparison result = run(a, b, roles({{Role::key, 4, Axes(c.axes), ""}}));
      const Distortion& got = result.roles.at(Role::key).distortion;
      CHECK(got.values() == expected.values());
      CHECK(got.max_abs() == expected.max_abs());
      CHECK(got.rmse() == doctest::Approx(expected.rmse()).epsilon(1e-12));
      CHECK(got.cosine_min() == expected.cosine_min());
      CHECK(got.cosine_mean() == doctest::Approx(expected.cosine_mean()).epsilon(1e-12));
      CHECK(result.tensors.at(0).layer == 4);
    }
  }
}

TEST_CASE("compare: a tensor of keys and values counts for both") {
  const std::vector<std::uint64_t> shape{2, 2, 5, 8};  // L2TD
  const std::vector<float> x = wave(160, 0);
  std::vector<float> y = x;
  // Errors in the values only: index 1 of the second axis.
  for (std::size_t layer = 0; layer < 2; ++layer) {
    for (std::size_t i = 0; i < 40; ++i) y[layer * 80 + 40 + i] += 0.25f;
  }
  MemoryReader a, b;
  a.add({"kv", DType::f32, shape}, x);
  b.add({"kv", DType::f32, shape}, y);
  const Comparison result = run(a, b, roles({{Role::pair, {}, "L2TD", ""}}));
  CHECK(result.roles.size() == 2);
  CHECK(result.roles.at(Role::key).distortion.exact());
  CHECK(result.roles.at(Role::key).values == 80);
  CHECK(result.roles.at(Role::value).distortion.rmse() == doctest::Approx(0.25).epsilon(1e-6));
  CHECK(result.total.values == 160);
  CHECK(result.total.distortion.rmse() == doctest::Approx(0.25 / std::sqrt(2.0)).epsilon(1e-6));
  CHECK(*result.total.bits() == 32);
  CHECK(*result.total.ratio() == 1);
}

TEST_CASE("compare: types may differ among floats; others are compared by their bytes") {
  const std::vector<float> x = wave(64, 0.4);
  MemoryReader a, b;
  a.add({"v", DType::f32, {4, 16}}, x);
  b.add({"v", DType::bf16, {4, 16}}, x);
  Bytes ids(40), other(40);
  other[5] = std::byte{1};   // element 1
  other[17] = std::byte{1};  // element 4, twice
  other[18] = std::byte{1};
  a.add_raw({"ids", DType::i32, {10}}, ids);
  b.add_raw({"ids", DType::i32, {10}}, other);
  const Comparison result = run(a, b, roles({{Role::value, 0, "TC", ""}, {}}));
  const Compared& value = result.roles.at(Role::value);
  CHECK(value.distortion.max_abs() < 0.004);
  CHECK(value.distortion.max_abs() > 0);
  CHECK(*value.bits() == 16);
  CHECK(*value.ratio() == 2);
  CHECK(result.roles.at(Role::other).unlike == 2);
  CHECK(!result.total.same());
}

TEST_CASE("compare: scalars and empty tensors") {
  MemoryReader a, b;
  a.add({"s", DType::f32, {}}, {2});
  b.add({"s", DType::f32, {}}, {3});
  a.add({"e", DType::f16, {3, 0, 2}}, {});
  b.add({"e", DType::f16, {3, 0, 2}}, {});
  const Comparison result = run(a, b, roles({{}, {}}));
  CHECK(result.total.distortion.max_abs() == 1);
  CHECK(result.total.values == 1);
}

TEST_CASE("compare: refuses what does not match") {
  const auto code = [](const TensorInfo& left, const TensorInfo& right, bool common) {
    MemoryReader a, b;
    a.add_raw(left, Bytes(left.bytes()));
    b.add_raw(right, Bytes(right.bytes()));
    try {
      run(a, b, roles({{}}), common);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(code({"a", DType::f32, {2, 3}}, {"a", DType::f32, {3, 2}}, false).find("[2, 3]") != std::string::npos);
  CHECK(code({"a", DType::f32, {2}}, {"b", DType::f32, {2}}, false).find("first file only") != std::string::npos);
  CHECK(code({"a", DType::f32, {2}}, {"b", DType::f32, {2}}, true).find("in common") != std::string::npos);
  CHECK(code({"a", DType::f32, {2}}, {"a", DType::i32, {2}}, false).find("I32") != std::string::npos);
  CHECK(code({"a", DType::f32, {2}}, {"a", DType::f32, {2}}, false).empty());
}
