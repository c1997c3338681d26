// SPDX-License-Identifier: Apache-2.0
// Tables as records of a container, and those that pipelines ask to have fitted.
#pragma once

#include <string>

#include "formats/kvz/kvz_plan.hpp"
#include "formats/kvz/kvz_source.hpp"
#include "kvzip/container.hpp"
#include "kvzip/tables.hpp"

namespace kvzip {

/// The payload of a table record, and the record back into `tables`. Hostile: checksum, sizes, type and hash are
/// checked, and what is there under that name already is refused.
Bytes table_payload(const Table& table);
/// What the next table may unfold to whatever is stored, after tables of so many bytes (limits::kFreeTables).
std::uint64_t free_of(std::uint64_t before);
void take_table(const Record& record, Tables& tables);

/// The name of the tables that are fitted to a group.
std::string fitted_tables_name(std::size_t group);

/// Gives the pipeline of a group that is to be written its tables: fitted and named ones from `own`, which the file
/// will hold, others from `beside`, which it will name by their hashes. Fails with invalid_argument where one is
/// missing.
void use_tables_to_write(Pipeline& pipeline, std::size_t group, const Tables& own, const Tables& beside);
/// Gives the pipelines of a container that is read theirs, where they are among these.
void use_tables_to_read(Plan& plan, const Tables& tables);

/// The tables of the file that stands beside a container and is called like it with a "d" at its end; none when there
/// is no such file.
Tables tables_beside(const std::string& path);

}  // namespace kvzip
