// SPDX-License-Identifier: Apache-2.0
// System calls with their loops and errors, shared by the files of formats/file.hpp.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "formats/file.hpp"

namespace kvzip {

/// fail(io, "NAME: cannot ACTION: ...") with the text of errno.
[[noreturn]] void fail_errno(std::string_view name, std::string_view action);
/// open(2) of an input, which has no descriptor where it fails; of a named pipe see watch_waits().
FileDescriptor open_to_read(const std::string& path);
/// What is read here is no output's to replace, where keep_read_files() says so.
void note_read(int fd);
/// One read(2), repeated while interrupted; 0 at the end of the input.
std::size_t read_some(int fd, std::span<std::byte> out, std::string_view name);
void write_all(int fd, ByteView bytes, std::string_view name);
void write_all_at(int fd, std::uint64_t offset, ByteView bytes, std::string_view name);
/// Unless sync_outputs() says otherwise. Some file systems and special files cannot be flushed and say so; only real
/// failures count.
void flush_to_disk(int fd, const std::string& name);
/// Flushes to the disk, and fails for what the file system has not said yet of earlier writes. The descriptor stays.
void require_stored(int fd, const std::string& name);
/// A file in temporary_directory() that has no name: its space is given back when the last descriptor closes, however
/// the process ends.
FileDescriptor unnamed_temporary_file();

}  // namespace kvzip
