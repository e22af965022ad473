// SPDX-License-Identifier: Apache-2.0
//
// See log.h. A line is built in a buffer on the stack (4 KiB; of text what does not fit is cut, of JSON it is left out,
// and the line says so) and written by one write(2). Folding: the last FOLD_SLOTS kinds of warnings and errors are kept
// by a hash of event, sentence and fields, so that only what says the same is one kind; a kind seen less than
// FOLD_WINDOW ago is counted, not written, and the next line that is written for it carries `repeated=N`. One that
// makes room for another tells its count first. Infos and debug lines are never folded. A reader that does not read (a
// full pipe, a journal that hangs) holds nobody up: after WRITE_PATIENCE_MS a line is dropped and counted, the next
// ones at once, and how many they were is told as soon as there is room again.
#include "relay/base/log.h"

#include "relay/base/utf8.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_ROOM         4096 // at most PIPE_BUF, so that a pipe that has room takes it without blocking
#define LINE_END          80   // of JSON: repeated, left_out, and the end
#define WRITE_PATIENCE_MS 1000
#define FOLD_SLOTS        64
#define FOLD_WINDOW       DURATION_S(10)

static atomic_int level_now = LOG_LEVEL_INFO;
static enum log_format format_now = LOG_FORMAT_TEXT;

static struct {
    pthread_mutex_t lock;
    // under lock
    log_sink *sink;
    void *sink_context;
    const struct clock *clock; // NULL: the system's
    uint64_t dropped;          // lines since there was room for the last one
    struct fold {
        uint64_t key; // 0: free
        struct mono_time written;
        uint64_t folded;
        enum log_level level;
        const char *event;
    } folds[FOLD_SLOTS];
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct line {
    char text[LINE_ROOM];
    size_t length;
    bool cut;
};

// Leaves room for the last } of JSON and for the end of the line.
static void put_char(struct line *line, char c)
{
    if (line->length + 2 < sizeof(line->text)) {
        line->text[line->length++] = c;
    } else {
        line->cut = true;
    }
}

static void put_text(struct line *line, const char *text)
{
    for (; *text != '\0'; text++) {
        put_char(line, *text);
    }
}

// Text of servers and libraries, made fit for a line, a terminal, and JSON, which refuses bytes that are not UTF-8.
static void put_clean(struct line *line, const char *text, bool quoted)
{
    char printable[UTF8_PRINTABLE];
    for (size_t left = strlen(text), taken; left > 0; text += taken, left -= taken) {
        taken = utf8_printable(printable, text, left);
        if (quoted && (*text == '"' || *text == '\\')) {
            put_char(line, '\\');
        }
        put_text(line, printable);
    }
}

// As JSON has it; values of the text formats as well, where they need it.
static void put_quoted(struct line *line, const char *text)
{
    put_char(line, '"');
    put_clean(line, text, true);
    put_char(line, '"');
}

static bool needs_quotes(const char *text)
{
    char printable[UTF8_PRINTABLE];
    bool needs = text[0] == '\0' || strpbrk(text, " \"=\\") != NULL;
    for (size_t left = strlen(text), taken; left > 0 && !needs; text += taken, left -= taken) {
        taken = utf8_printable(printable, text, left);
        needs = memcmp(printable, text, taken) != 0;
    }
    return needs;
}

static void put_value(struct line *line, const struct log_field *field, bool json)
{
    char number[40];
    switch (field->kind) {
    case LOG_FIELD_TEXT: {
        const char *text = field->text == NULL ? "" : field->text;
        if (json || needs_quotes(text)) {
            put_quoted(line, text);
        } else {
            put_text(line, text);
        }
        return;
    }
    case LOG_FIELD_INTEGER:
    case LOG_FIELD_COUNT: snprintf(number, sizeof(number), "%lld", (long long)field->integer); break;
    case LOG_FIELD_REAL: // numbers of rows as well: their digits are told, not 1.23457e+06
        snprintf(number, sizeof(number), "%.*g", field->real < 1e5 ? 6 : 15, field->real);
        break;
    case LOG_FIELD_BOOLEAN: snprintf(number, sizeof(number), "%s", field->integer ? "true" : "false"); break;
    }
    put_text(line, number);
}

static const char *level_name(enum log_level level)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    return names[level];
}

