// SPDX-License-Identifier: Apache-2.0
//
// Reasons for dead letters have a word, which dead letters, metrics and documents share, and a sentence. A list of them
// is an X-macro of (id, word, sentence); this gives `enum KIND` of it its two look-ups: KIND_name() and KIND_text(),
// both static texts, "?" for what is none. tests/tools/reason_docs.c compares the lists with the documents. Pure.
#ifndef RELAY_BASE_REASON_H
#define RELAY_BASE_REASON_H

#define REASON_WORD(id, word, sentence)     word,
#define REASON_SENTENCE(id, word, sentence) sentence,

#define REASON_LOOKUPS(kind, list)                                                                                     \
    static inline const char *kind##_name(enum kind reason)                                                            \
    {                                                                                                                  \
        static const char *const words[] = {list(REASON_WORD)};                                                        \
        return (unsigned)reason < sizeof(words) / sizeof(words[0]) ? words[reason] : "?";                              \
    }                                                                                                                  \
    static inline const char *kind##_text(enum kind reason)                                                            \
    {                                                                                                                  \
        static const char *const sentences[] = {list(REASON_SENTENCE)};                                                \
        return (unsigned)reason < sizeof(sentences) / sizeof(sentences[0]) ? sentences[reason] : "?";                  \
    }

#endif
