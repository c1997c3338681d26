// SPDX-License-Identifier: Apache-2.0
#include "src/measure/saliency_source.hpp"

#include <fmt/format.h>

#include <utility>

#include "codec/fail.hpp"

namespace kvzip::tool {

SaliencySource::SaliencySource(DumpReader& dump, Recognition recognition, std::string choice, std::string queries,
                               RecogniseOptions recognise, unsigned threads, Progress progress)
    : dump_(dump),
      recognition_(std::move(recognition)),
      choice_(std::move(choice)),
      queries_(std::move(queries)),
      recognise_(std::move(recognise)),
      threads_(threads),
      progress_(std::move(progress)) {}

std::shared_ptr<const Saliency> SaliencySource::get() {
  if (choice_ != "none" && !std::exchange(tried_, true)) measure();
  return saliency_;
}

void SaliencySource::measure() {
  if (dump_.traits().once) {
    if (choice_ == "queries") {
      fail(ErrorCode::invalid_argument, "saliency reads a container several times: give it as a file, not from a pipe");
    }
    said_ = "saliency is not known: the input comes from a pipe";
    return;
  }
  SaliencyOptions options;
  options.threads = threads_;
  options.recognise = recognise_;
  std::unique_ptr<DumpReader> other;
  if (!queries_.empty() && choice_ != "proxy") {
    other = in_file(queries_, [&] { return open_reader(queries_); });
    options.queries = other.get();
    options.queries_name = queries_;
  }
  if (choice_ == "proxy") options.source = SaliencyOptions::Source::proxy;
  if (choice_ == "queries") options.source = SaliencyOptions::Source::queries;
  options.progress = progress_;
  saliency_ = std::make_shared<Saliency>(measure_saliency(dump_, recognition_, options));
  said_ = saliency_->from_queries
              ? fmt::format("saliency of tokens from the queries of {}", queries_.empty() ? "the dump" : queries_)
              : "saliency of tokens by proxy";
}

}  // namespace kvzip::tool
