// SPDX-License-Identifier: Apache-2.0
// The one exception type of the library. The library never prints and never exits.
#pragma once

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

class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}
  ErrorCode code() const noexcept { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }
  /// Puts "context: " before the message. Context is added at stage, chunk and file only.
  void add_context(std::string_view context) { message_ = std::string(context) + ": " + message_; }

 private:
  ErrorCode code_;
  std::string message_;
};

}  // namespace kvzip
