// SPDX-License-Identifier: Apache-2.0
// The C interface: dumps, what they hold, and their values.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "codec/limits.hpp"
#include "formats/c_api/c_call.hpp"
#include "formats/c_api/c_dump.hpp"
#include "formats/inputs.hpp"
#include "formats/parts.hpp"
#include "formats/text.hpp"
#include "kvzip/rules.hpp"
#include "kvzip/version.hpp"

namespace {

using namespace kvzip;
using c::call;
using c::given;

template <typename Make>
int make_dump(kvzip_dump** out, Make&& make) {
  return call([&] {
    given(out, "dump") = nullptr;
    auto dump = std::make_unique<kvzip_dump>(make());
    dump->tensors();  // so that only what changes a dump can make it fail later
    *out = dump.release();
  });
}

/// Fills the buffer with a box of a tensor: all of it but for [begin, end) along `axis`.
void read_box(kvzip_dump& dump, std::size_t tensor, const Slice& box, void* buffer, std::size_t size) {
  const std::uint64_t bytes = slice_bytes(dump.dump(), box);
  if (bytes > size) {
    fail(ErrorCode::invalid_argument, "{}: a buffer of {} bytes for {}", quoted(dump.dump().tensors[tensor].name), size,
         bytes);
  }
  if (bytes == 0) return;
  dump.reader().read(box, {static_cast<std::byte*>(buffer), static_cast<std::size_t>(bytes)});
  require_unchanged(dump.reader().inputs());
}

Slice whole(const kvzip_dump& dump, std::size_t tensor) {
  dump.tensor(tensor);
  std::vector<std::uint64_t> shape = slice_shape(dump.dump().tensors[tensor]);
  return {tensor, std::vector<std::uint64_t>(shape.size(), 0), std::move(shape)};
}

/// Takes what transcode() moves into the caller's buffers.
class BufferWriter final : public DumpWriter {
 public:
  BufferWriter(const Dump& dump, void* const* buffers) : dump_(dump), buffers_(buffers) {}
  void append(Part& part) override {
    for (std::size_t i = 0; i < part.slices.size(); ++i) {
      const Slice& slice = part.slices[i];
      void* buffer = buffers_[slice.tensor];
      if (buffer == nullptr) continue;
      scatter_slice(dump_.tensors[slice.tensor], slice, part.data.at(i), static_cast<std::byte*>(buffer));
    }
  }
  void finish() override {}

 private:
  const Dump& dump_;
  void* const* buffers_;
};

}  // namespace

const char* kvzip_version() {
  return kvzip::version().data();
}

const char* kvzip_preset_name(size_t index) {
  const char* name = nullptr;
  call([&] {
    static const std::vector<std::string> kNames = [] {
      std::vector<std::string> names;
      for (const PresetText& preset : builtin_presets()) names.emplace_back(preset.name);
      return names;
    }();
    if (index < kNames.size()) name = kNames[index].c_str();
  });
  return name;
}

int kvzip_open(const char* path, kvzip_dump** dump) {
  return make_dump(dump, [&] {
    given(path, "path");
    return in_file(path, [&] { return open_reader(std::string(path)); });
  });
}

int kvzip_open_memory(const void* bytes, size_t size, kvzip_dump** dump) {
  return make_dump(dump, [&] {
    if (size != 0) given(static_cast<const std::byte*>(bytes), "bytes");
    return open_reader(ByteView{static_cast<const std::byte*>(bytes), size});
  });
}

int kvzip_new(kvzip_dump** dump) {
  return make_dump(dump, [] { return std::make_unique<ArrayReader>(); });
}

void kvzip_close(kvzip_dump* dump) {
  call([&] { delete dump; });
}

int kvzip_add(kvzip_dump* dump, const char* name, const char* dtype, size_t rank, const uint64_t* shape,
              const void* data, size_t size) {
  return call([&] {
    ArrayReader& arrays = given(dump, "dump").arrays();
    given(name, "name");
    given(dtype, "dtype");
    if (rank != 0) given(shape, "shape");
    if (size != 0) given(static_cast<const std::byte*>(data), "data");
    const std::optional<DType> type = parse_dtype(dtype);
    if (!type) fail(ErrorCode::invalid_argument, "there is no dtype {}", quoted(dtype));
    if (rank > limits::kRank) fail(ErrorCode::limit, "tensor {}: more than {} dimensions", quoted(name), limits::kRank);
    arrays.add({name, *type, std::vector<std::uint64_t>(shape, shape + rank)},
               {static_cast<const std::byte*>(data), size});
    dump->changed();
  });
}

