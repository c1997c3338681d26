// SPDX-License-Identifier: Apache-2.0
// A sweep made by hand: two dumps, families with several settings, an exact one, and names that a page, a table and a
// script must not take for their own.
#pragma once

#include <cmath>
#include <limits>
#include <string>

#include "src/sweep/sweep.hpp"

namespace kvzip::test {

inline tool::FidelitySummary made_up_errors(double nrmse, bool queries) {
  using namespace tool;
  FidelitySummary out;
  const double snr = nrmse > 0 ? -20 * std::log10(nrmse) : std::numeric_limits<double>::infinity();
  out.key = ValueFigures{4096, 0, 5 * nrmse, nrmse, snr, 1 - nrmse, 1 - nrmse / 4};
  out.value = ValueFigures{4096, 1, 3 * nrmse, 2 * nrmse, snr - 6, 1 - nrmse, 1 - nrmse / 2};
  if (queries) {
    out.attention = AttentionFigures{nrmse * 1.5, nrmse * nrmse, 1 - nrmse / 2, nrmse * 0.8, 1 - nrmse * nrmse};
    out.attention2 = AttentionFigures{nrmse * 1.6, 2 * nrmse * nrmse, 1 - nrmse, nrmse * 0.9, 1 - nrmse};
  }
  out.proxy = AttentionFigures{nrmse, nrmse * nrmse / 2, 1 - nrmse, nrmse * 0.7, 1 - nrmse};
  out.pair_nrmse = nrmse * 1.1;
  return out;
}

inline tool::SettingResult made_up_setting(std::string name, std::string family, double bits, double nrmse,
                                           bool queries) {
  using namespace tool;
  SettingResult s;
  s.name = std::move(name);
  s.family = std::move(family);
  s.kind = "preset";
  s.rules = "key[*] = quant:bits=4,pack\nvalue[*] = quant:bits=4,pack\n";
  s.command = "kvzip compress 'a.safetensors' --preset " + s.name;
  s.file_bytes = static_cast<std::uint64_t>(bits * 8192 * 4 / 8);
  s.bytes = {s.file_bytes - 260, 100, 0, 0, 20, 40, 100};
  s.encode_mbs = 812.5;
  s.decode_mbs = 1500;
  s.peak_bytes = 1234567;
  s.all = made_up_errors(nrmse, queries);
  for (std::uint32_t layer = 0; layer < 4; ++layer) {
    LayerResult one{
        layer, 4096, 4096, s.file_bytes / 8, s.file_bytes / 8, made_up_errors(nrmse * (1 + layer % 3), queries), {}};
    for (std::uint32_t head = 0; head < 2; ++head)
      one.heads.push_back(made_up_errors(nrmse * (1 + head * layer), queries));
    s.layers.push_back(std::move(one));
  }
  s.worst_layer = 2;
  s.chunks = {{0, 256, s.file_bytes / 2}, {256, 100, s.file_bytes / 4}};
  return s;
}

inline tool::Sweep made_up_sweep() {
  using namespace tool;
  Sweep sweep{"0.2.0", "2 of x \"processor\"", "kvzip sweep a.safetensors", {}};
  SweepDump dump;
  dump.path = "a<b onclick='x'>&\"`id`\".safetensors";
  dump.model = "some-model";
  dump.source_bytes = 65536;
  dump.values = 32768;
  dump.int8_bytes = 33000;
  dump.tokens = 356;
  dump.split = 300;
  dump.queries = 56;
  dump.queries2 = 8;
  dump.dtype = "F16";
  dump.queries_from = "the dump";
  dump.note = "positions <assumed>";
  const auto add = [&](const char* name, const char* family, double bits, double nrmse) {
    dump.settings.push_back(made_up_setting(name, family, bits, nrmse, true));
  };
  add("lossless", "lossless", 10.61, 0);
  add("zstd-19", "zstd", 14.2, 0);
  add("near-lossless", "near-lossless", 7.4, 0.0021);
  add("int8", "int", 8.07, 0.0055);
  add("int4", "int", 4.51, 0.0911);
  add("fp8", "fp8", 8.01, 0.0266);
  add("kivi-4", "kivi", 5.02, 0.0612);
  add("kivi-2", "kivi", 3.03, 0.301);
  add("gear-4", "gear", 6.03, 0.0401);
  add("gear-2", "gear", 3.71, 0.171);
  add("cachegen-1", "cachegen", 2.11, 0.342);
  add("cachegen-2", "cachegen", 2.61, 0.211);
  add("cachegen-3", "cachegen", 3.40, 0.121);
  add("kvtc-2", "kvtc", 1.62, 0.262);
  add("kvtc-3", "kvtc", 2.41, 0.141);
  add("kvtc-4", "kvtc", 3.38, 0.0721);
  add("turbo-2", "turboquant", 2.33, 0.344);
  add("turbo-3", "turboquant", 3.32, 0.184);
  add("turbo-4", "turboquant", 4.31, 0.0971);
  add("it's <script>boom()</script> | *", "", 5.6, 0.2);
  dump.settings[0].left_out = "nothing";
  dump.settings[13].left_out = "the basis, <profiled> offline";
  sweep.dumps.push_back(dump);
  SweepDump other;
  other.path = "b.safetensors";
  other.source_bytes = 65536;
  other.values = 32768;
  other.int8_bytes = 33000;
  other.tokens = other.split = 356;
  other.dtype = "BF16";
  other.settings = {made_up_setting("int4", "int", 4.5, 0.09, false),
                    made_up_setting("int8", "int", 8.1, 0.005, false)};
  sweep.dumps.push_back(other);
  return sweep;
}

}  // namespace kvzip::test
