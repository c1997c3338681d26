// SPDX-License-Identifier: Apache-2.0
// The one exception type of the library. The library never prints and never exits.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace kvzip {

enum class ErrorCode {
  corrupt,           // bytes that no writer produces: failed checksum, impossible value
  truncated,         // bytes that end too early
  unsupported,       // a version, stage or type that this build does not have
  invalid_argument,  // a request that cannot be served: bad spec, bad option, senseless pipeline
  io,                // the operating system refused
  limit,             // larger than a documented limit
};

/// What would settle an error. A program says it in its own words: the tool names its options.
enum class Hint : std::uint8_t {
  none,
  layout,         // say what the axes of tensors mean: RecogniseOptions::layout
  map,            // say the role of a tensor's name: RecogniseOptions::map
  layout_or_map,  // either
  metadata,       // give metadata that the dump lacks; the detail is KEY=VALUE
  chunk_tokens,   // fewer tokens a chunk: KvzOptions::chunk_tokens
  overwrite,      // replace the output that exists
  follow,         // say that the tokens of files follow each other
  mix,            // go on with what does not belong together
  alone,          // read the one input by itself
  memory,         // let it take more memory: there was too little
  halves,         // take keys and values that lie side by side apart: see `halves` in kvzip(1)
};

class Error : public std::exception {
 public:
  /// `message`: what is wrong, without the place.
  Error(ErrorCode code, std::string message, Hint hint = Hint::none, std::string hint_detail = {})
      : code_(code), message_(std::move(message)), hint_detail_(std::move(hint_detail)), hint_(hint) {
    compose();
  }

  ErrorCode code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }
  /// The file as its opener called it ("standard input" for a pipe); empty when no file has to do with it.
  const std::string& file() const noexcept { return file_; }
  /// The place inside, outermost first: "layers.3.key, tokens 256-511: stage 'klt'"; may be empty.
  const std::string& where() const noexcept { return where_; }
  Hint hint() const noexcept { return hint_; }
  const std::string& hint_detail() const noexcept { return hint_detail_; }
  /// "FILE: WHERE: MESSAGE", without what is empty. The hint is not in it.
  const char* what() const noexcept override { return what_.c_str(); }

  /// Puts a place around those that are known. Called where a stage, a chunk or a tensor is known.
  void add_where(std::string_view place) {
    where_ = where_.empty() ? std::string(place) : std::string(place) + ": " + where_;
    compose();
  }
  /// Called where a file is known. The first one stays: it is the one that was read or written.
  void add_file(std::string_view name) {
    if (!file_.empty()) return;
    file_ = name;
    compose();
  }
  /// The same failure seen from outside: what a stage refuses in a file is a corrupt file.
  void set_code(ErrorCode code) { code_ = code; }

 private:
  void compose() {
    what_.clear();
    for (const std::string* part : {&file_, &where_}) {
      if (!part->empty()) what_ += *part + ": ";
    }
    what_ += message_;
  }

  ErrorCode code_;
  std::string message_, file_, where_, hint_detail_, what_;
  Hint hint_;
};

}  // namespace kvzip
