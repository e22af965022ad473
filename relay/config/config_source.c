// SPDX-License-Identifier: Apache-2.0
//
// See config_source.h. The file: each entry is added under the section in front of it; one of a section that nobody
// knows is skipped, since the section itself was reported. A key that comes twice is reported with the line of the
// first. The environment is read afterwards (config_environment.c finds the keys) and replaces.
#include "relay/config/config_source.h"

#include "relay/base/clock.h"
#include "relay/config/config_checks.h"
#include "relay/config/config_value.h"
#include "relay/config/ini_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET_FILE_MAX (64 * 1024)
#define READ_LIMIT      DURATION_S(5) // for a pipe whose writer is slow
#define NAME_MAX_LENGTH 48

const char *config_section_label(struct config_memory *memory, enum config_section_id section, const char *name)
{
    const char *kind = config_sections[section].name;
    return name[0] == '\0' ? kind : config_memory_format(memory, "%s %s", kind, name);
}

void config_source_mistake(const struct config_source *source, const struct config_setting *setting, const char *format,
    ...)
{
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    if (setting->variable != NULL) {
        config_report_variable(source->report, setting->variable, "%s", what);
        return;
    }
    const char *key = setting->in_file ? config_memory_format(source->memory, "%s_file", setting->key) : setting->key;
    config_report_line(source->report, setting->line,
        config_section_label(source->memory, setting->section, setting->name), key, "%s", what);
}

const struct config_setting *config_source_find(const struct config_source *source, enum config_section_id section,
    const char *name, const char *key)
{
    for (size_t i = 0; i < source->setting_count; i++) {
        const struct config_setting *setting = &source->settings[i];
        if (setting->section == section && strcmp(setting->key, key) == 0 && strcmp(setting->name, name) == 0) {
            return setting;
        }
    }
    return NULL;
}

// NULL: not written.
static const struct config_heading *find_heading(const struct config_source *source, enum config_section_id section,
    const char *name)
{
    for (size_t i = 0; i < source->heading_count; i++) {
        if (source->headings[i].section == section && strcmp(source->headings[i].name, name) == 0) {
            return &source->headings[i];
        }
    }
    return NULL;
}

const struct config_key *config_source_key(enum config_section_id section, const char *key)
{
    const struct config_key *found = config_key_find(section, key);
    return found == NULL && section == CONFIG_SECTION_OUTBOX ? config_key_find(CONFIG_SECTION_PUBLISH, key) : found;
}

// Makes room for one more of `count` members; NULL when there is no memory.
static void *grow(struct config_memory *memory, void *members, size_t count, size_t *room, size_t size)
{
    if (count < *room) {
        return members;
    }
    size_t wanted = *room == 0 ? 32 : *room * 2;
    void *grown = config_memory_take(memory, wanted * size);
    if (grown != NULL) {
        if (count > 0) {
            memcpy(grown, members, count * size);
        }
        *room = wanted;
    }
    return grown;
}

static const struct config_heading *add_heading(struct config_source *source, struct config_heading heading)
{
    struct config_heading *grown = grow(source->memory, source->headings, source->heading_count, &source->heading_room,
        sizeof(heading));
    if (grown == NULL) {
        return NULL;
    }
    source->headings = grown;
    source->headings[source->heading_count] = heading;
    return &source->headings[source->heading_count++];
}

// Another setting of the same key: two of the same origin are a mistake, one of the environment replaces one of the
// file.
static void meet(const struct config_source *source, struct config_setting *old, const struct config_setting *new)
{
    if (new->variable != NULL && old->variable == NULL) {
        *old = *new;
    } else if (new->in_file != old->in_file) {
        config_source_mistake(source, new, "%s and %s_file are both set; expected one of them", new->key, new->key);
    } else if (new->variable == NULL) {
        config_source_mistake(source, new, "is set twice, first in line %d; expected once", old->line);
    } else {
        config_source_mistake(source, new, "sets the same key as %s", old->variable);
    }
}

static void add_setting(struct config_source *source, struct config_setting setting)
{
    const struct config_setting *old = config_source_find(source, setting.section, setting.name, setting.key);
    if (old != NULL) {
        meet(source, &source->settings[old - source->settings], &setting);
        return;
    }
    struct config_setting *grown = grow(source->memory, source->settings, source->setting_count, &source->setting_room,
        sizeof(setting));
    if (grown != NULL) {
        source->settings = grown;
        source->settings[source->setting_count++] = setting;
    }
}

