// SPDX-License-Identifier: Apache-2.0
//
// Happy path: find the folder, take every name of the form NNN_name.up.sql or .down.sql, read it, sort by number.
// Failures: no folder at any of the places: all of them are named. A file that cannot be read, two of one number, a
// down without an up: the file is named; nothing is guessed. Other files (roles.sql, README) are left alone.
#include "relay/cli/migration_files.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_LIMIT (1024 * 1024)

static bool is_folder(const char *path)
{
    struct stat found;
    return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

// The folder of the running binary, "" if the system does not say.
static void binary_folder(char *folder, size_t room)
{
    ssize_t length = readlink("/proc/self/exe", folder, room - 1);
    folder[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash) {
        *slash = '\0';
    }
}

static bool find_folder(const char *given, const char *server, char **found, struct relay_error *error)
{
    char beside[PATH_MAX - 64], candidate[PATH_MAX], tried[2 * PATH_MAX] = "";
    const char *environment = getenv("OUTBOX_RELAY_SCHEMAS");
    binary_folder(beside, sizeof(beside));
    given = given ? given : environment && environment[0] != '\0' ? environment : NULL;
    const char *const places[][2] = {{beside, "/../share/outbox-relay/schemas"}, {beside, "/../schemas"},
        {RELAY_SCHEMA_DIR, ""}};
    size_t count = given ? 1 : sizeof(places) / sizeof(places[0]);
    for (size_t i = 0; i < count; i++) {
        snprintf(candidate, sizeof(candidate), "%s%s/%s", given ? given : places[i][0], given ? "" : places[i][1],
            server);
        if (is_folder(candidate)) {
            *found = realpath(candidate, NULL);
            return *found || error_no_memory(error, "finding the schema files");
        }
        size_t used = strlen(tried);
        snprintf(tried + used, sizeof(tried) - used, "%s%s", i > 0 ? ", " : "", candidate);
    }
    return error_set(error, RELAY_ERROR_USAGE,
        "no schema files: there is no folder %s; name the one that holds it with --schemas", tried);
}

static char *read_file(const char *folder, const char *name, struct relay_error *error)
{
    char path[PATH_MAX], *text = NULL;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    if (!file) {
        error_set(error, RELAY_ERROR_SYSTEM, "%s: %s", path, strerror(errno));
        return NULL;
    }
    text = malloc(FILE_LIMIT + 1);
    if (!text) {
        error_no_memory(error, "reading a schema file");
        goto file_open;
    }
    size_t length = fread(text, 1, FILE_LIMIT + 1, file);
    if (ferror(file) || length > FILE_LIMIT) {
        error_set(error, RELAY_ERROR_SYSTEM, "%s: %s", path, ferror(file) ? strerror(errno) : "larger than 1 MiB");
        free(text);
        text = NULL;
        goto file_open;
    }
    text[length] = '\0';
    char *fitting = realloc(text, length + 1);
    text = fitting ? fitting : text;
file_open:
    fclose(file);
    return text;
}

static bool in_transaction(const char *text)
{
    static const char mark[] = "-- relay:no-transaction";
    return strncmp(text, mark, sizeof(mark) - 1) != 0;
}

// "004_name.up.sql" -> 4, the length of "004_name", up. false: not a name of ours.
static bool parse_name(const char *file_name, int *number, size_t *stem, bool *up)
{
    if (!isdigit((unsigned char)file_name[0]) || !isdigit((unsigned char)file_name[1]) ||
        !isdigit((unsigned char)file_name[2]) || file_name[3] != '_') {
        return false;
    }
    *number = (int)strtol(file_name, NULL, 10);
    size_t length = strlen(file_name);
    const char *const ends[] = {".down.sql", ".up.sql"};
    for (size_t i = 0; i < 2; i++) {
        size_t end = strlen(ends[i]);
        if (length > end + 4 && strcmp(file_name + length - end, ends[i]) == 0) {
            *stem = length - end;
            *up = i == 1;
            return true;
        }
    }
    return false;
}

// The entry of that name, made if there is none.
static struct migration_file *entry(struct migration_files *files, const char *file_name, size_t stem, int number,
    struct relay_error *error)
{
    for (size_t i = 0; i < files->count; i++) {
        if (strlen(files->items[i].name) == stem && strncmp(files->items[i].name, file_name, stem) == 0) {
            return &files->items[i];
        }
    }
    struct migration_file *grown = realloc(files->items, (files->count + 1) * sizeof(*grown));
    if (!grown) {
        error_no_memory(error, "reading the schema files");
        return NULL;
    }
    files->items = grown;
    grown[files->count] = (struct migration_file){.number = number, .name = strndup(file_name, stem)};
    if (!grown[files->count].name) {
        error_no_memory(error, "reading the schema files");
        return NULL;
    }
    return &grown[files->count++];
}

static bool add_file(struct migration_files *files, const char *file_name, struct relay_error *error)
{
    int number;
    size_t stem;
    bool up;
    if (!parse_name(file_name, &number, &stem, &up)) {
        return true;
    }
    struct migration_file *file = entry(files, file_name, stem, number, error);
    char *text = file ? read_file(files->folder, file_name, error) : NULL;
    if (!text) {
        return false;
    }
    if (up) {
        file->up = text;
        file->up_in_transaction = in_transaction(text);
        if (!sha256_text(text, strlen(text), file->checksum)) {
            return error_set(error, RELAY_ERROR_SYSTEM, "%s: libcrypto gives no SHA-256", file_name);
        }
    } else {
        file->down = text;
        file->down_in_transaction = in_transaction(text);
    }
    return true;
}

static int by_number(const void *a, const void *b)
{
    const struct migration_file *left = a, *right = b;
    return left->number != right->number ? (left->number > right->number) - (left->number < right->number)
                                         : strcmp(left->name, right->name);
}

static bool check_list(struct migration_files *files, struct relay_error *error)
{
    if (files->count == 0) {
        return error_set(error, RELAY_ERROR_CONFIG, "%s: no file NNN_name.up.sql", files->folder);
    }
    qsort(files->items, files->count, sizeof(files->items[0]), by_number);
    for (size_t i = 0; i < files->count; i++) {
        if (!files->items[i].up) {
            return error_set(error, RELAY_ERROR_CONFIG, "%s/%s.down.sql has no up file", files->folder,
                files->items[i].name);
        }
        if (i > 0 && files->items[i].number == files->items[i - 1].number) {
            return error_set(error, RELAY_ERROR_CONFIG, "%s: %s and %s have the same number", files->folder,
                files->items[i - 1].name, files->items[i].name);
        }
    }
    return true;
}

bool migration_files_read(struct migration_files *files, const char *given, const char *server,
    struct relay_error *error)
{
    *files = (struct migration_files){0};
    if (!find_folder(given, server, &files->folder, error)) {
        return false;
    }
    DIR *folder = opendir(files->folder);
    if (!folder) {
        error_set(error, RELAY_ERROR_SYSTEM, "%s: %s", files->folder, strerror(errno));
        goto failed;
    }
    bool done = true;
    for (struct dirent *found = readdir(folder); done && found; found = readdir(folder)) {
        done = add_file(files, found->d_name, error);
    }
    closedir(folder);
    if (done && check_list(files, error)) {
        return true;
    }
failed:
    migration_files_finish(files);
    return false;
}

void migration_files_finish(struct migration_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        free(files->items[i].name);
        free(files->items[i].up);
        free(files->items[i].down);
    }
    free(files->items);
    free(files->folder);
    *files = (struct migration_files){0};
}

const struct migration_file *migration_files_find(const struct migration_files *files, const char *name)
{
    for (size_t i = 0; i < files->count; i++) {
        if (strcmp(files->items[i].name, name) == 0) {
            return &files->items[i];
        }
    }
    return NULL;
}