int kvzip_set_metadata(kvzip_dump* dump, const char* name, const char* value) {
  return call([&] {
    given(dump, "dump").arrays().set_metadata(&given(name, "name"), &given(value, "value"));
    dump->changed();
  });
}

int kvzip_made_from(kvzip_dump* dump, const kvzip_dump* source) {
  return call([&] { given(dump, "dump").arrays().made_from(given(source, "source").reader()); });
}

int kvzip_set_layout(kvzip_dump* dump, const char* axes) {
  return call([&] {
    RecogniseOptions options = given(dump, "dump").options();
    options.layout = &given(axes, "axes");
    dump->set_options(std::move(options));
  });
}

int kvzip_add_map(kvzip_dump* dump, const char* rule) {
  return call([&] {
    RecogniseOptions options = given(dump, "dump").options();
    options.map.push_back(parse_map_rule(&given(rule, "rule")));
    dump->set_options(std::move(options));
  });
}

int kvzip_set_threads(kvzip_dump* dump, unsigned threads) {
  return call([&] { given(dump, "dump").threads = threads; });
}

size_t kvzip_tensor_count(const kvzip_dump* dump) {
  std::size_t count = 0;
  call([&] { count = given(dump, "dump").dump().tensors.size(); });
  return count;
}

const kvzip_tensor* kvzip_tensor_at(const kvzip_dump* dump, size_t index) {
  const kvzip_tensor* tensor = nullptr;
  call([&] { tensor = &given(dump, "dump").tensor(index); });
  return tensor;
}

int kvzip_find(const kvzip_dump* dump, const char* name, size_t* index) {
  return call([&] {
    const std::vector<TensorInfo>& tensors = given(dump, "dump").dump().tensors;
    given(index, "index");
    const auto found = std::ranges::find(tensors, std::string_view(&given(name, "name")), &TensorInfo::name);
    if (found == tensors.end()) fail(ErrorCode::invalid_argument, "there is no tensor {}", quoted(name));
    *index = static_cast<std::size_t>(found - tensors.begin());
  });
}

const char* kvzip_metadata_name(const kvzip_dump* dump, size_t index) {
  const char* name = nullptr;
  call([&] {
    const auto& all = given(dump, "dump").metadata();
    if (index < all.size()) name = all[index].first.c_str();
  });
  return name;
}

const char* kvzip_metadata_value(const kvzip_dump* dump, size_t index) {
  const char* value = nullptr;
  call([&] {
    const auto& all = given(dump, "dump").metadata();
    if (index < all.size()) value = all[index].second.c_str();
  });
  return value;
}

int kvzip_read(kvzip_dump* dump, size_t tensor, void* buffer, size_t size) {
  return call([&] {
    Slice box = whole(given(dump, "dump"), tensor);
    if (size != 0) given(static_cast<std::byte*>(buffer), "buffer");
    read_box(*dump, tensor, box, buffer, size);
  });
}

int kvzip_read_tokens(kvzip_dump* dump, size_t tensor, uint64_t begin, uint64_t end, void* buffer, size_t size) {
  return call([&] {
    Slice box = whole(given(dump, "dump"), tensor);
    if (size != 0) given(static_cast<std::byte*>(buffer), "buffer");
    const kvzip_tensor& view = dump->tensor(tensor);
    if (view.token_axis < 0) fail(ErrorCode::invalid_argument, "{} has no axis of tokens", quoted(view.name));
    const std::size_t axis = static_cast<std::size_t>(view.token_axis);
    if (begin > end || end > box.count[axis]) {
      fail(ErrorCode::invalid_argument, "{}: tokens {} to {} of {}", quoted(view.name), begin, end, box.count[axis]);
    }
    box.start[axis] = begin;
    box.count[axis] = end - begin;
    read_box(*dump, tensor, box, buffer, size);
  });
}

int kvzip_read_all(kvzip_dump* dump, void* const* buffers, size_t count) {
  return call([&] {
    const std::size_t tensors = given(dump, "dump").tensors().size();
    if (count != tensors) fail(ErrorCode::invalid_argument, "{} buffers for {} tensors", count, tensors);
    if (count == 0) return;
    given(buffers, "buffers");
    BufferWriter writer(dump->dump(), buffers);
    transcode(dump->reader(), writer, dump->threads);
  });
}
