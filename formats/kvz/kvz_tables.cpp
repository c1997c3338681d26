// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_tables.hpp"

#include <algorithm>
#include <filesystem>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_fit.hpp"
#include "formats/kvz/kvz_repeats.hpp"
#include "formats/parallel.hpp"

namespace kvzip {
namespace {

bool is_hash(std::string_view text) {
  return text.size() == 16 &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_name(std::string_view text) {
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' ||
           c == '-';
  };
  return !text.empty() && text.size() <= limits::kTableName && std::all_of(text.begin(), text.end(), plain) &&
         !is_hash(text);
}

/// Parts of a group that hold tokens, evenly spread, of kFitValues values or one part.
std::vector<Pipeline::SampleTile> sample_tiles(DumpReader& reader, const Plan& plan, const PlanGroup& group) {
  const Dump& dump = reader.dump();
  const TileShape largest = plan.shape(dump, plan.part(dump, group.first_part));
  const std::uint64_t values = std::max<std::uint64_t>(1, std::uint64_t{largest.rows} * largest.cols);
  const std::uint64_t used = std::min(group.context.used_tokens, group.rows);
  const std::uint64_t parts = std::clamp<std::uint64_t>((used - 1) / largest.rows + 1, 1, group.parts);
  const std::uint64_t count = std::clamp<std::uint64_t>(limits::kFitValues / values, 1, parts);
  std::vector<Pipeline::SampleTile> tiles;
  for (std::uint64_t i = 0; i < count; ++i) {
    Part part = plan.part(dump, group.first_part + i * parts / count);
    for (const Slice& slice : part.slices) {
      Bytes& data = part.data.emplace_back(slice_bytes(dump, slice));
      reader.read(slice, data);
    }
    tiles.push_back({plan.shape(dump, part), gather_tile(plan, dump, part)});
  }
  return tiles;
}

}  // namespace

std::string Table::hash_text() const {
  return fmt::format("{:016x}", hash);
}

std::string_view Table::type_name() const {
  switch (type) {
    case TableType::klt:
      return "klt";
    case TableType::repeats:
      return "repeats";
  }
  return "unknown";
}

void Tables::add(std::string name, TableType type, Bytes bytes) {
  if (!is_name(name)) {
    fail(ErrorCode::invalid_argument,
         "a table cannot be called '{}': 1 to {} letters, digits, '.', '_' and '-' that do not read as a hash", name,
         limits::kTableName);
  }
  if (find(name) != nullptr) fail(ErrorCode::invalid_argument, "two tables are called {}", name);
  if (!limits::room_for_table(tables_.size(), bytes_, bytes.size())) {
    fail(ErrorCode::limit, "the table {} is too long, or there are too many", name);
  }
  bytes_ += bytes.size();
  const std::uint64_t hash = hash64(bytes);
  tables_.push_back(std::make_shared<const Table>(Table{std::move(name), type, std::move(bytes), hash}));
  by_reference_.emplace(tables_.back()->name, tables_.back());
  by_reference_.emplace(tables_.back()->hash_text(), tables_.back());  // of equal tables the first
}

std::shared_ptr<const Table> Tables::find(std::string_view reference) const {
  const auto found = by_reference_.find(reference);
  return found == by_reference_.end() ? nullptr : found->second;
}

Bytes table_payload(const Table& table) {
  ByteWriter out;
  out.put(static_cast<std::uint16_t>(table.type));
  out.put(static_cast<std::uint16_t>(table.name.size()));
  out.put_bytes(std::as_bytes(std::span(table.name)));
  out.put(table.hash);
  out.put_bytes(table.bytes);
  return std::move(out.bytes());
}

std::uint64_t free_of(std::uint64_t before) {
  return limits::kFreeTables - std::min(before, limits::kFreeTables);
}

void take_table(const Record& record, Tables& tables) {
  if (!record.sound()) fail(ErrorCode::corrupt, "a table's checksum does not match");
  const Bytes payload = unpack_description(record.header, record.payload, free_of(tables.bytes()));
  ByteReader in(payload);
  const auto type = in.get<std::uint16_t>();
  const ByteView name = in.take(in.get<std::uint16_t>());
  const auto hash = in.get<std::uint64_t>();
  const ByteView bytes = in.take(in.left());
  const std::string text(reinterpret_cast<const char*>(name.data()), name.size());
  if (!is_name(text)) fail(ErrorCode::corrupt, "a table with a damaged name");
  if (type != static_cast<std::uint16_t>(TableType::klt) && type != static_cast<std::uint16_t>(TableType::repeats)) {
    fail(ErrorCode::unsupported, "the table {} is of the unknown type {}: a newer kvzip is needed", text, type);
  }
  if (hash64(bytes) != hash) fail(ErrorCode::corrupt, "the table {} does not have the hash that it says", text);
  if (tables.find(text) != nullptr) fail(ErrorCode::corrupt, "two tables are called {}", text);
  tables.add(text, TableType{type}, Bytes(bytes.begin(), bytes.end()));
}

std::string fitted_tables_name(std::size_t group) {
  return fmt::format("group{}", group);
}

void use_tables_to_write(Pipeline& pipeline, std::size_t group, const Tables& own, const Tables& beside) {
  const auto find = [&](std::string_view reference) -> Pipeline::FoundTable {
    if (auto table = own.find(reference)) return {table, table->name};
    if (auto table = beside.find(reference)) return {table, table->hash_text()};
    return {};
  };
  pipeline.use_tables(find, fitted_tables_name(group));
  for (const std::string& reference : pipeline.lacking_tables()) {
    if (!reference.empty()) {
      fail(ErrorCode::invalid_argument, "the table {} of '{}' is not in the tables given", reference, pipeline.text());
    }
  }
}

void use_tables_to_read(Plan& plan, const Tables& tables) {
  const auto find = [&](std::string_view reference) -> Pipeline::FoundTable {
    return {tables.find(reference), std::string(reference)};
  };
  for (Pipeline& pipeline : plan.pipelines) pipeline.use_tables(find, {});
}

Tables tables_beside(const std::string& path) {
  const std::string file = path + "d";
  std::error_code none;
  if (!std::filesystem::is_regular_file(file, none)) return {};
  return read_tables(file);
}

Tables fit_tables(DumpReader& reader, const Recognition& recognition, const KvzOptions& options, unsigned threads,
                  const Progress& progress) {
  const Dump& dump = reader.dump();
  const Plan plan = make_plan(dump, recognition, options.rules, options.chunk_tokens, nullptr, options.used_tokens);
  std::vector<std::size_t> wanting;
  bool repeats = false;
  for (std::size_t g = 0; g < plan.groups.size(); ++g) {
    const auto lacking = plan.pipelines[plan.groups[g].pipeline].lacking_tables();
    if (plan.groups[g].frames != 0 && std::find(lacking.begin(), lacking.end(), kFittedTable) != lacking.end()) {
      wanting.push_back(g);
    }
    repeats = repeats || std::find(lacking.begin(), lacking.end(), kDumpTable) != lacking.end();
  }
  Tables tables;
  if (Bytes table = repeats ? find_repeats(reader, recognition, threads) : Bytes(); !table.empty()) {
    tables.add(std::string(kRepeatsTable), TableType::repeats, std::move(table));
  }
  constexpr std::size_t kTogether = 8;  // groups in memory: reading is serial, fitting is not
  for (std::size_t first = 0; first < wanting.size(); first += kTogether) {
    const std::size_t count = std::min(kTogether, wanting.size() - first);
    std::vector<std::vector<Pipeline::SampleTile>> samples;
    for (std::size_t i = 0; i < count; ++i)
      samples.push_back(sample_tiles(reader, plan, plan.groups[wanting[first + i]]));
    std::vector<std::vector<Table>> fitted(count);
    parallel_for(count, threads, [&](std::size_t i) {
      const std::size_t g = wanting[first + i];
      const PlanGroup& group = plan.groups[g];
      fitted[i] = plan.pipelines[group.pipeline].fit_tables(group.context, samples[i], fitted_tables_name(g));
    });
    for (std::vector<Table>& of_group : fitted) {
      for (Table& t : of_group) tables.add(std::move(t.name), t.type, std::move(t.bytes));
    }
    if (progress) progress(first + count, wanting.size());
  }
  return tables;
}

// A file of tables: prelude, table records, end record.
void write_tables(const std::string& path, const Tables& tables, bool overwrite) {
  OutputFile out(path, overwrite, OutputFile::Access::sequential);
  out.append(make_prelude({1, 0}, FileKind::tables));
  std::uint32_t sequence = 0;
  ByteWriter hashes;
  const auto append = [&](RecordType type, std::uint16_t flags, ByteView payload, std::uint64_t decoded) {
    out.append(make_record_header({static_cast<std::uint16_t>(type), flags, payload.size(), decoded, sequence++}));
    out.append(payload);
    ByteWriter tail;
    tail.put(hash64(payload));
    out.append(tail.view());
    hashes.put_bytes(tail.view());
  };
  std::uint64_t before = 0;
  for (const auto& table : tables.all()) {
    const Bytes payload = table_payload(*table);
    const Packed packed = pack_description(payload, free_of(before));
    before += table->bytes.size();
    append(RecordType::table, packed.flags, packed.stored, payload.size());
  }
  ByteWriter end;
  end.put(std::uint64_t{sequence} + 1);
  end.put(std::uint64_t{0});
  end.put(hash64(hashes.view()));
  append(RecordType::end, 0, end.view(), end.size());
  out.finish();
}

Tables read_tables(const std::string& path) {
  return in_file(path, [&] {
    RecordFile records{kvz_input(path, FileKind::tables)};
    Prelude prelude;
    records.read_at(0, prelude);
    check_prelude(prelude, FileKind::tables);
    Tables tables;
    ByteWriter hashes;
    std::uint64_t at = kPreludeBytes;
    for (std::uint32_t sequence = 0;; ++sequence) {
      const Record record = records.record_at(at, sequence);
      at += kRecordOverhead + record.header.stored;
      if (record.is(RecordType::table)) {
        take_table(record, tables);
      } else if (!record.sound()) {
        fail(ErrorCode::corrupt, "a record's checksum does not match");
      } else if (record.is(RecordType::end)) {
        ByteReader in(record.payload);
        const auto count = in.get<std::uint64_t>(), frames = in.get<std::uint64_t>(), hash = in.get<std::uint64_t>();
        if (count != std::uint64_t{sequence} + 1 || frames != 0 || hash != hash64(hashes.view())) {
          fail(ErrorCode::corrupt, "the whole-file checksum does not match");
        }
        if (at != records.size()) fail(ErrorCode::corrupt, "something follows the end of the tables");
        return tables;
      } else if (record.header.type < kAncillary) {
        fail(ErrorCode::corrupt, "a record of type {} in a file of tables", record.header.type);
      }
      hashes.put(record.hash);
    }
  });
}

}  // namespace kvzip