// Nothing of a member that does not fit whole with what comes at the line's end: half a value would be no JSON.
static bool end_member(struct line *line, size_t before)
{
    bool fits = !line->cut && line->length + LINE_END < sizeof(line->text);
    if (!fits) {
        line->length = before;
        line->cut = false;
    }
    return fits;
}

static void put_count(struct line *line, const char *name, uint64_t count)
{
    char member[LINE_END / 2];
    snprintf(member, sizeof(member), ",\"%s\":%llu", name, (unsigned long long)count);
    put_text(line, member);
}

static void build_json(struct line *line, enum log_level level, const char *event, const char *sentence,
    const struct log_field *fields, uint64_t repeated)
{
    char now[WALL_TIME_TEXT];
    unsigned left_out = 0;
    wall_time_format(clock_wall(clock_system()), now);
    put_text(line, "{\"time\":\"");
    put_text(line, now);
    put_text(line, "\",\"level\":\"");
    put_text(line, level_name(level));
    put_text(line, "\",\"event\":");
    put_quoted(line, event);
    if (sentence != NULL) {
        size_t before = line->length;
        put_text(line, ",\"message\":");
        put_quoted(line, sentence);
        left_out += !end_member(line, before);
    }
    for (; fields->name != NULL; fields++) {
        size_t before = line->length;
        put_char(line, ',');
        put_quoted(line, fields->name);
        put_char(line, ':');
        put_value(line, fields, true);
        left_out += !end_member(line, before);
    }
    if (repeated > 0) {
        put_count(line, "repeated", repeated);
    }
    if (left_out > 0) {
        put_count(line, "left_out", left_out);
    }
    line->text[line->length++] = '}'; // put_char() leaves room for it
}

static void build_text(struct line *line, enum log_level level, const char *event, const char *sentence,
    const struct log_field *fields, uint64_t repeated)
{
    if (format_now == LOG_FORMAT_JOURNALD) {
        static const char *const priority[] = {"<7>", "<6>", "<4>", "<3>"};
        put_text(line, priority[level]);
    } else {
        char now[WALL_TIME_TEXT];
        wall_time_format(clock_wall(clock_system()), now);
        put_text(line, now);
        put_char(line, ' ');
    }
    put_text(line, level_name(level));
    put_char(line, ' ');
    put_text(line, event);
    if (sentence != NULL) {
        put_text(line, ": ");
        put_clean(line, sentence, false);
    }
    for (; fields->name != NULL; fields++) {
        put_char(line, ' ');
        put_text(line, fields->name);
        put_char(line, '=');
        put_value(line, fields, false);
    }
    if (repeated > 0) {
        char number[40];
        snprintf(number, sizeof(number), " repeated=%llu", (unsigned long long)repeated);
        put_text(line, number);
    }
    if (line->cut) {
        size_t kept = utf8_cut(line->text, line->length - 3);
        memcpy(line->text + kept, "...", 3);
        line->length = kept + 3;
    }
}

static void build(struct line *line, enum log_level level, const char *event, const char *sentence,
    const struct log_field *fields, uint64_t repeated)
{
    line->length = 0;
    line->cut = false;
    if (format_now == LOG_FORMAT_JSON) {
        build_json(line, level, event, sentence, fields, repeated);
    } else {
        build_text(line, level, event, sentence, fields, repeated);
    }
}

static bool has_room(int wait_ms)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    int ready;
    do {
        ready = poll(&out, 1, wait_ms);
    } while (ready < 0 && errno == EINTR);
    return ready != 0; // an error is write's to find
}

static void emit(enum log_level level, const char *event, const char *sentence, const struct log_field *fields,
    uint64_t repeated);

static void write_line(const struct line *line)
{
    if (state.dropped > 0 && has_room(0)) {
        uint64_t dropped = state.dropped;
        state.dropped = 0;
        emit(LOG_LEVEL_WARNING, "log.lines_dropped", "nobody had read the log for a while",
            (const struct log_field[]){LOG_INT("lines", dropped), {.name = NULL}}, 0);
    }
    if (!has_room(state.dropped > 0 ? 0 : WRITE_PATIENCE_MS)) {
        state.dropped++;
        return;
    }
    ssize_t written = write(STDERR_FILENO, line->text, line->length);
    (void)written; // nowhere left to complain
}

