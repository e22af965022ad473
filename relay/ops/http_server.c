// SPDX-License-Identifier: Apache-2.0
//
// Happy path: one thread drives libmicrohttpd's epoll; a request for a known page is answered from a snapshot at once,
// and the connection is closed after the answer, so that a seat is never held by a client that has what it wanted.
//
// Failures, all of the clients' making, and what happens:
// - a client that is slow to ask or slow to read: its connection is cut SEAT_TIME after it came, or after IDLE_TIME
//   without a byte;
// - more clients than seats: the connection that has waited longest without having asked makes room; of the newcomer's
//   own address if that has more than its share. So a thousand idle connections delay a probe by nothing: each newcomer
//   gets a seat at once and keeps it for the next hundred arrivals. The process never holds more than SEATS descriptors
//   of clients;
// - another method is 405, another path 404, garbage 400, a header or line longer than REQUEST_MEMORY 414 or 431 (those
//   three by libmicrohttpd); a body is never read;
// - no memory for an answer: 503 without a body, or the connection is closed.
#include "relay/ops/http_server.h"

#include "relay/base/log.h"
#include "relay/base/thread.h"
#include "relay/ops/http_answers.h"
#include "relay/config/listen_address.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEATS          256
#define SEATS_USED     224 // above, the longest waiting makes room; the rest is for connections that are being closed
#define SEATS_ADDRESS  160 // the same for one address
#define SEAT_TIME      DURATION_S(10)
#define IDLE_TIME_S    5u
#define REQUEST_MEMORY ((size_t)16 * 1024)
#define ROUND_AT_LEAST DURATION_S(5) // the loop turns (and beats) this often without any client
#define MAX_SILENCE    DURATION_S(30)

struct seat {
    TAILQ_ENTRY(seat) entry; // in `taken` (oldest first) or `leaving`
    int fd;                  // libmicrohttpd's
    struct mono_time until;
    unsigned char address[16]; // of the client; IPv4 mapped
    bool asked;                // an answer is on its way
    bool cut;
};
TAILQ_HEAD(seats, seat);

struct http_server {
    const struct relay_context *context;
    struct http_answers answers;
    int listener;
    int wake; // eventfd: stop
    pthread_t thread;
    struct MHD_Daemon *daemon;
    struct heartbeat *heartbeat;
    // owned by the thread
    struct seats taken, leaving, unused;
    size_t taken_count;
    struct seat all[SEATS];
};

// From here on: on the server's thread.

static void address_of(struct MHD_Connection *connection, unsigned char address[16])
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    memset(address, 0, 16);
    if (info != NULL && info->client_addr->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, info->client_addr, sizeof(v6));
        memcpy(address, &v6.sin6_addr, 16);
    } else if (info != NULL && info->client_addr->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, info->client_addr, sizeof(v4));
        address[10] = address[11] = 0xff;
        memcpy(address + 12, &v4.sin_addr, 4);
    }
}

// libmicrohttpd sees the end of the stream in its next round and closes the descriptor; until then it is ours to name.
static void cut(struct http_server *server, struct seat *seat)
{
    shutdown(seat->fd, SHUT_RDWR);
    seat->cut = true;
    TAILQ_REMOVE(&server->taken, seat, entry);
    TAILQ_INSERT_TAIL(&server->leaving, seat, entry);
    server->taken_count--;
}

// The longest waiting, of this address if one is given: first of those that have asked for nothing.
static struct seat *longest_waiting(struct http_server *server, const unsigned char *address)
{
    struct seat *answered = NULL;
    struct seat *seat;
    TAILQ_FOREACH(seat, &server->taken, entry)
    {
        if (address != NULL && memcmp(seat->address, address, sizeof(seat->address)) != 0) {
            continue;
        }
        if (!seat->asked) {
            return seat;
        }
        answered = answered == NULL ? seat : answered;
    }
    return answered;
}

static void make_room(struct http_server *server, const unsigned char address[16])
{
    size_t same = 0;
    struct seat *seat;
    TAILQ_FOREACH(seat, &server->taken, entry)
    {
        same += memcmp(seat->address, address, sizeof(seat->address)) == 0;
    }
    struct seat *goes = NULL;
    if (same >= SEATS_ADDRESS) {
        goes = longest_waiting(server, address);
    } else if (server->taken_count >= SEATS_USED) {
        goes = longest_waiting(server, NULL);
    }
    if (goes != NULL) {
        cut(server, goes);
    }
}

