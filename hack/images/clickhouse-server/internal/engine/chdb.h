// SPDX-License-Identifier: Apache-2.0

// The part of libchdb's C interface that the server uses, bound at run time, so that the
// program builds and its unit tests run where the 560 MB library is absent.
#ifndef ITECHSMART_CHDB_H
#define ITECHSMART_CHDB_H

#include <stddef.h>
#include <stdint.h>

typedef struct ch_result ch_result;
typedef struct ch_stream ch_stream;
typedef struct ch_connection ch_connection;

// ch_load binds the library. It returns NULL, or what went wrong, owned by the caller.
char *ch_load(const char *path);
const char *ch_version(void);

// ch_connect opens a connection; the first boots the engine on args' --path. NULL on failure.
ch_connection **ch_connect(int argc, char **argv);
void ch_close(ch_connection **conn);

// ch_query runs one statement to its end. The names and values of parameters lie one after
// another in names and values, each as long as its entry in the length arrays says.
ch_result *ch_query(ch_connection **conn, const char *query, size_t query_len, const char *format,
                    size_t format_len, const char *names, const size_t *name_lens,
                    const char *values, const size_t *value_lens, size_t params);
ch_result *ch_stream_query(ch_connection **conn, const char *query, size_t query_len,
                           const char *format, size_t format_len, const char *names,
                           const size_t *name_lens, const char *values, const size_t *value_lens,
                           size_t params);
ch_result *ch_stream_fetch(ch_connection **conn, ch_result *stream);
void ch_stream_cancel(ch_connection **conn, ch_result *stream);

ch_stream *ch_insert(ch_connection **conn, const char *query, size_t query_len, const char *format,
                     size_t format_len, const char *names, const size_t *name_lens,
                     const char *values, const size_t *value_lens, size_t params);
int ch_insert_append(ch_stream *stream, const void *data, size_t len);
ch_result *ch_insert_done(ch_stream *stream);
void ch_insert_cancel(ch_stream *stream);
const char *ch_insert_error(ch_stream *stream);
void ch_insert_free(ch_stream *stream);

const char *ch_result_error(ch_result *result);
const char *ch_result_data(ch_result *result);
size_t ch_result_len(ch_result *result);
// ch_result_stats fills rows and bytes read from storage, then rows and bytes written.
void ch_result_stats(ch_result *result, uint64_t out[4]);
void ch_result_free(ch_result *result);

// ch_classify says what a statement does: 0 reads, 1 changes a database, 2 changes something
// global, 3 controls the session or the engine, 4 does not parse, -1 could not be asked; and
// how many statements there are.
int ch_classify(ch_connection **conn, const char *query, size_t query_len, uint32_t *count);

#endif
