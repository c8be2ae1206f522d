// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "chdb.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef ch_result *(*query_fn)(ch_connection *, const char *, size_t, const char *, size_t,
                               const char *const *, const size_t *, const char *const *,
                               const size_t *, size_t);
typedef ch_stream *(*insert_fn)(ch_connection *, const char *, size_t, const char *, size_t,
                                const char *const *, const size_t *, const char *const *,
                                const size_t *, size_t);

struct analysis {
  uint32_t struct_size, statement_count, flags, query_class;
};

static struct {
  const char *(*version)(void);
  ch_connection **(*connect)(int, char **);
  void (*close)(ch_connection **);
  query_fn query, stream_query;
  ch_result *(*stream_fetch)(ch_connection *, ch_result *);
  void (*stream_cancel)(ch_connection *, ch_result *);
  insert_fn insert;
  int (*insert_append)(ch_stream *, const void *, size_t);
  ch_result *(*insert_done)(ch_stream *);
  void (*insert_cancel)(ch_stream *);
  const char *(*insert_error)(ch_stream *);
  void (*insert_free)(ch_stream *);
  const char *(*error)(ch_result *);
  char *(*data)(ch_result *);
  size_t (*len)(ch_result *);
  uint64_t (*rows_read)(ch_result *), (*bytes_read)(ch_result *);
  uint64_t (*rows_written)(ch_result *), (*bytes_written)(ch_result *);
  void (*free)(ch_result *);
  int (*classify)(ch_connection *, const char *, size_t, const char *, size_t, struct analysis *);
  void (*set_signal_handlers)(int);
} lib;

// The library sets signals to their defaults when it is told to leave them alone, and again on
// each connection; the Go runtime cannot do without its handlers, so they are put back.
struct saved_signals {
  struct sigaction actions[NSIG];
};

static void save_signals(struct saved_signals *saved) {
  for (int sig = 1; sig < NSIG; sig++)
    sigaction(sig, NULL, &saved->actions[sig]);
}

static void restore_signals(const struct saved_signals *saved) {
  for (int sig = 1; sig < NSIG; sig++) {
    if (sig == SIGKILL || sig == SIGSTOP)
      continue;
    sigaction(sig, &saved->actions[sig], NULL);
  }
}

char *ch_load(const char *path) {
  struct saved_signals saved;
  save_signals(&saved);
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  restore_signals(&saved);
  if (!handle)
    return strdup(dlerror());

  struct {
    const char *name;
    void *slot;
  } symbols[] = {
      {"chdb_version", &lib.version},
      {"chdb_connect", &lib.connect},
      {"chdb_close_conn", &lib.close},
      {"chdb_query_with_params_n", &lib.query},
      {"chdb_stream_query_with_params_n", &lib.stream_query},
      {"chdb_stream_fetch_result", &lib.stream_fetch},
      {"chdb_stream_cancel_query", &lib.stream_cancel},
      {"chdb_stream_insert_with_params_n", &lib.insert},
      {"chdb_stream_append", &lib.insert_append},
      {"chdb_stream_done", &lib.insert_done},
      {"chdb_stream_cancel_insert", &lib.insert_cancel},
      {"chdb_stream_insert_error", &lib.insert_error},
      {"chdb_destroy_insert_stream", &lib.insert_free},
      {"chdb_result_error", &lib.error},
      {"chdb_result_buffer", &lib.data},
      {"chdb_result_length", &lib.len},
      {"chdb_result_storage_rows_read", &lib.rows_read},
      {"chdb_result_storage_bytes_read", &lib.bytes_read},
      {"chdb_result_rows_written", &lib.rows_written},
      {"chdb_result_bytes_written", &lib.bytes_written},
      {"chdb_destroy_query_result", &lib.free},
      {"chdb_classify_query_n", &lib.classify},
      {"chdb_set_signal_handlers_enabled", &lib.set_signal_handlers},
  };
  for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
    void *symbol = dlsym(handle, symbols[i].name);
    if (!symbol) {
      char *message = NULL;
      if (asprintf(&message, "%s has no function %s", path, symbols[i].name) < 0)
        return strdup("out of memory");
      return message;
    }
    memcpy(symbols[i].slot, &symbol, sizeof symbol);
  }
  save_signals(&saved);
  lib.set_signal_handlers(0);
  restore_signals(&saved);
  return NULL;
}