void config_source_add(struct config_source *source, struct config_setting setting)
{
    if (find_heading(source, setting.section, setting.name) == NULL) {
        add_heading(source,
            (struct config_heading){.section = setting.section,
                .name = setting.name,
                .line = setting.line,
                .variable = setting.variable});
    }
    add_setting(source, setting);
}

// Names of sections

static const char *section_name(const void *context, size_t i)
{
    (void)context;
    return config_sections[i].name;
}

static bool is_name(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length <= NAME_MAX_LENGTH &&
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == length;
}

// [kind] or [kind NAME]. false: reported.
static bool read_heading(struct config_source *source, int line, char *text, struct config_heading *heading)
{
    size_t length = strcspn(text, " \t");
    const char *name = text + length + strspn(text + length, " \t");
    heading->section = config_section_find(text, length);
    heading->name = name;
    heading->line = line;
    struct config_report *report = source->report;
    if (heading->section == CONFIG_SECTIONS) {
        text[length] = '\0';
        const char *near = config_nearest(text, section_name, NULL, CONFIG_SECTIONS);
        config_report_line(report, line, text, NULL, "unknown section%s%s%s", near == NULL ? "" : "; did you mean [",
            near == NULL ? "; see docs/configuration.md for the known ones" : near, near == NULL ? "" : "]?");
        return false;
    }
    const struct config_section *section = &config_sections[heading->section];
    if (name[0] != '\0' && !section->named) {
        config_report_line(report, line, text, NULL, "this section takes no name; expected [%s]", section->name);
        return false;
    }
    if (name[0] != '\0' && !is_name(name)) {
        config_report_line(report, line, text, NULL, "expected a name of at most %d letters, digits, _, - and points",
            NAME_MAX_LENGTH);
        return false;
    }
    if (heading->section == CONFIG_SECTION_ROUTE && name[0] == '\0') {
        config_report_line(report, line, text, NULL, "a route needs a name; expected [route NAME]");
        return false;
    }
    if (heading->section == CONFIG_SECTION_OUTBOX && strcmp(name, "default") == 0) {
        heading->name = "";
    }
    return true;
}

static void on_section(void *context, int line, char *text)
{
    struct config_source *source = context;
    struct config_heading heading = {0};
    source->now = NULL;
    source->skipping = true;
    if (!read_heading(source, line, text, &heading)) {
        return;
    }
    const struct config_heading *old = find_heading(source, heading.section, heading.name);
    if (old != NULL) {
        config_report_line(source->report, line, text, NULL,
            "this section is there twice, first in line %d; put the keys of both into one", old->line);
    }
    source->now = old != NULL ? old : add_heading(source, heading);
    source->skipping = source->now == NULL;
}

// Names of keys

struct candidates {
    const struct config_source *source;
    enum config_section_id section;
};

static const char *candidate(const void *context, size_t i)
{
    const struct candidates *candidates = context;
    if (candidates->section == CONFIG_SECTION_KAFKA) {
        return kafka_properties_name(candidates->source->kafka, i);
    }
    enum config_section_id section = config_keys[i].section;
    bool fits = section == candidates->section ||
        (section == CONFIG_SECTION_PUBLISH && candidates->section == CONFIG_SECTION_OUTBOX);
    return fits ? config_keys[i].name : NULL;
}

// The section, other than `section`, that has such a key; CONFIG_SECTIONS: none.
static enum config_section_id other_home(const char *key)
{
    for (size_t i = 0; i < config_key_count; i++) {
        if (strcmp(config_keys[i].name, key) == 0) {
            return config_keys[i].section;
        }
    }
    return CONFIG_SECTIONS;
}

