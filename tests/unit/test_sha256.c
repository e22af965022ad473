// SPDX-License-Identifier: Apache-2.0
#include "relay/base/sha256.h"

#include <criterion/criterion.h>
#include <string.h>

static void expect(const char *bytes, size_t length, const char *digest)
{
    char text[SHA256_TEXT];
    cr_assert(sha256_text(bytes, length, text));
    cr_assert_str_eq(text, digest);
}

// The examples of FIPS 180-4, and what sha256sum says of lengths around a block's end.
Test(sha256, gives_the_published_digests)
{
    expect("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

Test(sha256, pads_at_every_length)
{
    char many[1000];
    memset(many, 'a', sizeof(many));
    expect(many, 55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
    expect(many, 56, "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
    expect(many, 64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
    expect(many, 1000, "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3");
}
