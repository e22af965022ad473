// SPDX-License-Identifier: Apache-2.0
//
// See sql_split.h. One walk over the text; each kind of quote or comment is skipped as a whole by a function of its
// own.
#include "relay/cli/sql_split.h"

#include <ctype.h>
#include <string.h>

void sql_split_start(struct sql_splitter *splitter, enum sql_dialect dialect, const char *text)
{
    *splitter = (struct sql_splitter){.dialect = dialect, .at = text, .line = 1};
}

static void step(struct sql_splitter *splitter, size_t bytes)
{
    for (; bytes > 0; bytes--) {
        splitter->line += *splitter->at == '\n';
        splitter->at++;
    }
}

static bool starts(const struct sql_splitter *splitter, const char *words)
{
    return strncmp(splitter->at, words, strlen(words)) == 0;
}

static bool endless(struct relay_error *error, const char *what, int line)
{
    return error_set(error, RELAY_ERROR_CONFIG, "line %d: %s begins here and never ends", line, what);
}

// A doubled quote is a quote; a backslash, where it counts, takes the next byte with it.
static bool skip_quoted(struct sql_splitter *splitter, bool backslash, struct relay_error *error)
{
    char quote = *splitter->at;
    int begin = splitter->line;
    step(splitter, 1);
    while (*splitter->at != '\0') {
        if (backslash && *splitter->at == '\\' && splitter->at[1] != '\0') {
            step(splitter, 2);
        } else if (*splitter->at != quote) {
            step(splitter, 1);
        } else if (splitter->at[1] == quote) {
            step(splitter, 2);
        } else {
            step(splitter, 1);
            return true;
        }
    }
    return endless(error, "a quote", begin);
}

// The length of "$tag$" at this place, 0 if there is none. A tag does not begin with a digit ($1 is a parameter).
static size_t dollar_tag(const char *at)
{
    size_t length = 1;
    if (isdigit((unsigned char)at[1])) {
        return 0;
    }
    while (isalnum((unsigned char)at[length]) || at[length] == '_' || (unsigned char)at[length] >= 0x80) {
        length++;
    }
    return at[length] == '$' ? length + 1 : 0;
}

static bool skip_dollar_quoted(struct sql_splitter *splitter, size_t tag_length, struct relay_error *error)
{
    const char *tag = splitter->at;
    int begin = splitter->line;
    step(splitter, tag_length);
    while (*splitter->at != '\0') {
        if (*splitter->at == '$' && strncmp(splitter->at, tag, tag_length) == 0) {
            step(splitter, tag_length);
            return true;
        }
        step(splitter, 1);
    }
    return endless(error, "a dollar quote", begin);
}

static void skip_line(struct sql_splitter *splitter)
{
    step(splitter, strcspn(splitter->at, "\n"));
}

static bool skip_block_comment(struct sql_splitter *splitter, struct relay_error *error)
{
    int begin = splitter->line, depth = 0;
    while (*splitter->at != '\0') {
        if (starts(splitter, "/*") && (depth == 0 || splitter->dialect == SQL_POSTGRES)) {
            depth++;
            step(splitter, 2);
        } else if (starts(splitter, "*/")) {
            step(splitter, 2);
            if (--depth == 0) {
                return true;
            }
        } else {
            step(splitter, 1);
        }
    }
    return endless(error, "a comment", begin);
}

static bool at_comment(const struct sql_splitter *splitter)
{
    return starts(splitter, "--") || starts(splitter, "/*") ||
        (splitter->dialect == SQL_CLICKHOUSE && (starts(splitter, "# ") || starts(splitter, "#!")));
}

static bool skip_comment(struct sql_splitter *splitter, struct relay_error *error)
{
    if (starts(splitter, "/*")) {
        return skip_block_comment(splitter, error);
    }
    skip_line(splitter);
    return true;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

// Skips a name or keyword; E'...' comes out as a string with backslashes.
static bool skip_word(struct sql_splitter *splitter, struct relay_error *error)
{
    const char *begin = splitter->at;
    while (is_word(*splitter->at)) {
        step(splitter, 1);
    }
    bool escape = splitter->dialect == SQL_POSTGRES && splitter->at - begin == 1 && (*begin == 'e' || *begin == 'E');
    return !escape || *splitter->at != '\'' || skip_quoted(splitter, true, error);
}

// One token, comment or byte further.
static bool advance(struct sql_splitter *splitter, struct relay_error *error)
{
    char c = *splitter->at;
    if (at_comment(splitter)) {
        return skip_comment(splitter, error);
    }
    if (c == '\'' || c == '"' || (c == '`' && splitter->dialect == SQL_CLICKHOUSE)) {
        return skip_quoted(splitter, splitter->dialect == SQL_CLICKHOUSE, error);
    }
    size_t tag = c == '$' ? dollar_tag(splitter->at) : 0;
    if (tag > 0) {
        return skip_dollar_quoted(splitter, tag, error);
    }
    if (is_word(c)) {
        return skip_word(splitter, error);
    }
    step(splitter, 1);
    return true;
}

// To the first word of the next statement.
static bool skip_blank(struct sql_splitter *splitter, struct relay_error *error)
{
    for (;;) {
        if (at_comment(splitter)) {
            if (!skip_comment(splitter, error)) {
                return false;
            }
        } else if (isspace((unsigned char)*splitter->at) || *splitter->at == ';') {
            step(splitter, 1);
        } else {
            return *splitter->at != '\0';
        }
    }
}

bool sql_split_next(struct sql_splitter *splitter, struct sql_statement *statement, struct relay_error *error)
{
    error_clear(error);
    if (!skip_blank(splitter, error)) {
        return false;
    }
    *statement = (struct sql_statement){.at = splitter->at, .line = splitter->line};
    while (*splitter->at != '\0' && *splitter->at != ';') {
        if (!advance(splitter, error)) {
            return false;
        }
    }
    statement->length = (size_t)(splitter->at - statement->at);
    while (isspace((unsigned char)statement->at[statement->length - 1])) {
        statement->length--;
    }
    return true;
}

bool sql_has_word(enum sql_dialect dialect, const struct sql_statement *statement, const char *word)
{
    struct sql_splitter splitter = {.dialect = dialect, .at = statement->at};
    struct relay_error ignored; // what is quoted in a statement has an end
    const char *end = statement->at + statement->length;
    for (const char *begin = splitter.at; begin < end && advance(&splitter, &ignored); begin = splitter.at) {
        size_t length = strlen(word);
        if ((size_t)(splitter.at - begin) == length && strncasecmp(begin, word, length) == 0) {
            return true;
        }
    }
    return false;
}