static void on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
    enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        struct seat *seat = *socket_context;
        if (seat != NULL) {
            TAILQ_REMOVE(seat->cut ? &server->leaving : &server->taken, seat, entry);
            server->taken_count -= !seat->cut;
            TAILQ_INSERT_TAIL(&server->unused, seat, entry);
        }
        return;
    }
    unsigned char address[16];
    address_of(connection, address);
    make_room(server, address);
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct seat *seat = TAILQ_FIRST(&server->unused); // there is one: libmicrohttpd accepts no more than SEATS
    *socket_context = seat;
    if (seat != NULL) {
        TAILQ_REMOVE(&server->unused, seat, entry);
        *seat = (struct seat){.fd = info->connect_fd, .until = mono_add(clock_mono(server->context->clock), SEAT_TIME)};
        memcpy(seat->address, address, sizeof(address));
        TAILQ_INSERT_TAIL(&server->taken, seat, entry);
        server->taken_count++;
    }
}

static enum MHD_Result give(struct MHD_Connection *connection, const struct http_answer *answer)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(answer->length, answer->body,
        answer->is_static || answer->body == NULL ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        if (!answer->is_static) {
            free(answer->body);
        }
        return MHD_NO; // closes the connection
    }
    const char *const headers[][2] = {
        {"Content-Type", answer->content_type},
        {"Content-Security-Policy", answer->policy},
        {"Cache-Control", "no-store"},
        {"X-Content-Type-Options", "nosniff"},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Connection", "close"},
    };
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        MHD_add_response_header(response, headers[i][0], headers[i][1]);
    }
    if (answer->status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        MHD_add_response_header(response, "Allow", "GET, HEAD");
    }
    enum MHD_Result result = MHD_queue_response(connection, answer->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *path,
    const char *method, const char *version, const char *body, size_t *body_length, void **request_context)
{
    (void)version;
    (void)body;
    (void)body_length; // queueing an answer at the first call means that a body is not read
    (void)request_context;
    struct http_server *server = context;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (info != NULL && info->socket_context != NULL) {
        ((struct seat *)info->socket_context)->asked = true;
    }
    struct http_answer answer;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        answer = http_answer_error(MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD are answered here");
    } else {
        answer = http_answer_get(&server->answers, path);
    }
    return give(connection, &answer);
}

// Paths are compared as they were sent: unescaping would let "/live%00x" pass for "/live".
static size_t leave_escaped(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    return strlen(text);
}

static void __attribute__((format(printf, 2, 0))) on_complaint(void *context, const char *format, va_list arguments)
{
    (void)context;
    char text[256];
    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\r\n")] = '\0';
    log_event(LOG_LEVEL_DEBUG, "http.client", text);
}

// Cuts those whose time is over. Returns when the next one's is.
static struct mono_time cut_late(struct http_server *server, struct mono_time now)
{
    for (struct seat *seat; (seat = TAILQ_FIRST(&server->taken)) != NULL;) {
        if (!mono_reached(now, seat->until)) {
            return seat->until;
        }
        cut(server, seat);
    }
    return mono_add(now, ROUND_AT_LEAST);
}

static void *serve(void *argument)
{
    struct http_server *server = argument;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct pollfd polled[] = {{.fd = info->epoll_fd, .events = POLLIN}, {.fd = server->wake, .events = POLLIN}};
    while (polled[1].revents == 0) {
        heartbeat_beat(server->heartbeat);
        MHD_run(server->daemon);
        struct mono_time now = clock_mono(server->context->clock);
        int wait_ms = duration_to_poll_ms(mono_left(now, cut_late(server, now)));
        int most_ms = duration_to_poll_ms(ROUND_AT_LEAST);
        wait_ms = wait_ms < most_ms ? wait_ms : most_ms;
        MHD_UNSIGNED_LONG_LONG timeout_ms;
        if (MHD_get_timeout(server->daemon, &timeout_ms) == MHD_YES && timeout_ms < (MHD_UNSIGNED_LONG_LONG)wait_ms) {
            wait_ms = (int)timeout_ms;
        }
        poll(polled, 2, wait_ms);
    }
    heartbeat_end(server->heartbeat);
    server->heartbeat = NULL; // the slot is another loop's from now on
    return NULL;
}

// From here on: on the caller's thread.

// -1 with errno where the address cannot be listened on.
static int listen_on(const struct addrinfo *at)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    int on = 1;
    int off = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (at->ai_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)); // "[::]" serves IPv4 too
    }
    if (bind(fd, at->ai_addr, at->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
        int failed = errno;
        close(fd);
        errno = failed;
        return -1;
    }
    return fd;
}

// A name that does not exist is a mistake of the configuration. A resolver that does not answer is none: it may not be
// up yet when the machine is, and a configuration that is refused keeps systemd from starting the relay again.
static void tell_lookup_failure(const char *host, int result, int failed, struct relay_error *error)
{
    switch (result) {
    case EAI_AGAIN:
    case EAI_FAIL:
    case EAI_MEMORY:
    case EAI_SYSTEM:
        error_set(error, RELAY_ERROR_SYSTEM, "[http] listen: \"%.100s\" cannot be looked up: %s", host,
            result == EAI_SYSTEM ? strerror(failed) : gai_strerror(result));
        break;
    default:
        error_set(error, RELAY_ERROR_CONFIG, "[http] listen: \"%.100s\" is no address of this machine: %s", host,
            gai_strerror(result));
    }
}

