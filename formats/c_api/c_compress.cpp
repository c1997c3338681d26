// SPDX-License-Identifier: Apache-2.0
// The C interface: containers from dumps.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codec/fail.hpp"
#include "codec/nearest.hpp"
#include "formats/c_api/c_call.hpp"
#include "formats/c_api/c_dump.hpp"
#include "formats/settle_axes.hpp"
#include "formats/text.hpp"
#include "kvzip/container.hpp"
#include "kvzip/rules.hpp"

namespace {

using namespace kvzip;
using c::call;
using c::given;

/// A name of a preset has no '=', a rule has one.
RuleSet rules_of(const char* preset) {
  if (preset == nullptr) return RuleSet::builtin(kDefaultPreset);
  const std::string_view text = preset;
  if (text.find('=') != text.npos) return RuleSet::parse(text, "preset");
  std::vector<std::string_view> known;
  for (const PresetText& builtin : builtin_presets()) known.push_back(builtin.name);
  if (std::ranges::find(known, text) == known.end()) {
    const std::string guess = did_you_mean(text, known);
    fail(ErrorCode::invalid_argument, "there is no preset {}{}", quoted(text),
         guess.empty() ? "; kvzip_preset_name() lists them, and the text of one works too" : guess);
  }
  return RuleSet::builtin(text);
}

/// What is compressed, and how.
struct Input {
  DumpReader& reader;
  Recognition roles;
  KvzOptions options;
};

/// What the tool does without options: where the rules ask for them, saliency from queries or by proxy, and tables;
/// where they lose nothing, what is stored in place of values.
Input input_of(kvzip_dump& dump, const char* preset, bool by_tokens = false) {
  RuleSet rules = rules_of(preset);
  DumpReader* stored = by_tokens || !rules.exact() ? nullptr : stored_blocks(dump.reader());
  Input in{stored != nullptr ? *stored : dump.reader(),
           stored != nullptr ? recognise_with_values(*stored, dump.options()) : dump.recognition(),
           {}};
  in.options.rules = std::move(rules);
  if (in.reader.traits().once) return in;
  if (weighs(in.options.rules)) {
    SaliencyOptions saliency;
    saliency.threads = dump.threads;
    in.options.saliency = std::make_shared<Saliency>(measure_saliency(in.reader, in.roles, saliency));
  }
  if (!by_tokens) fit_options(in.reader, in.roles, in.options, dump.threads);
  return in;
}

/// Grows a piece of memory that C can own.
class HeapSink final : public Sink {
 public:
  HeapSink(std::unique_ptr<std::byte, decltype(&std::free)>& bytes, std::size_t& size) : bytes_(bytes), size_(size) {}
  void append(ByteView more) override {
    if (more.size() > room_ - size_) {
      const std::size_t room = std::max(size_ + more.size(), 2 * room_);
      void* grown = std::realloc(bytes_.get(), room);
      if (grown == nullptr) throw std::bad_alloc();
      (void)bytes_.release();
      bytes_.reset(static_cast<std::byte*>(grown));
      room_ = room;
    }
    if (!more.empty()) std::memcpy(bytes_.get() + size_, more.data(), more.size());
    size_ += more.size();
  }

 private:
  std::unique_ptr<std::byte, decltype(&std::free)>& bytes_;
  std::size_t& size_;
  std::size_t room_ = 0;
};

void check_flags(int flags) {
  if ((flags & ~KVZIP_OVERWRITE) != 0) fail(ErrorCode::invalid_argument, "there are no flags {:#x}", flags);
}

/// Gives `bytes` and `size` what `write` appends to a sink; nothing where it fails.
template <typename Write>
void to_memory(void** bytes, size_t* size, const Write& write) {
  given(bytes, "bytes") = nullptr;
  given(size, "size") = 0;
  std::unique_ptr<std::byte, decltype(&std::free)> out(nullptr, &std::free);
  std::size_t written = 0;
  write(std::make_unique<HeapSink>(out, written));
  *bytes = out.release();
  *size = written;
}

void write(const Input& in, DumpWriter& writer, unsigned threads) {
  transcode(in.reader, writer, threads);
  writer.finish();
}

}  // namespace

int kvzip_compress(kvzip_dump* dump, const char* preset, const char* path, int flags) {
  return call([&] {
    given(dump, "dump");
    given(path, "path");
    check_flags(flags);
    const Input in = input_of(*dump, preset);
    const bool overwrite = (flags & KVZIP_OVERWRITE) != 0;
    write(in, *create_kvz_writer(path, in.reader.dump(), in.roles, in.options, overwrite), dump->threads);
  });
}

int kvzip_compress_memory(kvzip_dump* dump, const char* preset, void** bytes, size_t* size) {
  return call([&] {
    given(dump, "dump");
    to_memory(bytes, size, [&](std::unique_ptr<Sink> sink) {
      const Input in = input_of(*dump, preset);
      write(in, *create_kvz_writer(std::move(sink), in.reader.dump(), in.roles, in.options), dump->threads);
    });
  });
}

int kvzip_compress_by_tokens(kvzip_dump* dump, const char* preset, uint64_t tokens, const char* path, int flags) {
  return call([&] {
    given(dump, "dump");
    given(path, "path");
    check_flags(flags);
    const Input in = input_of(*dump, preset, true);
    compress_by_tokens(path, in.reader, in.roles, in.options, tokens, dump->threads, (flags & KVZIP_OVERWRITE) != 0);
  });
}

int kvzip_compress_by_tokens_memory(kvzip_dump* dump, const char* preset, uint64_t tokens, void** bytes, size_t* size) {
  return call([&] {
    given(dump, "dump");
    to_memory(bytes, size, [&](std::unique_ptr<Sink> sink) {
      const Input in = input_of(*dump, preset, true);
      compress_by_tokens(std::move(sink), in.reader, in.roles, in.options, tokens, dump->threads);
    });
  });
}

void kvzip_free(void* bytes) {
  std::free(bytes);
}
