// SPDX-License-Identifier: Apache-2.0
//
// simdjson's first stage finds the structure of the whole document and checks UTF-8 and quotes. Then we walk every
// value in order, once, along the tree of wanted places: values on the tree are noted, all others only checked (numbers
// by grammar, literals by text, strings by unescaping). On-demand parsing alone would not look at what nobody asks for,
// and broken JSON would pass as long as the break is elsewhere. Exceptions are compiled out; every failure is a code.
#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>

extern "C" {
#include "relay/json/json_reader.h"
#include "relay/json/json_walk.h"
}

#include <cstdlib>
#include <cstring>
#include <new>

using simdjson::error_code;
namespace ondemand = simdjson::ondemand;

struct json_reader {
    ondemand::parser parser;
    char *scratch = nullptr;
    size_t scratch_room = 0;
    bool too_deep = false;
    const json_paths *paths = nullptr;
    json_value *values = nullptr;
    const char *end = nullptr;   // of the document
    ondemand::document document; // of the read under way
};

namespace
{

struct text_range {
    const char *at;
    size_t length;
};

text_range trimmed(const char *at, size_t length)
{
    while (length > 0 &&
        (at[length - 1] == ' ' || at[length - 1] == '\n' || at[length - 1] == '\t' || at[length - 1] == '\r')) {
        length--;
    }
    return {at, length};
}

bool at_end(ondemand::document &document)
{
    const char *next;
    return document.current_location().get(next) == simdjson::OUT_OF_BOUNDS;
}

void forget_below(json_reader *reader, size_t node)
{
    const json_path_node &at = reader->paths->nodes[node];
    if (at.value != JSON_PATH_NONE) {
        reader->values[at.value] = json_value{};
    }
    for (size_t i = at.first_child; i != JSON_PATH_NONE; i = reader->paths->nodes[i].next_sibling) {
        forget_below(reader, i);
    }
}

size_t member_node(const json_reader *reader, size_t node, std::string_view name)
{
    if (node == JSON_PATH_NONE) {
        return JSON_PATH_NONE;
    }
    const json_path_node *nodes = reader->paths->nodes;
    for (size_t i = nodes[node].first_child; i != JSON_PATH_NONE; i = nodes[i].next_sibling) {
        if (nodes[i].name && nodes[i].name_length == name.size() &&
            memcmp(nodes[i].name, name.data(), name.size()) == 0) {
            return i;
        }
    }
    return JSON_PATH_NONE;
}

size_t element_node(const json_reader *reader, size_t node, uint64_t element)
{
    if (node == JSON_PATH_NONE) {
        return JSON_PATH_NONE;
    }
    const json_path_node *nodes = reader->paths->nodes;
    for (size_t i = nodes[node].first_child; i != JSON_PATH_NONE; i = nodes[i].next_sibling) {
        if (!nodes[i].name && nodes[i].element == element) {
            return i;
        }
    }
    return JSON_PATH_NONE;
}

void note(json_reader *reader, size_t node, json_kind kind, text_range raw, text_range text)
{
    if (node != JSON_PATH_NONE && reader->paths->nodes[node].value != JSON_PATH_NONE) {
        reader->values[reader->paths->nodes[node].value] = json_value{kind, raw.at, raw.length, text.at, text.length};
    }
}

// A number or literal by its text.
bool scalar_kind(text_range raw, json_kind &kind)
{
    auto is = [&](const char *word) { return raw.length == strlen(word) && memcmp(raw.at, word, raw.length) == 0; };
    kind = is("true") ? JSON_KIND_TRUE : is("false") ? JSON_KIND_FALSE : is("null") ? JSON_KIND_NULL : JSON_KIND_NUMBER;
    return kind != JSON_KIND_NUMBER || json_is_number(raw.at, raw.length);
}

error_code walk_object(json_reader *reader, ondemand::object object, size_t node, int depth);
error_code walk_array(json_reader *reader, ondemand::array array, size_t node, int depth);

// The text of the container that began at `start` and has just been walked: it ends before the next token.
text_range container_text(json_reader *reader, const char *start)
{
    const char *next;
    if (reader->document.current_location().get(next) != simdjson::SUCCESS) {
        next = reader->end;
    }
    return trimmed(start, (size_t)(next - start));
}

error_code walk_value(json_reader *reader, ondemand::value value, size_t node, int depth)
{
    std::string_view token = value.raw_json_token();
    text_range raw = trimmed(token.data(), token.size());
    bool wanted = node != JSON_PATH_NONE;
    if (raw.at[0] == '{' || raw.at[0] == '[') {
        if (depth >= JSON_MAX_DEPTH) {
            reader->too_deep = true;
            return simdjson::DEPTH_ERROR;
        }
        error_code code;
        if (raw.at[0] == '{') {
            ondemand::object object;
            SIMDJSON_TRY(value.get_object().get(object));
            code = walk_object(reader, object, node, depth + 1);
        } else {
            ondemand::array array;
            SIMDJSON_TRY(value.get_array().get(array));
            code = walk_array(reader, array, node, depth + 1);
        }
        if (code == simdjson::SUCCESS && wanted && reader->paths->nodes[node].value != JSON_PATH_NONE) {
            text_range whole = container_text(reader, raw.at);
            note(reader, node, raw.at[0] == '{' ? JSON_KIND_OBJECT : JSON_KIND_ARRAY, whole, whole);
        }
        return code;
    }
    if (raw.at[0] == '"') {
        std::string_view text;
        SIMDJSON_TRY(value.get_string().get(text));
        if (wanted) {
            note(reader, node, JSON_KIND_STRING, raw, {text.data(), text.size()});
        }
        return simdjson::SUCCESS;
    }
    json_kind kind;
    if (!scalar_kind(raw, kind)) {
        return simdjson::TAPE_ERROR;
    }
    if (wanted) {
        note(reader, node, kind, raw, raw);
    }
    return simdjson::SUCCESS; // not consumed: the iterator passes over it
}

error_code walk_object(json_reader *reader, ondemand::object object, size_t node, int depth)
{
    for (auto item : object) {
        ondemand::field field;
        std::string_view name;
        SIMDJSON_TRY(std::move(item).get(field));
        SIMDJSON_TRY(field.unescaped_key().get(name));
        size_t child = member_node(reader, node, name);
        if (child != JSON_PATH_NONE) {
            forget_below(reader, child);
        }
        SIMDJSON_TRY(walk_value(reader, field.value(), child, depth));
    }
    return simdjson::SUCCESS;
}

error_code walk_array(json_reader *reader, ondemand::array array, size_t node, int depth)
{
    uint64_t index = 0;
    for (auto item : array) {
        ondemand::value value;
        SIMDJSON_TRY(std::move(item).get(value));
        SIMDJSON_TRY(walk_value(reader, value, element_node(reader, node, index++), depth));
    }
    return simdjson::SUCCESS;
}

// A document that is neither object nor array.
error_code read_scalar(json_reader *reader, ondemand::document &document, text_range whole)
{
    if (whole.length > 0 && whole.at[0] == '"') {
        std::string_view text;
        SIMDJSON_TRY(document.get_string().get(text));
        note(reader, 0, JSON_KIND_STRING, whole, {text.data(), text.size()});
        return at_end(document) ? simdjson::SUCCESS : simdjson::TAPE_ERROR;
    }
    json_kind kind;
    if (!scalar_kind(whole, kind)) {
        return simdjson::TAPE_ERROR;
    }
    note(reader, 0, kind, whole, whole);
    return simdjson::SUCCESS;
}

error_code walk_document(json_reader *reader, const char *at, size_t length, size_t room)
{
    text_range whole = trimmed(at, length);
    while (whole.length > 0 && (*whole.at == ' ' || *whole.at == '\n' || *whole.at == '\t' || *whole.at == '\r')) {
        whole.at++;
        whole.length--;
    }
    reader->end = whole.at + whole.length;
    ondemand::document &document = reader->document;
    SIMDJSON_TRY(reader->parser.iterate(simdjson::padded_string_view(at, length, room)).get(document));
    if (whole.length == 0) {
        return simdjson::EMPTY;
    }
    error_code code;
    if (whole.at[0] == '{') {
        ondemand::object object;
        SIMDJSON_TRY(document.get_object().get(object));
        code = walk_object(reader, object, 0, 1);
    } else if (whole.at[0] == '[') {
        ondemand::array array;
        SIMDJSON_TRY(document.get_array().get(array));
        code = walk_array(reader, array, 0, 1);
    } else {
        return read_scalar(reader, document, whole);
    }
    if (code == simdjson::SUCCESS && !at_end(document)) {
        code = simdjson::TAPE_ERROR;
    }
    if (code == simdjson::SUCCESS) {
        note(reader, 0, whole.at[0] == '{' ? JSON_KIND_OBJECT : JSON_KIND_ARRAY, whole, whole);
    }
    return code;
}

bool copy_padded(json_reader *reader, const char *document, size_t length)
{
    size_t needed = length + simdjson::SIMDJSON_PADDING;
    if (needed > reader->scratch_room) {
        size_t room = reader->scratch_room ? reader->scratch_room : 4096;
        while (room < needed) {
            room *= 2;
        }
        char *scratch = (char *)realloc(reader->scratch, room);
        if (!scratch) {
            return false;
        }
        reader->scratch = scratch;
        reader->scratch_room = room;
    }
    memcpy(reader->scratch, document, length);
    memset(reader->scratch + length, 0, simdjson::SIMDJSON_PADDING);
    return true;
}

} // namespace