static void report_unknown(const struct config_source *source, const struct config_setting *setting)
{
    struct candidates candidates = {.source = source, .section = setting->section};
    size_t count = setting->section == CONFIG_SECTION_KAFKA ? kafka_properties_count(source->kafka) : config_key_count;
    const char *near = config_nearest(setting->key, candidate, &candidates, count);
    enum config_section_id home = other_home(setting->key);
    if (near != NULL) {
        config_source_mistake(source, setting, "unknown %s; did you mean %s?",
            setting->section == CONFIG_SECTION_KAFKA ? "property of librdkafka" : "key", near);
    } else if (home != CONFIG_SECTIONS) {
        config_source_mistake(source, setting, "unknown key here; it belongs to [%s]", config_sections[home].name);
    } else {
        config_source_mistake(source, setting, "unknown %s; see docs/configuration.md for the known ones",
            setting->section == CONFIG_SECTION_KAFKA ? "property of librdkafka" : "key");
    }
}

bool config_source_is_secret(const struct config_source *source, enum config_section_id section, const char *key)
{
    if (section == CONFIG_SECTION_KAFKA) {
        return kafka_property_is_secret(key) && kafka_properties_kind(source->kafka, key) != '\0';
    }
    const struct config_key *known = config_source_key(section, key);
    return known != NULL && (known->flags & CONFIG_SECRET) != 0;
}

// Sets key and in_file. false: unknown.
static bool find_key(const struct config_source *source, struct config_setting *setting, const char *key)
{
    setting->key = key;
    if (setting->section == CONFIG_SECTION_KAFKA ? kafka_properties_kind(source->kafka, key) != '\0'
                                                 : config_source_key(setting->section, key) != NULL) {
        return true;
    }
    size_t length = strlen(key);
    if (length > 5 && strcmp(key + length - 5, "_file") == 0) {
        const char *base = config_memory_copy(source->memory, key, length - 5);
        if (config_source_is_secret(source, setting->section, base)) {
            setting->key = base;
            setting->in_file = true;
            return true;
        }
    }
    return setting->section == CONFIG_SECTION_ROUTE; // a column
}

static void on_entry(void *context, int line, char *key, char *value)
{
    struct config_source *source = context;
    if (source->skipping) {
        return;
    }
    if (source->now == NULL) {
        config_report_line(source->report, line, NULL, NULL, "%.80s stands before any [section]", key);
        return;
    }
    struct config_setting setting = {.section = source->now->section,
        .name = source->now->name,
        .value = value,
        .line = line};
    if (find_key(source, &setting, key)) {
        add_setting(source, setting);
    } else {
        report_unknown(source, &setting);
    }
}

static void on_mistake(void *context, int line, const char *what)
{
    struct config_source *source = context;
    config_report_line(source->report, line, NULL, NULL, "%s", what);
}

void config_source_read_text(struct config_source *source, char *text, size_t length)
{
    struct ini_handler handler = {.context = source, .section = on_section, .entry = on_entry, .mistake = on_mistake};
    ini_read(text, length, &handler);
}

// Files

// Waits for the writer of a pipe. false: the deadline has passed.
static bool has_more(int descriptor, struct mono_time deadline)
{
    struct pollfd fd = {.fd = descriptor, .events = POLLIN};
    int ready;
    do {
        ready = poll(&fd, 1, duration_to_poll_ms(mono_left(clock_mono(clock_system()), deadline)));
    } while (ready < 0 && errno == EINTR);
    if (ready == 0) {
        errno = ETIMEDOUT;
    }
    return ready > 0;
}

static char *read_descriptor(struct config_memory *memory, int descriptor, size_t most, size_t *length,
    struct relay_error *error)
{
    struct stat status;
    if (fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode)) {
        error_set(error, RELAY_ERROR_CONFIG, "is a directory; expected a file");
        return NULL;
    }
    // The size is not asked for: it is 0 for pipes and for what some mounts hold.
    size_t room = 4096, used = 0;
    struct mono_time deadline = mono_add(clock_mono(clock_system()), READ_LIMIT);
    char *text = config_memory_take(memory, room);
    while (text != NULL) {
        ssize_t got = read(descriptor, text + used, room - 1 - used);
        if (got < 0 && (errno == EINTR || (errno == EAGAIN && has_more(descriptor, deadline)))) {
            continue;
        }
        if (got < 0) {
            error_set(error, RELAY_ERROR_SYSTEM, "cannot be read: %s", strerror(errno));
            return NULL;
        }
        used += (size_t)got;
        if (got == 0) {
            *length = used;
            return text;
        }
        if (used > most) {
            error_set(error, RELAY_ERROR_CONFIG, "is larger than %zu KiB; is it the right file?", most / 1024);
            return NULL;
        }
        if (used == room - 1) {
            char *grown = config_memory_take(memory, room * 4);
            if (grown != NULL) {
                memcpy(grown, text, used);
            }
            text = grown;
            room *= 4;
        }
    }
    error_no_memory(error, "reading a file");
    return NULL;
}

