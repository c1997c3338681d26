// SPDX-License-Identifier: Apache-2.0
#include "formats/c_api/c_call.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

namespace kvzip::c {
namespace {

// In one place of its own for each thread, so that a message needs no memory.
thread_local std::array<char, 2048> last_message{};

int status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::corrupt:
      return KVZIP_CORRUPT;
    case ErrorCode::truncated:
      return KVZIP_TRUNCATED;
    case ErrorCode::unsupported:
      return KVZIP_UNSUPPORTED;
    case ErrorCode::invalid_argument:
      return KVZIP_INVALID;
    case ErrorCode::io:
      return KVZIP_IO;
    case ErrorCode::limit:
      return KVZIP_LIMIT;
  }
  return KVZIP_FAILED;
}

/// What settles it, in this interface's words.
std::string_view advice_of(Hint hint) {
  switch (hint) {
    case Hint::layout:
      return "kvzip_set_layout() settles it";
    case Hint::map:
      return "kvzip_add_map() settles it";
    case Hint::layout_or_map:
      return "kvzip_set_layout() or kvzip_add_map() settles it";
    case Hint::metadata:
      return "kvzip_set_metadata() can give it";
    case Hint::chunk_tokens:
      return "a preset with a smaller 'chunk' settles it";
    case Hint::overwrite:
      return "KVZIP_OVERWRITE replaces it";
    case Hint::follow:
    case Hint::mix:
    case Hint::alone:   // of commands that take several files
    case Hint::halves:  // of commands that change what tensors are
    case Hint::memory:  // of whoever limits the process
    case Hint::none:
      break;
  }
  return {};
}

}  // namespace

int note(int status, std::string_view message) noexcept {
  std::size_t size = std::min(message.size(), last_message.size() - 1);
  // Never ends within a character.
  if (size < message.size()) {
    while (size > 0 && (static_cast<unsigned char>(message[size]) & 0xc0) == 0x80) --size;
  }
  std::memcpy(last_message.data(), message.data(), size);
  last_message[size] = '\0';
  return status;
}

int note(const Error& error) noexcept {
  const int status = status_of(error.code());
  try {
    std::string text = error.what();
    const std::string_view advice = advice_of(error.hint());
    if (!advice.empty()) text.append("; ").append(advice);
    if (error.hint() == Hint::metadata && !error.hint_detail().empty()) text += ": " + error.hint_detail();
    return note(status, text);
  } catch (...) {
    return note(status, error.what());
  }
}

}  // namespace kvzip::c

const char* kvzip_error() {
  return kvzip::c::last_message.data();
}
