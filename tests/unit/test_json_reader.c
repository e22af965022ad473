// SPDX-License-Identifier: Apache-2.0
//
// What the JSON reader takes, refuses and gives; jansson is the judge over many mutated documents.
#include "relay/base/error.h"
#include "relay/json/json_reader.h"
#include "relay/json/json_walk.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct json_paths *paths;
static struct json_reader *reader;
static struct json_value values[16];

static void setup(void)
{
    paths = json_paths_new(NULL);
    reader = json_reader_new();
    cr_assert(paths && reader);
}

static void teardown(void)
{
    json_paths_free(paths);
    json_reader_free(reader);
}

TestSuite(json_reader, .init = setup, .fini = teardown);

static size_t want(const char *path)
{
    struct relay_error error;
    size_t index = 99;
    cr_assert(json_paths_add(paths, path, strlen(path), &index, &error), "%s", error.text);
    return index;
}

static enum json_result read_text(const char *text)
{
    return json_reader_read(reader, paths, text, strlen(text), strlen(text), values, NULL);
}

#define expect(index, a_kind, a_raw, a_text)                                                                           \
    do {                                                                                                               \
        struct json_value *v = &values[index];                                                                         \
        cr_assert_eq(v->kind, a_kind, "kind %d", v->kind);                                                             \
        cr_assert(v->raw_length == strlen(a_raw) && memcmp(v->raw, a_raw, v->raw_length) == 0, "raw %.*s",             \
            (int)v->raw_length, v->raw);                                                                               \
        cr_assert(v->length == strlen(a_text) && memcmp(v->text, a_text, v->length) == 0, "text %.*s", (int)v->length, \
            v->text);                                                                                                  \
    } while (0)

Test(json_reader, wanted_places_are_found)
{
    size_t a = want("$.a"), b = want("$.b.c[1]"), odd = want("$[\"x.y\\\"\"]"), all = want("$"),
           none = want("$.nope.deeper");
    size_t whole_b = want("$.b"), unicode = want("$.\xC3\xA4");
    cr_assert_eq(want("$['a']"), a, "the same place");
    const char *text = " {\"a\" : -1.50e3 , \"b\":{\"c\": [ 0, {\"k\":[]} , 2 ] } , \"x.y\\\"\" : \"t\\u00e4\\n\" , "
                       "\"\\u00e4\":null} ";
    cr_assert_eq(read_text(text), JSON_OK);
    expect(a, JSON_KIND_NUMBER, "-1.50e3", "-1.50e3");
    expect(b, JSON_KIND_OBJECT, "{\"k\":[]}", "{\"k\":[]}");
    expect(whole_b, JSON_KIND_OBJECT, "{\"c\": [ 0, {\"k\":[]} , 2 ] }", "{\"c\": [ 0, {\"k\":[]} , 2 ] }");
    expect(odd, JSON_KIND_STRING, "\"t\\u00e4\\n\"", "t\xC3\xA4\n");
    expect(unicode, JSON_KIND_NULL, "null", "null");
    cr_assert_eq(values[none].kind, JSON_KIND_MISSING);
    cr_assert_eq(values[all].raw_length, strlen(text) - 2);
    cr_assert_eq(read_text("{}"), JSON_OK);
    cr_assert_eq(values[a].kind, JSON_KIND_MISSING, "nothing is left of the document before");
    expect(all, JSON_KIND_OBJECT, "{}", "{}");
}

Test(json_reader, scalars_are_documents)
{
    size_t all = want("$"), a = want("$.a");
    cr_assert_eq(read_text(" \"b\\\\x\" "), JSON_OK);
    expect(all, JSON_KIND_STRING, "\"b\\\\x\"", "b\\x");
    cr_assert_eq(read_text("12345678901234567890123"), JSON_OK);
    expect(all, JSON_KIND_NUMBER, "12345678901234567890123", "12345678901234567890123");
    cr_assert_eq(read_text("null"), JSON_OK);
    expect(all, JSON_KIND_NULL, "null", "null");
    cr_assert_eq(values[a].kind, JSON_KIND_MISSING);
    cr_assert_eq(read_text("true "), JSON_OK);
    cr_assert_eq(read_text("[1,[2,[3]]]"), JSON_OK);
    expect(all, JSON_KIND_ARRAY, "[1,[2,[3]]]", "[1,[2,[3]]]");
}