extern "C" struct json_reader *json_reader_new(void)
{
    return new (std::nothrow) json_reader();
}

extern "C" void json_reader_free(struct json_reader *reader)
{
    if (reader) {
        free(reader->scratch);
        delete reader;
    }
}

extern "C" void json_reader_trim(struct json_reader *reader)
{
    reader->document = ondemand::document();
    reader->parser = ondemand::parser();
    free(reader->scratch);
    reader->scratch = nullptr;
    reader->scratch_room = 0;
}

extern "C" enum json_result json_reader_read(struct json_reader *reader, const struct json_paths *paths,
    const char *document, size_t length, size_t room, struct json_value *values, const char **why)
{
    memset(values, 0, paths->value_count * sizeof(*values));
    const char *unused;
    why = why ? why : &unused;
    *why = "";
    if (room < length + simdjson::SIMDJSON_PADDING) {
        if (!copy_padded(reader, document, length)) {
            *why = "out of memory";
            return JSON_NO_MEMORY;
        }
        document = reader->scratch;
        room = length + simdjson::SIMDJSON_PADDING;
    }
    reader->paths = paths;
    reader->values = values;
    reader->too_deep = false;
    error_code code = walk_document(reader, document, length, room);
    if (code == simdjson::SUCCESS) {
        return JSON_OK;
    }
    memset(values, 0, paths->value_count * sizeof(*values));
    *why = simdjson::error_message(code);
    if (reader->too_deep) {
        *why = "nested more than 128 levels deep";
        return JSON_TOO_DEEP;
    }
    if (code == simdjson::MEMALLOC) {
        return JSON_NO_MEMORY;
    }
    return code == simdjson::UTF8_ERROR ? JSON_BAD_UTF8 : JSON_BAD;
}