// Whole content of a small file, NUL-terminated, in memory, with which it is wiped. NULL: error SYSTEM, CONFIG (a
// directory, beyond `most` bytes) or NO_MEMORY; the text goes behind the file's name.
static char *read_whole(struct config_memory *memory, const char *path, size_t most, size_t *length,
    struct relay_error *error)
{
    // Without O_NONBLOCK a named pipe that nobody writes to would hang the start for ever.
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (descriptor < 0) {
        error_set_class(error, RELAY_ERROR_SYSTEM, RELAY_CLASS_OPERATOR, errno, "cannot be opened: %s",
            strerror(errno));
        return NULL;
    }
    char *text = read_descriptor(memory, descriptor, most, length, error);
    close(descriptor);
    return text;
}

bool config_source_read_file(struct config_source *source, bool may_miss)
{
    struct relay_error error = {0};
    size_t length;
    char *text = read_whole(source->memory, source->report->path, CONFIG_FILE_MAX, &length, &error);
    if (text == NULL) {
        if (!may_miss || error.detail != ENOENT) {
            config_report_line(source->report, 0, NULL, NULL, "%s", error.text);
        }
        return false;
    }
    struct stat status;
    source->file_is_open = stat(source->report->path, &status) == 0 && (status.st_mode & S_IROTH) != 0;
    config_source_read_text(source, text, length);
    return true;
}

size_t config_cut_line_end(char *text, size_t length)
{
    if (length > 0 && text[length - 1] == '\n') {
        text[--length] = '\0';
        if (length > 0 && text[length - 1] == '\r') {
            text[--length] = '\0';
        }
    }
    return length;
}

static void read_secret(struct config_source *source, struct config_setting *setting)
{
    struct relay_error error = {0};
    size_t length = 0;
    char *text = NULL;
    if (setting->value[0] == '\0') {
        config_source_mistake(source, setting, "expected the path of a file");
    } else {
        text = read_whole(source->memory, setting->value, SECRET_FILE_MAX, &length, &error);
        if (text == NULL) {
            config_source_mistake(source, setting, "the file %.200s %s", setting->value, error.text);
        } else if (memchr(text, '\0', length) != NULL) {
            config_source_mistake(source, setting, "the file %.200s holds a NUL byte; expected text", setting->value);
            text = NULL;
        }
    }
    if (text != NULL) {
        if (config_cut_line_end(text, length) == 0) {
            config_source_mistake(source, setting, "the file %.200s is empty", setting->value);
        }
    }
    setting->value = text == NULL ? "" : text;
}

// A dsn of the environment, be it in a file, brings its own password: that of the configuration file, which belongs to
// the dsn there, gives way.
static void drop_other_password(struct config_source *source)
{
    const struct config_setting *dsn = config_source_find(source, CONFIG_SECTION_POSTGRES, "", "dsn");
    const struct config_setting *password = config_source_find(source, CONFIG_SECTION_POSTGRES, "", "password");
    if (dsn == NULL || dsn->variable == NULL || password == NULL || password->variable != NULL ||
        !config_dsn_has_password(dsn->value)) {
        return;
    }
    size_t at = (size_t)(password - source->settings);
    source->setting_count--;
    memmove(&source->settings[at], &source->settings[at + 1], (source->setting_count - at) * sizeof(*password));
}

static void read_secrets(struct config_source *source, bool of_dsn)
{
    for (size_t i = 0; i < source->setting_count; i++) {
        struct config_setting *setting = &source->settings[i];
        bool dsn = setting->section == CONFIG_SECTION_POSTGRES && strcmp(setting->key, "dsn") == 0;
        if (setting->in_file && dsn == of_dsn) {
            read_secret(source, setting);
        }
    }
}

void config_source_read_secrets(struct config_source *source)
{
    read_secrets(source, true);
    drop_other_password(source);
    read_secrets(source, false);
}
