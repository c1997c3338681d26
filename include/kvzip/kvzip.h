/* SPDX-License-Identifier: Apache-2.0
 * The C interface of kvzip, and what other languages are bound to: libkvzip.so. kvzip(3) is its manual.
 *
 * Functions that return an int give KVZIP_OK or the reason why not; kvzip_error() then says it in words. No exception
 * leaves the library, and a null pointer is an error, not a crash. A kvzip_dump is used by one thread at a time. */
#ifndef KVZIP_KVZIP_H
#define KVZIP_KVZIP_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define KVZIP_API __attribute__((visibility("default")))
#else
#define KVZIP_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum {
  KVZIP_OK = 0,
  KVZIP_CORRUPT = 1,     /* bytes that no writer makes */
  KVZIP_TRUNCATED = 2,   /* bytes that end too early */
  KVZIP_UNSUPPORTED = 3, /* a version, stage or type that this library does not have */
  KVZIP_INVALID = 4,     /* a request that cannot be served */
  KVZIP_IO = 5,          /* the operating system refused */
  KVZIP_LIMIT = 6,       /* larger than a documented limit */
  KVZIP_NO_MEMORY = 7,
  KVZIP_FAILED = 8 /* a defect of the library */
};

/* "0.2.0" */
KVZIP_API const char* kvzip_version(void);
/* What went wrong in this thread's last call that did not give KVZIP_OK; valid until its next one that does not. */
KVZIP_API const char* kvzip_error(void);
/* The names of the built-in presets, one after the other; NULL past the last. */
KVZIP_API const char* kvzip_preset_name(size_t index);

/* Named tensors: of a file of any format that kvzip reads, of bytes in memory, or of arrays of the caller. */
typedef struct kvzip_dump kvzip_dump;

/* The format is seen from the content. "-" is standard input. Quantised blocks of llama.cpp and quantised caches of MLX
 * are shown as the values that they stand for, also those in containers. A file that changes later is refused when
 * values are read. */
KVZIP_API int kvzip_open(const char* path, kvzip_dump** dump);
/* The bytes must stay as they are until kvzip_close(). */
KVZIP_API int kvzip_open_memory(const void* bytes, size_t size, kvzip_dump** dump);
/* A dump without tensors, for kvzip_add() and kvzip_set_metadata(). */
KVZIP_API int kvzip_new(kvzip_dump** dump);
/* NULL is fine. */
KVZIP_API void kvzip_close(kvzip_dump* dump);

/* Adds an array to a dump of kvzip_new(): row-major, little-endian, `size` bytes, which must stay until kvzip_close().
 * `dtype` is a name of safetensors. */
KVZIP_API int kvzip_add(kvzip_dump* dump, const char* name, const char* dtype, size_t rank, const uint64_t* shape,
                        const void* data, size_t size);
/* Metadata of a dump of kvzip_new(): "model", "rope_theta", ... A name that is there gets the new value. */
KVZIP_API int kvzip_set_metadata(kvzip_dump* dump, const char* name, const char* value);
/* Says that arrays of a dump of kvzip_new() are those of `source`: what is written of them is no more readable than the
 * files that it was opened from. */
KVZIP_API int kvzip_made_from(kvzip_dump* dump, const kvzip_dump* source);

/* What the axes of keys and values are, where name and shape leave it open: letters, outermost first ("BHTD"). */
KVZIP_API int kvzip_set_layout(kvzip_dump* dump, const char* axes);
/* What tensors of a name are: "cache.{L}.k=key:HTD". Rules go before what kvzip knows, the first that matches wins. */
KVZIP_API int kvzip_add_map(kvzip_dump* dump, const char* rule);
/* Threads of kvzip_read_all() and kvzip_compress(); 0, as at first: all. Results do not depend on it. */
KVZIP_API int kvzip_set_threads(kvzip_dump* dump, unsigned threads);

