// SPDX-License-Identifier: Apache-2.0
//
// Any bytes as what a client sends to the HTTP server, over a real connection: the answer is nothing or HTTP, and once
// begun it ends before the deadline. A client whose request is not complete breaks its connection off.
#include "relay/base/log.h"
#include "relay/ops/http_server.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BEGIN_MS    3 // for the first byte of an answer
#define DEADLINE_MS 20000

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned port;

static void read_port(void *unused, enum log_level level, const char *line)
{
    (void)unused;
    (void)level;
    const char *at = strstr(line, "127.0.0.1:");
    if (at != NULL && port == 0) {
        sscanf(at, "127.0.0.1:%u", &port);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    static char listen[] = "127.0.0.1:0";
    static struct config config;
    static struct stop stop;
    static struct relay_context context;
    config.http.listen = listen;
    log_set_sink(read_port, NULL);
    stop_init(&stop, NULL);
    context = (struct relay_context){.config = &config,
        .clock = clock_system(),
        .metrics = metrics_new(NULL),
        .board = status_board_new(clock_system(), NULL),
        .stop = &stop,
        .instance = "0123456789abcdef"};
    struct relay_error error;
    if (http_server_start(&context, NULL, &error) == NULL || port == 0) {
        fprintf(stderr, "no server: %s\n", error.text);
        exit(1);
    }
    return 0;
}

// Each from an address of its own: closed connections keep their port for a minute.
static int dial(void)
{
    static uint32_t turn;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(fd >= 0);
    struct sockaddr_in own = {.sin_family = AF_INET};
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + turn++ % 60000);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int bound = bind(fd, (struct sockaddr *)&own, sizeof(own));
    int connected = connect(fd, (struct sockaddr *)&server, sizeof(server));
    assert(bound == 0 && connected == 0);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = dial();
    for (size_t sent = 0; sent < size;) {
        ssize_t more = send(fd, data + sent, size - sent, MSG_NOSIGNAL);
        if (more <= 0) { // refused what came before
            break;
        }
        sent += (size_t)more;
    }
    static char answer[1 << 16];
    size_t filled = 0;
    int wait_ms = BEGIN_MS;
    for (;;) {
        struct pollfd polled = {.fd = fd, .events = POLLIN};
        int ready;
        do { // libFuzzer's alarm
            ready = poll(&polled, 1, wait_ms);
        } while (ready < 0 && errno == EINTR);
        if (ready == 0 && wait_ms == BEGIN_MS) {
            break;
        }
        assert(ready == 1);
        wait_ms = DEADLINE_MS;
        ssize_t got = recv(fd, answer + filled, sizeof(answer) - filled, 0);
        if (got <= 0) {
            break;
        }
        filled += filled + (size_t)got < sizeof(answer) ? (size_t)got : 0;
    }
    struct linger now = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
    assert(filled == 0 || (filled > 12 && memcmp(answer, "HTTP/1.", 7) == 0));
    return 0;
}