Test(json_reader, the_last_of_two_members_wins_whole)
{
    size_t ab = want("$.a.b"), ac = want("$.a.c"), a = want("$.a");
    cr_assert_eq(read_text("{\"a\":{\"b\":1,\"c\":2},\"a\":{\"b\":3}}"), JSON_OK);
    expect(ab, JSON_KIND_NUMBER, "3", "3");
    cr_assert_eq(values[ac].kind, JSON_KIND_MISSING, "nothing is mixed from both");
    expect(a, JSON_KIND_OBJECT, "{\"b\":3}", "{\"b\":3}");
    cr_assert_eq(read_text("{\"a\":{\"b\":1},\"\\u0061\":5}"), JSON_OK);
    expect(a, JSON_KIND_NUMBER, "5", "5");
    cr_assert_eq(values[ab].kind, JSON_KIND_MISSING);
}

Test(json_reader, broken_documents_are_refused_wherever_the_break_is)
{
    want("$.a");
    static const char *const bad[] = {"", " ", "{", "}", "[", "{\"a\":1", "{\"a\":1}}", "{\"a\":1} x", "{}{}", "{} {}",
        "{\"a\" 1}", "{\"a\":}", "{\"b\":tru,\"a\":1}", "{\"b\":nul,\"a\":1}", "{\"b\":01,\"a\":1}",
        "{\"b\":1.,\"a\":1}", "{\"b\":+1}", "{\"b\":.5}", "{\"b\":1e}", "{\"b\":-}", "{\"b\":\"\\q\",\"a\":1}",
        "{\"b\":\"\\u12\"}", "{\"b\":\"\\ud800\"}", "{\"b\":\"\x01\"}", "{'a':1}", "{a:1}", "[1,]", "[1 2]", "[,]",
        "{\"a\":1,}", "{,}", "nan", "tru", "truex", "1 2", "\"a\" \"b\"", "\"a", "[1}", "{\"a\":[1}]",
        "{\"a\":1\"b\":2}", "{\"a\":12abc}", "/*c*/{}", "{\"a\":{\"b\":{\"c\":x}}}", "1x", "--1", "{\"a\":1,\"b\"}",
        "[\"a\":1]"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(read_text(bad[i]), JSON_BAD, "%s", bad[i]);
        cr_assert_eq(values[0].kind, JSON_KIND_MISSING);
    }
    cr_assert_eq(read_text("{\"b\":\"\xff\"}"), JSON_BAD_UTF8);
    cr_assert_eq(read_text("{\"b\":\"\xed\xa0\x80\"}"), JSON_BAD_UTF8, "a lone surrogate in UTF-8");
}

Test(json_reader, depth_is_limited)
{
    want("$.a");
    char text[2 * 129 + 1];
    for (int depth = 126; depth <= 129; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        cr_assert_eq(read_text(text), depth <= JSON_MAX_DEPTH ? JSON_OK : JSON_TOO_DEEP, "%d", depth);
    }
}

Test(json_reader, padding_spares_the_copy)
{
    size_t a = want("$.a");
    char padded[200] = "{\"a\":\"x\"}";
    cr_assert_eq(json_reader_read(reader, paths, padded, 9, sizeof(padded), values, NULL), JSON_OK);
    cr_assert(values[a].raw >= padded && values[a].raw < padded + 9, "points into the document itself");
    cr_assert_eq(json_reader_read(reader, paths, padded, 9, 9, values, NULL), JSON_OK);
    cr_assert_not(values[a].raw >= padded && values[a].raw < padded + 200);
}

Test(json_reader, paths_that_are_none_are_refused)
{
    static const char *const bad[] = {"", "a", "$a", "$.", "$..a", "$.a.", "$[", "$[]", "$[1", "$[-1]", "$[\"a]",
        "$[\"a\"", "$.a b", "$.a[x]", "$[99999999999]"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct relay_error error;
        size_t index;
        cr_assert_not(json_paths_add(paths, bad[i], strlen(bad[i]), &index, &error), "%s", bad[i]);
        cr_assert_eq(error.code, RELAY_ERROR_CONFIG);
    }
    cr_assert_eq(json_paths_span("$.a['x]']?: a=1", 15), 9);
    cr_assert_eq(json_paths_span("$", 1), 1);
}

