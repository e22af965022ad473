// SPDX-License-Identifier: Apache-2.0
//
// Runs ClickHouse from its shared library as a server of its own process, for tests and benchmarks:
//
//     clickhouse-launcher LIBRARY ARGUMENT...
//
// LIBRARY is libchdb.so, whose query_stable_v2() is clickhouse-local's main; the arguments are handed to it
// (scripts/lib/servers/clickhouse.py says which, and why the query among them reads standard input for ever).
// Standard input is replaced by a pipe that is never written to and never closed, so the server lives until it
// is signalled. Returns only when ClickHouse gives up; then prints why and exits 1.

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// What query_stable_v2() returns, from chdb.h of the same release.
struct local_result_v2 {
    char *buf;
    size_t len;
    void *vec;
    double elapsed;
    uint64_t rows_read;
    uint64_t bytes_read;
    char *error_message;
};

typedef struct local_result_v2 *query_function(int argc, char **argv);

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: clickhouse-launcher LIBRARY ARGUMENT...\n");
        return 2;
    }
    int ends[2];
    if (pipe(ends) != 0 || dup2(ends[0], STDIN_FILENO) < 0) {
        perror("clickhouse-launcher: pipe");
        return 1;
    }
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL) {
        fprintf(stderr, "clickhouse-launcher: %s\n", dlerror());
        return 1;
    }
    void *symbol = dlsym(library, "query_stable_v2");
    query_function *run = NULL;
    if (symbol == NULL) {
        fprintf(stderr, "clickhouse-launcher: %s has no query_stable_v2\n", argv[1]);
        return 1;
    }
    memcpy(&run, &symbol, sizeof run); // ISO C has no conversion from object to function pointer

    char name[] = "clickhouse";
    argv[1] = name;
    struct local_result_v2 *result = run(argc - 1, argv + 1);
    if (result != NULL && result->error_message != NULL) {
        fprintf(stderr, "clickhouse-launcher: %s\n", result->error_message);
    } else {
        fprintf(stderr, "clickhouse-launcher: ClickHouse ended\n");
    }
    return 1;
}
