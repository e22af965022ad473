// SPDX-License-Identifier: Apache-2.0
//
// One line for each event of interest: level, event name, a sentence, fields. Formats: text (a terminal), json
// (everything else), journald (text with the <priority> prefix that systemd reads). Lines go to stderr with one
// write(2), so lines of several threads do not mix. The level is the project's one global (see log_set_level).
// Values of fields and sentences are escaped; secrets must not be passed, payloads only at debug. A line that comes
// again (a warning or an error with the same event, sentence and fields, but for counts) within ten seconds is folded:
// counted, and told with the next line of its kind. Where nobody reads them, lines are dropped and counted after a
// second: log_event() never waits longer.
// Any thread may call everything here, except log_init, which comes before the other threads.
#ifndef RELAY_BASE_LOG_H
#define RELAY_BASE_LOG_H

#include "relay/base/clock.h"
#include "relay/base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_TEXT, LOG_FORMAT_JSON, LOG_FORMAT_JOURNALD };

// A field of a line. Made by the macros below; strings are read during the call only. A name has one type in all
// events, and is none that each line has by itself (time, level, event, message, repeated, left_out): Elasticsearch
// refuses both.
struct log_field {
    const char *name; // NULL ends the list
    enum { LOG_FIELD_TEXT, LOG_FIELD_INTEGER, LOG_FIELD_REAL, LOG_FIELD_BOOLEAN, LOG_FIELD_COUNT } kind;
    const char *text;
    int64_t integer;
    double real;
};
#define LOG_TEXT(n, v) ((struct log_field){.name = (n), .kind = LOG_FIELD_TEXT, .text = (v)})
#define LOG_INT(n, v)  ((struct log_field){.name = (n), .kind = LOG_FIELD_INTEGER, .integer = (int64_t)(v)})
#define LOG_REAL(n, v) ((struct log_field){.name = (n), .kind = LOG_FIELD_REAL, .real = (v)})
#define LOG_BOOL(n, v) ((struct log_field){.name = (n), .kind = LOG_FIELD_BOOLEAN, .integer = (v)})
// A number that grows with each attempt: lines that differ in it only say the same.
#define LOG_COUNT(n, v) ((struct log_field){.name = (n), .kind = LOG_FIELD_COUNT, .integer = (int64_t)(v)})
#define LOG_ERROR(e)                                                                                                   \
    LOG_TEXT("error", (e)->text), LOG_TEXT("error_code", error_code_name((e)->code)),                                  \
        LOG_TEXT("error_class", error_class_name((e)->class))

// AUTO: journald when JOURNAL_STREAM names stderr, text on a terminal, else json.
void log_init(enum log_level level, enum log_format format);
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

// log_event(LOG_LEVEL_INFO, "publish.term_started", "owns the outbox", LOG_TEXT("outbox", name), LOG_INT("term", n));
// event: "room.what_happened", static. sentence: for people, may be NULL.
#define log_event(level, event, sentence, ...)                                                                         \
    do {                                                                                                               \
        if (log_enabled(level)) {                                                                                      \
            log_write((level), (event), (sentence),                                                                    \
                (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){.name = NULL}});                                 \
        }                                                                                                              \
    } while (0)
void log_write(enum log_level level, const char *event, const char *sentence, const struct log_field *fields);

// For tests: lines go to this function instead of stderr (NULL: back to stderr). Called under the log's lock.
typedef void log_sink(void *context, enum log_level level, const char *line);
void log_set_sink(log_sink *sink, void *context);
// For tests: what time it is for the folding (NULL: the system's clock again).
void log_set_clock(const struct clock *clock);

#endif