// Under the lock.
static void emit(enum log_level level, const char *event, const char *sentence, const struct log_field *fields,
    uint64_t repeated)
{
    struct line line;
    build(&line, level, event, sentence, fields, repeated);
    if (state.sink != NULL) {
        line.text[line.length] = '\0';
        state.sink(state.sink_context, level, line.text);
    } else {
        line.text[line.length++] = '\n';
        write_line(&line);
    }
}

static uint64_t add_bytes(uint64_t hash, const void *bytes, size_t length) // FNV-1a
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ at[i]) * 1099511628211u;
    }
    return hash;
}

// With the NUL, so that no two texts run into each other.
static uint64_t add_text(uint64_t hash, const char *text)
{
    return text == NULL ? add_bytes(hash, "\1", 1) : add_bytes(hash, text, strlen(text) + 1);
}

static uint64_t fold_key(const char *event, const char *sentence, const struct log_field *fields)
{
    uint64_t hash = add_text(add_text(14695981039346656037u, event), sentence);
    for (; fields->name != NULL; fields++) {
        switch (fields->kind) {
        case LOG_FIELD_TEXT: hash = add_text(hash, fields->text); break;
        case LOG_FIELD_INTEGER:
        case LOG_FIELD_BOOLEAN: hash = add_bytes(hash, &fields->integer, sizeof(fields->integer)); break;
        case LOG_FIELD_REAL: hash = add_bytes(hash, &fields->real, sizeof(fields->real)); break;
        case LOG_FIELD_COUNT: break;
        }
    }
    return hash == 0 ? 1 : hash;
}

// The slot of the kind, else a free one, else the one that was written longest ago.
static struct fold *find_fold(uint64_t key)
{
    struct fold *found = &state.folds[0];
    for (size_t i = 0; i < FOLD_SLOTS; i++) {
        struct fold *slot = &state.folds[i];
        if (slot->key == key) {
            return slot;
        }
        if (found->key != 0 && (slot->key == 0 || mono_before(slot->written, found->written))) {
            found = slot;
        }
    }
    return found;
}

// Under the lock. Returns whether the line is to be written; *repeated is what was folded since the last one.
static bool fold(enum log_level level, const char *event, const char *sentence, const struct log_field *fields,
    uint64_t *repeated)
{
    *repeated = 0;
    if (level < LOG_LEVEL_WARNING) {
        return true;
    }
    uint64_t key = fold_key(event, sentence, fields);
    struct mono_time now = clock_mono(state.clock == NULL ? clock_system() : state.clock);
    struct fold *slot = find_fold(key);
    bool known = slot->key == key;
    if (known && mono_since(now, slot->written).ns < FOLD_WINDOW.ns) {
        slot->folded++;
        return false;
    }
    if (known) {
        *repeated = slot->folded;
    } else if (slot->folded > 0) {
        emit(slot->level, slot->event, "the same again as it was told before",
            (const struct log_field[]){{.name = NULL}}, slot->folded);
    }
    *slot = (struct fold){.key = key, .written = now, .level = level, .event = event};
    return true;
}

void log_write(enum log_level level, const char *event, const char *sentence, const struct log_field *fields)
{
    uint64_t repeated;
    pthread_mutex_lock(&state.lock);
    if (fold(level, event, sentence, fields, &repeated)) {
        emit(level, event, sentence, fields, repeated);
    }
    pthread_mutex_unlock(&state.lock);
}

static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM"); // "device:inode" of the socket that systemd connected
    unsigned long long device;
    unsigned long long inode;
    struct stat status;
    return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &status) == 0 &&
        status.st_dev == device && status.st_ino == inode;
}

void log_init(enum log_level level, enum log_format format)
{
    log_set_level(level);
    if (format == LOG_FORMAT_AUTO) {
        format = stderr_is_journal() ? LOG_FORMAT_JOURNALD : isatty(STDERR_FILENO) ? LOG_FORMAT_TEXT : LOG_FORMAT_JSON;
    }
    format_now = format;
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&level_now, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&level_now, memory_order_relaxed);
}

void log_set_sink(log_sink *sink, void *context)
{
    pthread_mutex_lock(&state.lock);
    state.sink = sink;
    state.sink_context = context;
    pthread_mutex_unlock(&state.lock);
}

void log_set_clock(const struct clock *clock)
{
    pthread_mutex_lock(&state.lock);
    state.clock = clock;
    pthread_mutex_unlock(&state.lock);
}