const char *ch_version(void) { return lib.version(); }

ch_connection **ch_connect(int argc, char **argv) {
  struct saved_signals saved;
  save_signals(&saved);
  ch_connection **conn = lib.connect(argc, argv);
  restore_signals(&saved);
  return conn;
}

void ch_close(ch_connection **conn) { lib.close(conn); }

// split makes an array of pointers of strings that lie one after another.
static const char **split(const char *all, const size_t *lens, size_t count) {
  const char **parts = calloc(count ? count : 1, sizeof *parts);
  for (size_t i = 0; parts && i < count; i++) {
    parts[i] = all;
    all += lens[i];
  }
  return parts;
}

static ch_result *run(query_fn fn, ch_connection **conn, const char *query, size_t query_len,
                      const char *format, size_t format_len, const char *names,
                      const size_t *name_lens, const char *values, const size_t *value_lens,
                      size_t params) {
  const char **n = split(names, name_lens, params), **v = split(values, value_lens, params);
  ch_result *result = NULL;
  if (n && v)
    result = fn(*conn, query, query_len, format, format_len, n, name_lens, v, value_lens, params);
  free(n);
  free(v);
  return result;
}

ch_result *ch_query(ch_connection **conn, const char *query, size_t query_len, const char *format,
                    size_t format_len, const char *names, const size_t *name_lens,
                    const char *values, const size_t *value_lens, size_t params) {
  return run(lib.query, conn, query, query_len, format, format_len, names, name_lens, values,
             value_lens, params);
}

ch_result *ch_stream_query(ch_connection **conn, const char *query, size_t query_len,
                           const char *format, size_t format_len, const char *names,
                           const size_t *name_lens, const char *values, const size_t *value_lens,
                           size_t params) {
  return run(lib.stream_query, conn, query, query_len, format, format_len, names, name_lens,
             values, value_lens, params);
}

ch_result *ch_stream_fetch(ch_connection **conn, ch_result *stream) {
  return lib.stream_fetch(*conn, stream);
}

void ch_stream_cancel(ch_connection **conn, ch_result *stream) { lib.stream_cancel(*conn, stream); }

ch_stream *ch_insert(ch_connection **conn, const char *query, size_t query_len, const char *format,
                     size_t format_len, const char *names, const size_t *name_lens,
                     const char *values, const size_t *value_lens, size_t params) {
  const char **n = split(names, name_lens, params), **v = split(values, value_lens, params);
  ch_stream *stream = NULL;
  if (n && v)
    stream = lib.insert(*conn, query, query_len, format, format_len, n, name_lens, v, value_lens,
                        params);
  free(n);
  free(v);
  return stream;
}

int ch_insert_append(ch_stream *stream, const void *data, size_t len) {
  return lib.insert_append(stream, data, len);
}
ch_result *ch_insert_done(ch_stream *stream) { return lib.insert_done(stream); }
void ch_insert_cancel(ch_stream *stream) { lib.insert_cancel(stream); }
const char *ch_insert_error(ch_stream *stream) { return lib.insert_error(stream); }
void ch_insert_free(ch_stream *stream) { lib.insert_free(stream); }

const char *ch_result_error(ch_result *result) { return lib.error(result); }
const char *ch_result_data(ch_result *result) { return lib.data(result); }
size_t ch_result_len(ch_result *result) { return lib.len(result); }
void ch_result_stats(ch_result *result, uint64_t out[4]) {
  out[0] = lib.rows_read(result);
  out[1] = lib.bytes_read(result);
  out[2] = lib.rows_written(result);
  out[3] = lib.bytes_written(result);
}
void ch_result_free(ch_result *result) { lib.free(result); }

int ch_classify(ch_connection **conn, const char *query, size_t query_len, uint32_t *count) {
  struct analysis analysis = {.struct_size = sizeof analysis};
  if (lib.classify(*conn, query, query_len, NULL, 0, &analysis) != 0)
    return -1;
  *count = analysis.statement_count;
  return (int)analysis.query_class;
}
