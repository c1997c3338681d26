/* SPDX-License-Identifier: Apache-2.0
 * Arrays in memory to a container, and a few tokens of it back: arrays OUT.kvz */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvzip/kvzip.h"

enum { kHeads = 2, kTokens = 96, kDim = 16, kValues = kHeads * kTokens * kDim };

static void check(int status, const char* what) {
  if (status == KVZIP_OK) return;
  fprintf(stderr, "arrays: %s: %s\n", what, kvzip_error());
  exit(1);
}

static void write_container(const char* path, const float* key, const float* value) {
  const uint64_t shape[] = {kHeads, kTokens, kDim};
  kvzip_dump* dump = NULL;
  check(kvzip_new(&dump), "new");
  check(kvzip_add(dump, "layers.0.key", "F32", 3, shape, key, kValues * sizeof *key), "add");
  check(kvzip_add(dump, "layers.0.value", "F32", 3, shape, value, kValues * sizeof *value), "add");
  check(kvzip_set_layout(dump, "HTD"), "layout");
  check(kvzip_compress(dump, "kv = quant:bits=8:axis=token,rans", path, KVZIP_OVERWRITE), "compress");
  kvzip_close(dump);
}

static double largest_error(const char* path, const float* value) {
  enum { kBegin = 40, kEnd = 50 };
  float part[kHeads * (kEnd - kBegin) * kDim];
  double largest = 0;
  kvzip_dump* dump = NULL;
  size_t tensor = 0, h, i;
  check(kvzip_open(path, &dump), "open");
  check(kvzip_find(dump, "layers.0.value", &tensor), "find");
  if (strcmp(kvzip_tensor_at(dump, tensor)->role, "value") != 0) check(KVZIP_FAILED, "role");
  check(kvzip_read_tokens(dump, tensor, kBegin, kEnd, part, sizeof part), "read");
  for (h = 0; h < kHeads; ++h) {
    const float *decoded = part + h * (kEnd - kBegin) * kDim, *original = value + (h * kTokens + kBegin) * kDim;
    for (i = 0; i < (kEnd - kBegin) * kDim; ++i) {
      const double error = fabs((double)decoded[i] - (double)original[i]);
      if (error > largest) largest = error;
    }
  }
  kvzip_close(dump);
  return largest;
}

int main(int argc, char** argv) {
  static float key[kValues], value[kValues];
  kvzip_dump* none = NULL;
  double largest;
  int i;
  if (argc != 2) return 2;
  for (i = 0; i < kValues; ++i) key[i] = (float)(i % 37) / 37, value[i] = (float)(i % 101) / 101;
  write_container(argv[1], key, value);
  largest = largest_error(argv[1], value);
  printf("kvzip %s, largest error %g\n", kvzip_version(), largest);
  if (kvzip_open("/nowhere", &none) != KVZIP_IO || none != NULL) return 1;
  return largest > 0 && largest < 1.0 / 255 ? 0 : 1;
}
