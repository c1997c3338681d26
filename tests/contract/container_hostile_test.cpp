// SPDX-License-Identifier: Apache-2.0
// Containers whose checksums are right and whose content is not are refused, with the right code.
#include "tests/contract/hostile_containers.hpp"

namespace kvzip::test {

TEST_CASE("the sample itself is sound when put together again") {
  const Outcome index = by_index(put_together(sample_records())), stream = as_stream(put_together(sample_records()));
  CHECK_FALSE(index.code);
  CHECK_FALSE(stream.code);
  CHECK(index.values.size() == 7);
  CHECK(index.values == stream.values);
}

TEST_CASE("headers that contradict themselves are corrupt") {
  const std::vector<std::function<void(Json&)>> edits{
      [](Json& h) { h["groups"].push_back(h["groups"][0]); },             // stored twice
      [](Json& h) { h["groups"].push_back(h["groups"].back()); },         // passed through twice
      [](Json& h) { h["groups"].erase(1); },                              // one head missing
      [](Json& h) { h["groups"].erase(3); },                              // one tensor missing
      [](Json& h) { h["groups"][1]["slots"][0]["fixed"][0] = nullptr; },  // all heads and one of them
      [](Json& h) { h["groups"][1]["slots"][0]["fixed"][0] = 2; },        // beyond the axis
      [](Json& h) { h["groups"][1]["slots"][0]["fixed"][1] = 0; },        // a fixed token
      [](Json& h) { h["groups"][1]["slots"][0]["fixed"].push_back(0); },
      [](Json& h) { h["groups"][1]["slots"][0]["tensor"] = 1; },
      [](Json& h) { h["groups"][1]["slots"][0]["tensor"] = 99; },
      [](Json& h) { h["groups"][1]["slots"] = Json::array(); },
      [](Json& h) { h["groups"][1]["heads"] = 2; },
      [](Json& h) { h["groups"][2]["heads"] = 0; },
      [](Json& h) { h["groups"][2]["heads"] = 4294967295u; },
      [](Json& h) { h["groups"][2]["head_dim"] = 4294967295u; },
      [](Json& h) { h["groups"][2]["head_dim"] = 4294967296u; },
      [](Json& h) { h["groups"][2]["chunk"] = 0; },
      [](Json& h) { h["groups"][2]["chunk"] = -4; },
      [](Json& h) { h["groups"][2]["chunk"] = 4.0; },
      [](Json& h) { h["groups"][2]["pipeline"] = 77; },
      [](Json& h) { h["groups"][3]["bytes"] = 0; },
      [](Json& h) { h["groups"][3]["bytes"] = std::uint64_t{1} << 40; },
      [](Json& h) { h["groups"][3]["pipeline"] = 0; },    // integers through a quantiser
      [](Json& h) { h["tensors"][0]["dtype"] = "I16"; },  // bytes fit, values do not
      [](Json& h) { h["tensors"][1]["axes"] = "TDC"; },   // two meanings of a channel
      [](Json& h) { h["tensors"][1]["axes"] = "TTD"; },
      [](Json& h) { h["tensors"][1]["axes"] = "HTX"; },
      [](Json& h) { h["tensors"][1]["axes"] = "HLD"; },
      [](Json& h) { h["tensors"][1]["axes"] = "HT"; },
      [](Json& h) { h["tensors"][1]["role"] = "other", h["tensors"][1]["axes"] = "TTD"; },
      [](Json& h) { h["tensors"][1]["role"] = "other", h["tensors"][1]["axes"] = ""; },
      [](Json& h) { h["tensors"][1]["shape"][1] = 7; },
      [](Json& h) { h["tensors"][1]["shape"][1] = 600000; },  // more frames than the index has
      [](Json& h) { h["tensors"][1]["shape"] = Json(std::vector<int>(33, 1)); },
      [](Json& h) { h["tensors"].erase(2); },
      [](Json& h) { h["pipelines"][0]["text"] = "quant:bits=2"; },
      [](Json& h) { h["pipelines"][0]["text"] = "quant:bits=99,pack"; },
      [](Json& h) { h["pipelines"][0]["text"] = std::string(5000, 'x'); },
      [](Json& h) {
        h["pipelines"][0]["stages"] = {3, 3};
      },
      [](Json& h) { h["pipelines"][0]["coder"] = 2; },
      [](Json& h) { h["pipelines"] = Json::array(); },
      [](Json& h) { h.erase("writer"); },
      [](Json& h) {
        h["user"].push_back({"three", "are", "many"});
      },
      [](Json& h) {
        h["attributes"].push_back(
            {{"object", ""}, {"name", "a"}, {"strings", Json::array({"x"})}, {"shape", Json::array({2})}});
      },
      [](Json& h) {
        h["attributes"].push_back(
            {{"object", ""}, {"name", "a"}, {"hex_strings", Json::array({"abc"})}, {"shape", Json::array()}});
      },
      [](Json& h) {
        h["attributes"].push_back(
            {{"object", ""}, {"name", "a"}, {"dtype", "F32"}, {"data", "00"}, {"shape", Json::array({1})}});
      },
      [](Json& h) { h = Json::array(); },
  };
  for (std::size_t i = 0; i < edits.size(); ++i) {
    CAPTURE(i);
    check_refused(with_header(edits[i]), ErrorCode::corrupt);
  }
}

TEST_CASE("sub-byte elements cannot be tiles") {
  check_refused(with_header([](Json& h) { h["tensors"][1]["dtype"] = "F4"; }), ErrorCode::corrupt);
}

TEST_CASE("sizes beyond every limit are refused before anything is allocated") {
  const auto shape = [](std::vector<std::uint64_t> k) {
    return with_header([&](Json& h) { h["tensors"][1]["shape"] = k; });
  };
  constexpr std::uint64_t kHuge = std::uint64_t{1} << 60;
  check_refused(shape({kHuge, kHuge, 4}), ErrorCode::limit);
  check_refused(shape({2, kHuge, 4}), ErrorCode::limit);  // too many frames
  check_refused(shape({2, std::uint64_t{1} << 58, 4}), ErrorCode::limit);
  check_refused(with_header([&](Json& h) {
                  h["tensors"][1]["shape"] = {2, std::uint64_t{1} << 40, 4};
                  h["groups"][2]["chunk"] = std::uint64_t{1} << 40;  // too many values in one frame
                }),
                ErrorCode::limit);
  // Channels whose number wraps to nothing.
  check_refused(with_header([](Json& h) {
                  for (const std::size_t t : {0u, 1u}) {
                    h["tensors"][t]["dtype"] = "F8_E4M3";
                    h["tensors"][t]["shape"] = {1, std::uint64_t{1} << 63};
                    h["tensors"][t]["axes"] = "TD";
                  }
                  Json group = h["groups"][2];
                  group["slots"] = {{{"tensor", 0}, {"fixed", {nullptr, nullptr}}},
                                    {{"tensor", 1}, {"fixed", {nullptr, nullptr}}}};
                  group["heads"] = 1;
                  group["head_dim"] = 0;
                  h["groups"] = {group, h["groups"][3]};
                }),
                ErrorCode::limit);
  // One frame of 2^29 values from a payload of a few bytes, in one piece.
  check_refused(with_header([](Json& h) {
                  h["tensors"][1]["shape"] = {2, std::uint64_t{1} << 26, 4};
                  h["groups"][2]["chunk"] = std::uint64_t{1} << 26;
                }),
                ErrorCode::corrupt);
}

TEST_CASE("what a later version introduced is unsupported, and named") {
  const auto stage = [](Json& h) {
    h["pipelines"][0]["stages"] = {200, 3};
    h["pipelines"][0]["text"] = "fold:deep=3,quant:bits=2,pack";
    h["pipelines"][0]["since"] = "1.7";
  };
  check_refused(with_header(stage, 7), ErrorCode::unsupported, "stage 200");
  check_refused(with_header(stage, 7), ErrorCode::unsupported, "1.7");
  check_refused(with_header(stage, 0), ErrorCode::unsupported, "1.7");
  check_refused(with_header([](Json& h) { h["pipelines"][0]["coder"] = 201, h["pipelines"][0]["since"] = "1.9"; }, 9),
                ErrorCode::unsupported, "coder 201");
  check_refused(with_header([](Json& h) { h["tensors"][1]["dtype"] = "F3"; }), ErrorCode::unsupported, "F3");
  check_refused(with_header([](Json& h) { h["tensors"][1]["role"] = "gate"; }), ErrorCode::unsupported, "gate");
  check_refused(with_header([](Json& h) { h["model"]["rope"]["scaling"] = "new"; }), ErrorCode::unsupported, "new");
  // A known stage with a parameter of a later minor version.
  const auto field = [](Json& h) { h["pipelines"][0]["text"] = "quant:bits=2:fresh=1,pack"; };
  check_refused(with_header(field, 3), ErrorCode::unsupported, "1.3");
  check_refused(with_header(field, 0), ErrorCode::corrupt);

  Bytes container = put_together(sample_records());
  patch(container, 0, 8, std::uint16_t{2});
  check_refused(container, ErrorCode::unsupported, "newer");
  container = put_together(sample_records());
  patch(container, 0, 12, std::uint32_t{8});
  check_refused(container, ErrorCode::unsupported, "flags");
  check_refused(with_records([](auto& r) {
                  r.insert(r.begin() + 3, {9, 0, Bytes(5), {}});
                }),
                ErrorCode::unsupported, "type 9");
  check_refused(with_records([](auto& r) { r[2].flags = 1; }), ErrorCode::unsupported);
  check_refused(with_records([](auto& r) { r[0].flags = 2; }), ErrorCode::unsupported);
}

TEST_CASE("what a reader may ignore changes nothing") {
  const auto values = by_index(put_together(sample_records())).values;
  std::vector<Bytes> tolerable;
  tolerable.push_back(put_together(sample_records(), 7));
  tolerable.push_back(with_header([](Json& h) { h["later"] = {{"x", {1, 2, {{"y", nullptr}}}}}; }, 7));
  tolerable.push_back(put_together(sample_records()));
  patch(tolerable.back(), 0, 16, std::uint32_t{1});  // flags that may be ignored
  const std::size_t count = sample_records().size();
  for (std::size_t at = 1; at < count; ++at) {
    tolerable.push_back(with_records([&](auto& r) {
      const auto where = r.begin() + static_cast<std::ptrdiff_t>(at);
      r.insert(where, 2, {0x8123, 0x40, Bytes(11, std::byte{3}), 999});
    }));
  }
  for (const Bytes& container : tolerable) {
    const Outcome index = by_index(container), stream = as_stream(container);
    CAPTURE(index.message);
    CAPTURE(stream.message);
    CHECK(index.values == values);
    CHECK(stream.values == values);
    const MemoryFile file(container);
    CHECK(verify_kvz(file.path(), 1, {}).empty());
  }
}

TEST_CASE("lengths, indexes and footers that lie are refused") {
  const Bytes sound = put_together(sample_records());
  std::size_t frame = kPreludeBytes + kRecordHeaderBytes + sample_records()[0].payload.size() + kRecordTailBytes;
  for (const std::uint64_t stored :
       {std::uint64_t{1} << 62, ~std::uint64_t{0}, std::uint64_t{1} << 20, std::uint64_t{0}}) {
    Bytes container = sound;
    patch(container, frame, 8, stored);
    patch(container, frame, 16, stored);
    CAPTURE(stored);
    CHECK(by_index(container).code.has_value());
    CHECK(as_stream(container).code.has_value());
  }
  const auto with_index = [&](const std::function<void(std::vector<std::uint64_t>&)>& edit) {
    return with_records([&](auto& records) {
      std::vector<std::uint64_t> entries;
      std::uint64_t gap = frame;
      for (const RawRecord& r : records) {
        if (r.type != record_type(RecordType::frame)) continue;
        entries.insert(entries.end(), {gap, r.payload.size()});
        gap = 0;
      }
      edit(entries);
      ByteWriter out;
      for (const std::uint64_t e : entries) out.put_varint(e);
      for (RawRecord& r : records) {
        if (r.type == record_type(RecordType::index)) r.payload = out.bytes();
      }
    });
  };
  CHECK_FALSE(by_index(with_index([](auto&) {})).code);
  CHECK_FALSE(as_stream(with_index([](auto&) {})).code);
  check_refused(with_index([](auto& e) { e[0] += 1; }), ErrorCode::corrupt);
  check_refused(with_index([](auto& e) { e[0] = ~std::uint64_t{0}; }), ErrorCode::corrupt);
  check_refused(with_index([](auto& e) { e[1] = ~std::uint64_t{0} - 100; }), ErrorCode::corrupt);
  check_refused(with_index([](auto& e) { e[3] -= 1; }), ErrorCode::corrupt);
  check_refused(with_index([](auto& e) { e[2] = e[1] + 40, e[0] -= 1; }), ErrorCode::corrupt);
  check_refused(with_index([](auto& e) { e.pop_back(); }), ErrorCode::truncated);
  check_refused(with_index([](auto& e) { e.push_back(0); }), ErrorCode::corrupt);
  check_refused(with_index([](auto& e) { e.resize(4); }), ErrorCode::corrupt);

  for (const std::uint64_t offset :
       {std::uint64_t{0}, std::uint64_t{frame}, ~std::uint64_t{0}, std::uint64_t{sound.size()}}) {
    Bytes container = sound;
    const FooterInfo info{offset, sound.size()};
    set_footer(container, info);
    check_refused(container, ErrorCode::corrupt);
  }
  Bytes container = sound;
  set_footer(container, {parse_footer(load<Footer>(sound, sound.size() - kFooterBytes)).index_offset, 7});
  check_refused(container, ErrorCode::corrupt);
  // Records that claim another place in the order.
  check_refused(with_records([](auto& r) { std::swap(r[0], r[1]); }), ErrorCode::corrupt);
  const Bytes missing = with_records([](auto& r) { r.erase(r.begin() + 2); });
  CHECK(by_index(missing).code.has_value());
  CHECK(as_stream(missing).code.has_value());
}

TEST_CASE("an index cannot lead to frames hidden in a record that others skip") {
  // The same records twice: once in plain sight, once, changed, inside an ancillary record.
  auto other = sample_reader({{"k", DType::f16, {1, 4, 4}, Role::key, 0, "HTD"}}, Fill::constant);
  auto shown = sample_reader({{"k", DType::f16, {1, 4, 4}, Role::key, 0, "HTD"}});
  const auto options = options_of("key = planes,pack");
  auto hidden = take_apart(compressed(*other, options)), records = take_apart(compressed(*shown, options));
  ByteWriter inside;
  inside.put_bytes(make_record_header({hidden[1].type, 0, hidden[1].payload.size(), hidden[1].payload.size(), 1}));
  inside.put_bytes(hidden[1].payload);
  inside.put(hash64(hidden[1].payload));
  records.insert(records.begin() + 2, {0x8003, 0, inside.bytes(), {}});
  records[3] = {records[3].type, 0, {}, {}};
  records[4] = {records[4].type, 0, {}, {}};
  ByteWriter index;
  index.put_varint(kPreludeBytes + 3 * kRecordHeaderBytes + 2 * kRecordTailBytes + records[0].payload.size() +
                   records[1].payload.size());
  index.put_varint(hidden[1].payload.size());
  records[3].payload = index.bytes();
  check_refused(put_together(records), ErrorCode::corrupt, "index");
}

}  // namespace kvzip::test