typedef struct kvzip_tensor {
  const char* name;  /* UTF-8 */
  const char* dtype; /* as safetensors names it: "F16", "BF16", "F32", "I64", ... */
  size_t rank;
  const uint64_t* shape;
  uint64_t bytes;
  const char* role; /* "key", "value", "key+value", "query" or "other" */
  const char* axes; /* a letter for each: B batch, L layer, 2 key and value, H head, T token, D or C channel; or "" */
  const char* why;  /* where the role comes from, in words */
  int64_t layer;    /* -1: not known, or an axis of the tensor */
  int token_axis;   /* the place of T; -1: none */
} kvzip_tensor;

KVZIP_API size_t kvzip_tensor_count(const kvzip_dump* dump);
/* Valid until the dump is closed or changed; NULL when there is no such tensor. Later versions may append fields. */
KVZIP_API const kvzip_tensor* kvzip_tensor_at(const kvzip_dump* dump, size_t index);
/* KVZIP_INVALID when there is none of this name. */
KVZIP_API int kvzip_find(const kvzip_dump* dump, const char* name, size_t* index);

/* The metadata of the file as a whole, as text; NULL past the last. Valid as a kvzip_tensor is. */
KVZIP_API const char* kvzip_metadata_name(const kvzip_dump* dump, size_t index);
KVZIP_API const char* kvzip_metadata_value(const kvzip_dump* dump, size_t index);

/* Fills `buffer` with a tensor. `size` is that of the buffer, at least that of the tensor. */
KVZIP_API int kvzip_read(kvzip_dump* dump, size_t tensor, void* buffer, size_t size);
/* The same of tokens [begin, end): the tensor with that many entries along its token axis. Of a container only the
 * chunks are decoded that hold them. */
KVZIP_API int kvzip_read_tokens(kvzip_dump* dump, size_t tensor, uint64_t begin, uint64_t end, void* buffer,
                                size_t size);
/* Fills a buffer for each tensor, of its size; a null pointer leaves the tensor out. Faster than one by one: decodes
 * each chunk once, on several threads. */
KVZIP_API int kvzip_read_all(kvzip_dump* dump, void* const* buffers, size_t count);

enum { KVZIP_OVERWRITE = 1 };

/* Writes a container. `preset` is the name of a built-in preset, or the text of one (kvzip-pipeline(7)), as
 * "kv = quant:bits=4,rans"; NULL is the default. "-" is standard output. After a failure there is no file. What is
 * written is readable by no more people than the files that the dump was opened from. Of what is shown as values a
 * preset that loses nothing keeps what is stored. */
KVZIP_API int kvzip_compress(kvzip_dump* dump, const char* preset, const char* path, int flags);
/* The same to memory, which kvzip_free() gives back. */
KVZIP_API int kvzip_compress_memory(kvzip_dump* dump, const char* preset, void** bytes, size_t* size);
/* The same in the order of tokens (since 0.2): all layers of the first `tokens` tokens, as whole chunks and 1024 for 0,
 * stand together, then those of the next, so that who wants a prefix reads the front of the file. It decodes to what
 * the order of layers does, but for stages that look at the end of a sequence and for tables. KVZIP_INVALID where keys,
 * values and queries have not all as many tokens, and for standard input. */
KVZIP_API int kvzip_compress_by_tokens(kvzip_dump* dump, const char* preset, uint64_t tokens, const char* path,
                                       int flags);
KVZIP_API int kvzip_compress_by_tokens_memory(kvzip_dump* dump, const char* preset, uint64_t tokens, void** bytes,
                                              size_t* size);
KVZIP_API void kvzip_free(void* bytes);

/* Whether the HDF5 filter takes settings of this text (since 0.2): kvz(5), THE HDF5 FILTER. It needs no plugin. */
KVZIP_API int kvzip_check_filter(const char* settings);

#ifdef __cplusplus
}
#endif

#endif