static int open_listener(const struct listen_address *address, struct relay_error *error)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char port[8];
    snprintf(port, sizeof(port), "%u", address->port);
    const char *host = address->host[0] == '\0' ? "::" : address->host;
    int result = getaddrinfo(host, port, &hints, &found);
    if (result != 0) {
        tell_lookup_failure(host, result, errno, error);
        return -1;
    }
    int fd = -1;
    int failed = 0;
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        fd = listen_on(at);
        if (fd >= 0) {
            break;
        }
        failed = errno;
    }
    freeaddrinfo(found);
    if (fd < 0 && failed == EAFNOSUPPORT && address->host[0] == '\0') {
        struct listen_address ipv4 = {.host = "0.0.0.0", .port = address->port}; // a kernel without IPv6
        return open_listener(&ipv4, error);
    }
    if (fd < 0) {
        error_set_class(error, RELAY_ERROR_SYSTEM, RELAY_CLASS_OPERATOR, failed, "[http] listen: %s%s%s:%u: %s",
            strchr(host, ':') == NULL ? "" : "[", host, strchr(host, ':') == NULL ? "" : "]", address->port,
            strerror(failed));
    }
    return fd;
}

static void tell_address(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    char host[NI_MAXHOST] = "";
    char port[NI_MAXSERV] = "";
    getsockname(fd, (struct sockaddr *)&address, &length);
    getnameinfo((struct sockaddr *)&address, length, host, sizeof(host), port, sizeof(port),
        NI_NUMERICHOST | NI_NUMERICSERV);
    char text[NI_MAXHOST + NI_MAXSERV + 4];
    snprintf(text, sizeof(text), address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    log_event(LOG_LEVEL_INFO, "http.listening", "answers /health, /live, /ready, /metrics and /",
        LOG_TEXT("address", text));
}

static void free_server(struct http_server *server)
{
    if (server->daemon != NULL) {
        MHD_stop_daemon(server->daemon); // closes the listener too
    } else if (server->listener >= 0) {
        close(server->listener);
    }
    if (server->wake >= 0) {
        close(server->wake);
    }
    heartbeat_end(server->heartbeat);
    free(server);
}

static bool start_daemon(struct http_server *server, struct relay_error *error)
{
    server->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, server,
        MHD_OPTION_EXTERNAL_LOGGER, on_complaint, NULL, MHD_OPTION_LISTEN_SOCKET, server->listener,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)SEATS, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIME_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, REQUEST_MEMORY,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_END);
    if (server->daemon == NULL) {
        return error_set(error, RELAY_ERROR_SYSTEM, "the HTTP server cannot be started");
    }
    return thread_start(&server->thread, "http", serve, server, error);
}

struct http_server *http_server_start(const struct relay_context *context, struct alerts *alerts,
    struct relay_error *error)
{
    struct listen_address address;
    error_clear(error);
    if (context->config->http.listen[0] == '\0') {
        return NULL;
    }
    if (!listen_address_parse(context->config->http.listen, &address, error)) {
        error_prefix(error, "[http] listen");
        return NULL;
    }
    struct http_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        error_no_memory(error, "the HTTP server");
        return NULL;
    }
    server->context = context;
    server->answers = (struct http_answers){.context = context,
        .alerts = alerts,
        .started_at = clock_mono(context->clock)};
    server->listener = -1;
    TAILQ_INIT(&server->taken);
    TAILQ_INIT(&server->leaving);
    TAILQ_INIT(&server->unused);
    for (size_t i = 0; i < SEATS; i++) {
        TAILQ_INSERT_TAIL(&server->unused, &server->all[i], entry);
    }
    server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->wake < 0) {
        error_set_detail(error, RELAY_ERROR_SYSTEM, errno, "eventfd: %s", strerror(errno));
        goto failed;
    }
    server->heartbeat = status_board_heartbeat(context->board, "http", MAX_SILENCE, error);
    if (server->heartbeat == NULL) {
        goto failed;
    }
    server->listener = open_listener(&address, error);
    if (server->listener < 0 || !start_daemon(server, error)) {
        goto failed;
    }
    tell_address(server->listener);
    return server;

failed:
    free_server(server);
    return NULL;
}

void http_server_stop(struct http_server *server)
{
    if (server == NULL) {
        return;
    }
    eventfd_write(server->wake, 1);
    pthread_join(server->thread, NULL);
    free_server(server);
}
