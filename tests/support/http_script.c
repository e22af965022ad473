// SPDX-License-Identifier: Apache-2.0
#include "http_script.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 256
#define MAX_REQUESTS    4096

struct connection {
    struct http_script *script;
    int fd;
    size_t number;
    pthread_t thread;
    char *buffer; // received, not yet used
    size_t filled, room;
};

struct http_script {
    int listener;
    char url[64];
    http_script_handler *handler;
    void *context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping;
    struct connection *connections[MAX_CONNECTIONS];
    size_t connection_count;
    struct {
        char *at;
        size_t length;
    } bodies[MAX_REQUESTS];
    size_t requests;
};

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        abort();
    }
}

static bool receive(struct connection *connection)
{
    if (connection->room - connection->filled < 65536) {
        connection->room = connection->room * 2 + 131072;
        connection->buffer = realloc(connection->buffer, connection->room);
        must(connection->buffer, "realloc");
    }
    ssize_t got = recv(connection->fd, connection->buffer + connection->filled, 65536, 0);
    if (got <= 0) {
        return false;
    }
    connection->filled += (size_t)got;
    return true;
}

static void consume(struct connection *connection, size_t length)
{
    memmove(connection->buffer, connection->buffer + length, connection->filled - length);
    connection->filled -= length;
}

// A line or a block that ends with `end`: copied out without it. NULL: the peer has gone.
static char *read_until(struct connection *connection, const char *end)
{
    for (;;) {
        char *found = connection->filled ? memmem(connection->buffer, connection->filled, end, strlen(end)) : NULL;
        if (found) {
            char *text = strndup(connection->buffer, (size_t)(found - connection->buffer));
            must(text, "strndup");
            consume(connection, (size_t)(found - connection->buffer) + strlen(end));
            return text;
        }
        if (!receive(connection)) {
            return NULL;
        }
    }
}

struct body {
    char *at;
    size_t length;
};

static bool read_bytes(struct connection *connection, size_t count, struct body *body)
{
    while (connection->filled < count) {
        if (!receive(connection)) {
            return false;
        }
    }
    body->at = realloc(body->at, body->length + count + 1);
    must(body->at, "realloc");
    memcpy(body->at + body->length, connection->buffer, count);
    body->length += count;
    body->at[body->length] = '\0';
    consume(connection, count);
    return true;
}

static bool read_chunks(struct connection *connection, size_t limit, struct body *body)
{
    while (body->length < limit) {
        char *line = read_until(connection, "\r\n");
        if (!line) {
            return false;
        }
        size_t size = strtoul(line, NULL, 16);
        free(line);
        size_t take = size < limit - body->length ? size : limit - body->length;
        if (!read_bytes(connection, take, body)) {
            return false;
        }
        if (take == size) {
            char *end = read_until(connection, "\r\n");
            free(end);
        }
        if (size == 0) {
            break;
        }
    }
    return true;
}

static bool read_body(struct connection *connection, const char *headers, size_t limit, struct body *body)
{
    const char *length = strcasestr(headers, "content-length:");
    if (strcasestr(headers, "transfer-encoding: chunked")) {
        return read_chunks(connection, limit, body);
    }
    size_t size = length ? strtoul(length + 15, NULL, 10) : 0;
    return size == 0 || read_bytes(connection, size < limit ? size : limit, body);
}

static void send_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
        if (sent <= 0) {
            return;
        }
        bytes += sent;
        length -= (size_t)sent;
    }
}

static void hang(struct http_script *script)
{
    pthread_mutex_lock(&script->lock);
    while (!script->stopping) {
        pthread_cond_wait(&script->changed, &script->lock);
    }
    pthread_mutex_unlock(&script->lock);
}

// One request. false: the connection is over.
static bool serve(struct connection *connection)
{
    struct http_script *script = connection->script;
    char *head = read_until(connection, "\r\n\r\n");
    if (!head) {
        return false;
    }
    char *headers = strstr(head, "\r\n");
    must(headers != NULL, "no header in the request");
    *headers = '\0';
    headers += 2;
    char *save = NULL;
    char *method = strtok_r(head, " ", &save);
    char *target = strtok_r(NULL, " ", &save);
    must(method && target, "no request line");
    struct http_reply reply = {.read_body = (size_t)-1};
    pthread_mutex_lock(&script->lock);
    struct http_seen seen = {.number = script->requests,
        .connection = connection->number,
        .method = method,
        .target = target,
        .headers = headers};
    must(script->requests < MAX_REQUESTS, "too many requests");
    script->requests++;
    script->handler(script->context, &seen, &reply);
    pthread_mutex_unlock(&script->lock);

    struct body body = {0};
    bool whole = read_body(connection, headers, reply.read_body, &body);
    pthread_mutex_lock(&script->lock);
    script->bodies[seen.number].at = body.at;
    script->bodies[seen.number].length = body.length;
    pthread_cond_broadcast(&script->changed);
    pthread_mutex_unlock(&script->lock);
    free(head);
    if (!whole) {
        return false;
    }
    if (reply.answer) {
        send_all(connection->fd, reply.answer, reply.answer_length ? reply.answer_length : strlen(reply.answer));
    }
    if (reply.then == HTTP_HANG) {
        hang(script);
    }
    if (reply.then == HTTP_RESET) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    }
    return reply.then == HTTP_KEEP;
}