Test(json_reader, a_walk_steps_through_one_level)
{
    size_t all = want("$");
    struct json_walk walk;
    struct json_value name, value;
    char scratch[64];
    cr_assert_eq(read_text("{ \"a\\\"b\" : [1,\"]\"] , \"c\":\"\\ud83d\\ude00\\/\" ,\"d\":{} , \"e\" : -0.1 }"),
        JSON_OK);
    json_walk_start(&walk, &values[all]);
    cr_assert(json_walk_next(&walk, &name, &value));
    json_unescape(&name, scratch);
    cr_assert(name.length == 3 && memcmp(name.text, "a\"b", 3) == 0);
    cr_assert_eq(value.kind, JSON_KIND_ARRAY);
    cr_assert_eq(value.raw_length, 7);
    cr_assert(json_walk_next(&walk, &name, &value));
    cr_assert_null(value.text);
    json_unescape(&value, scratch);
    cr_assert(value.length == 5 && memcmp(value.text, "\xF0\x9F\x98\x80/", 5) == 0);
    cr_assert(json_walk_next(&walk, &name, &value));
    cr_assert_eq(value.kind, JSON_KIND_OBJECT);
    cr_assert(json_walk_next(&walk, &name, &value));
    cr_assert(value.kind == JSON_KIND_NUMBER && value.length == 4);
    cr_assert_not(json_walk_next(&walk, &name, &value));
    cr_assert_eq(read_text("[ ]"), JSON_OK);
    json_walk_start(&walk, &values[all]);
    cr_assert_not(json_walk_next(&walk, &name, &value));
}

// Random bytes put into good documents: both parsers must say the same, and give the same text of a member.
Test(json_reader, agrees_with_jansson)
{
    static const char *const seeds[] = {
        "{\"a\":{\"b\":[1,2.5,-3e5,true,null,\"x\\ny\"]},\"c\":\"\\u00e4\\ud83d\\ude00\",\"a2\":{}}",
        "[{\"a\":\"q\"},[],[[]],{},\"\",0,-0]", "{\"a\":\"v\",\"n\":{\"n\":{\"a\":[false]}}}"};
    static const char bytes[] = "{}[]:,\"\\ \n0123456789.-+eEtrufalsn/ua\x01\x80\xc3";
    size_t a = want("$.a"), good = 0, refused = 0;
    uint64_t random = 42;
    for (int round = 0; round < 60000; round++) {
        char text[200];
        snprintf(text, sizeof(text), "%s", seeds[round % 3]);
        size_t length = strlen(text);
        for (int i = 0; i < 1 + round % 3; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            text[(random >> 33) % length] = bytes[(random >> 20) % (sizeof(bytes) - 1)];
        }
        json_t *judge = json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        enum json_result result = json_reader_read(reader, paths, text, length, length, values, NULL);
        // jansson refuses reals and integers that it cannot hold, which are none of our business.
        bool large = !judge && result == JSON_OK;
        if (large) {
            json_error_t why;
            json_t *again = json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
            json_decref(again);
            large = json_error_code(&why) == json_error_numeric_overflow;
        }
        cr_assert(large || (judge != NULL) == (result == JSON_OK), "%s: jansson %d, ours %d", text, judge != NULL,
            result);
        json_t *member = judge ? json_object_get(judge, "a") : NULL;
        if (json_is_string(member)) {
            cr_assert_eq(values[a].length, json_string_length(member), "%s", text);
            cr_assert_arr_eq(values[a].text, json_string_value(member), values[a].length);
        } else if (member) {
            json_t *part = json_loadb(values[a].raw, values[a].raw_length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
            cr_assert(part && json_equal(part, member), "%s: raw %.*s", text, (int)values[a].raw_length, values[a].raw);
            json_decref(part);
        }
        good += judge != NULL;
        refused += judge == NULL;
        json_decref(judge);
    }
    cr_assert(good > 1000 && refused > 1000, "%zu good, %zu refused", good, refused);
}

Test(json_reader, what_a_large_document_took_comes_back)
{
    size_t a = want("$.a[1]"), length = 4 << 20;
    char *large = malloc(length);
    cr_assert_not_null(large);
    memset(large, ' ', length);
    memcpy(large, "{\"a\":[1", 7);
    for (size_t i = 7; i < length - 2; i += 2) {
        memcpy(&large[i], ",1", 2);
    }
    memcpy(&large[length - 3], " ]}", 3);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    cr_assert_eq(json_reader_read(reader, paths, large, length, length, values, NULL), JSON_OK);
    expect(a, JSON_KIND_NUMBER, "1", "1");
    json_reader_trim(reader);
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    cr_assert_leq(after, before + 65536, "%zu bytes are kept", after - before);
    cr_assert_eq(read_text("{\"a\":[1,\"\\u00e4\"]}"), JSON_OK, "it reads on");
    expect(a, JSON_KIND_STRING, "\"\\u00e4\"", "\xC3\xA4");
    json_reader_trim(reader);
    json_reader_trim(reader);
    free(large);
}
