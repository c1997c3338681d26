// SPDX-License-Identifier: Apache-2.0
// Factories of the stages and exact codecs; each stage is one file in this directory.
#pragma once

#include <memory>

#include "codec/stage.hpp"

namespace kvzip {

std::unique_ptr<Stage> make_window();
std::unique_ptr<Stage> make_outliers();
std::unique_ptr<Stage> make_quant();
std::unique_ptr<Stage> make_lowrank();
std::unique_ptr<Stage> make_norm();
std::unique_ptr<Stage> make_delta();
std::unique_ptr<Stage> make_rope();
std::unique_ptr<Stage> make_cast();
std::unique_ptr<Stage> make_rotate();
std::unique_ptr<Stage> make_codebook();
std::unique_ptr<Stage> make_uniform();
std::unique_ptr<Stage> make_klt();
std::unique_ptr<Stage> make_carry();
std::unique_ptr<Stage> make_adapt();
std::unique_ptr<Stage> make_bfp();
std::unique_ptr<Stage> make_nuq();
std::unique_ptr<Stage> make_tiers();
std::unique_ptr<Stage> make_bands();
std::unique_ptr<Stage> make_polar();
std::unique_ptr<Stage> make_slerp();
std::unique_ptr<Stage> make_runs();
std::unique_ptr<Stage> make_clusters();
std::unique_ptr<Stage> make_couple();
std::unique_ptr<Stage> make_sort();
std::unique_ptr<Stage> make_nested();
std::unique_ptr<Stage> make_predict();
std::unique_ptr<ExactCodec> make_planes();

}  // namespace kvzip