static void *run_connection(void *argument)
{
    struct connection *connection = argument;
    while (serve(connection)) {
    }
    pthread_mutex_lock(&connection->script->lock);
    close(connection->fd);
    connection->fd = -1;
    pthread_mutex_unlock(&connection->script->lock);
    return NULL;
}

static void *run_listener(void *argument)
{
    struct http_script *script = argument;
    for (;;) {
        int fd = accept(script->listener, NULL, NULL);
        if (fd < 0) {
            return NULL;
        }
        struct connection *connection = calloc(1, sizeof(*connection));
        must(connection, "calloc");
        pthread_mutex_lock(&script->lock);
        bool stopping = script->stopping;
        must(script->connection_count < MAX_CONNECTIONS, "too many connections");
        if (!stopping) {
            connection->script = script;
            connection->fd = fd;
            connection->number = script->connection_count;
            script->connections[script->connection_count++] = connection;
            must(pthread_create(&connection->thread, NULL, run_connection, connection) == 0, "pthread_create");
        }
        pthread_mutex_unlock(&script->lock);
        if (stopping) {
            close(fd);
            free(connection);
            return NULL;
        }
    }
}

struct http_script *http_script_start(http_script_handler *handler, void *context)
{
    struct http_script *script = calloc(1, sizeof(*script));
    must(script, "calloc");
    script->handler = handler;
    script->context = context;
    pthread_mutex_init(&script->lock, NULL);
    pthread_cond_init(&script->changed, NULL);
    script->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(script->listener >= 0, "socket");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    must(bind(script->listener, (struct sockaddr *)&address, length) == 0, "bind");
    must(listen(script->listener, 64) == 0, "listen");
    must(getsockname(script->listener, (struct sockaddr *)&address, &length) == 0, "getsockname");
    snprintf(script->url, sizeof(script->url), "http://127.0.0.1:%d", ntohs(address.sin_port));
    must(pthread_create(&script->thread, NULL, run_listener, script) == 0, "pthread_create");
    return script;
}

void http_script_stop(struct http_script *script)
{
    pthread_mutex_lock(&script->lock);
    script->stopping = true;
    for (size_t i = 0; i < script->connection_count; i++) {
        if (script->connections[i]->fd >= 0) {
            shutdown(script->connections[i]->fd, SHUT_RDWR);
        }
    }
    pthread_cond_broadcast(&script->changed);
    pthread_mutex_unlock(&script->lock);
    shutdown(script->listener, SHUT_RDWR);
    pthread_join(script->thread, NULL);
    close(script->listener);
    for (size_t i = 0; i < script->connection_count; i++) {
        pthread_join(script->connections[i]->thread, NULL);
        free(script->connections[i]->buffer);
        free(script->connections[i]);
    }
    for (size_t i = 0; i < script->requests; i++) {
        free(script->bodies[i].at);
    }
    pthread_mutex_destroy(&script->lock);
    pthread_cond_destroy(&script->changed);
    free(script);
}

const char *http_script_url(const struct http_script *script)
{
    return script->url;
}

size_t http_script_connections(struct http_script *script)
{
    pthread_mutex_lock(&script->lock);
    size_t count = script->connection_count;
    pthread_mutex_unlock(&script->lock);
    return count;
}

size_t http_script_requests(struct http_script *script)
{
    pthread_mutex_lock(&script->lock);
    size_t count = script->requests;
    pthread_mutex_unlock(&script->lock);
    return count;
}

const char *http_script_body(struct http_script *script, size_t number, size_t *length)
{
    pthread_mutex_lock(&script->lock);
    const char *body = number < script->requests ? script->bodies[number].at : NULL;
    if (length) {
        *length = number < script->requests ? script->bodies[number].length : 0;
    }
    pthread_mutex_unlock(&script->lock);
    return body;
}

void http_script_wait(struct http_script *script, size_t requests)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&script->lock);
    while (script->requests < requests) {
        must(pthread_cond_timedwait(&script->changed, &script->lock, &until) == 0, "the request did not come");
    }
    pthread_mutex_unlock(&script->lock);
}
