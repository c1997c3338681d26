// SPDX-License-Identifier: Apache-2.0
#include "src/cli/input_removal.hpp"

#include <system_error>

#include "kvzip/container.hpp"
#include "src/report/progress.hpp"

namespace kvzip::tool {

std::optional<Seen> seen(const std::string& path) {
  std::error_code error, ignored;
  if (!std::filesystem::is_regular_file(path, error)) return std::nullopt;
  const auto file = file_identity(path);
  Seen out{file.value_or(FileIdentity{}), std::filesystem::file_size(path, error),
           std::filesystem::last_write_time(path, ignored)};
  return file && !error && !ignored ? std::optional(out) : std::nullopt;
}

std::vector<Seen> inputs_to_remove(const std::vector<std::string>& in, const std::string& out) {
  std::vector<Seen> all;
  for (const std::string& path : in) {
    if (std::filesystem::is_directory(path)) throw UsageError("--rm takes files away, not folders");
    const std::optional<Seen> now = seen(path);
    if (path == "-" || is_stream_output(out) || !now) {
      throw UsageError("--rm: what comes from a pipe or goes into one stays as it is");
    }
    all.push_back(*now);
  }
  return all;
}

void remove_inputs(const std::vector<std::string>& in, const std::vector<Seen>& read, const std::string& out,
                   const Common& common) {
  ProgressLine progress("reading " + out, !common.quiet);
  const std::vector<std::string> damage = verify_kvz(out, common.threads, progress.callback());
  if (!damage.empty()) fail_in(out, ErrorCode::corrupt, "read again, it is damaged, so inputs stay: {}", damage[0]);
  for (std::size_t i = 0; i < in.size(); ++i) {
    std::error_code error;
    if (seen(in[i]) != read[i]) fail_in(in[i], ErrorCode::io, "it is not the file that was read any more, so it stays");
    if (!std::filesystem::remove(in[i], error)) fail_in(in[i], ErrorCode::io, "cannot remove it: {}", error.message());
  }
}

}  // namespace kvzip::tool
