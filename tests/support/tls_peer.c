// SPDX-License-Identifier: Apache-2.0
#include "tls_peer.h"

#include "clickhouse_peer.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CONNECTIONS 16
#define WAIT_SECONDS    30

struct connection {
    struct tls_peer *peer;
    int fd;
    pthread_t thread;
};

struct tls_peer {
    SSL_CTX *context;
    int listener;
    char url[64];
    char ca_file[64];
    pthread_t thread;
    struct connection connections[MAX_CONNECTIONS];
    size_t count; // of the listener's thread, and after its end
    atomic_bool cut_next;
    atomic_size_t inserts;
};

static atomic_bool watching; // whether a client waits for room
static sem_t waits;

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        abort();
    }
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    static int (*real)(int fd, const struct sockaddr *address, socklen_t length);
    *(void **)&real = dlsym(RTLD_NEXT, "connect");
    int small = 16384;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    return real(fd, address, length);
}

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    static ssize_t (*real)(int fd, const void *bytes, size_t length, int flags);
    *(void **)&real = dlsym(RTLD_NEXT, "send");
    ssize_t sent = real(fd, bytes, length, flags);
    if (sent < 0 && errno == EAGAIN && atomic_exchange(&watching, false)) {
        sem_post(&waits);
        errno = EAGAIN;
    }
    return sent;
}

static void wait_for_full_buffer(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS;
    must(sem_timedwait(&waits, &until) == 0, "the client does not wait for room");
}

static void answer(struct tls_peer *peer, SSL *tls, const char *request)
{
    char text[4096];
    struct http_seen seen = {.target = request};
    const char *learned = clickhouse_peer_learned(&seen);
    if (!learned && strstr(request, "INSERT")) {
        atomic_fetch_add(&peer->inserts, 1);
    }
    clickhouse_peer_ok(text, sizeof(text), learned ? learned : "");
    SSL_write(tls, text, (int)strlen(text));
}

static void reset_at_close(int fd)
{
    struct linger linger = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

// One request, chunked. false: the connection is over.
static bool serve(struct connection *connection, SSL *tls, bool served)
{
    static const char end[] = "\r\n0\r\n\r\n";
    size_t filled = 0, room = (size_t)1 << 20;
    char *request = calloc(1, room + 1);
    must(request != NULL, "calloc");
    bool goes_on = false;
    for (int got; (got = SSL_read(tls, request + filled, (int)(room - filled))) > 0;) {
        filled += (size_t)got;
        if (served && strstr(request, "INSERT") && atomic_exchange(&connection->peer->cut_next, false)) {
            wait_for_full_buffer();
            reset_at_close(connection->fd);
            break;
        }
        if (filled > strlen(end) && memcmp(request + filled - strlen(end), end, strlen(end)) == 0) {
            answer(connection->peer, tls, request);
            goes_on = true;
            break;
        }
    }
    free(request);
    return goes_on;
}

static void *run_connection(void *argument)
{
    struct connection *connection = argument;
    SSL *tls = SSL_new(connection->peer->context);
    must(tls != NULL && SSL_set_fd(tls, connection->fd) == 1, "SSL_new");
    if (SSL_accept(tls) == 1) {
        for (bool served = false; serve(connection, tls, served); served = true) {
        }
    } else {
        reset_at_close(connection->fd);
    }
    SSL_free(tls);
    close(connection->fd);
    return NULL;
}

static void *run_listener(void *argument)
{
    struct tls_peer *peer = argument;
    for (int fd; (fd = accept(peer->listener, NULL, NULL)) >= 0;) {
        must(peer->count < MAX_CONNECTIONS, "too many connections");
        struct connection *connection = &peer->connections[peer->count++];
        *connection = (struct connection){.peer = peer, .fd = fd};
        must(pthread_create(&connection->thread, NULL, run_connection, connection) == 0, "pthread_create");
    }
    return NULL;
}

static void make_certificate(struct tls_peer *peer)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *maker = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, NULL);
    must(maker && EVP_PKEY_keygen_init(maker) == 1 && EVP_PKEY_keygen(maker, &key) == 1, "a key");
    EVP_PKEY_CTX_free(maker);
    X509 *certificate = X509_new();
    must(certificate != NULL, "X509_new");
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_NAME *name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"127.0.0.1", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    X509_set_pubkey(certificate, key);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");
    must(extension && X509_add_ext(certificate, extension, -1) == 1, "a name in a certificate");
    X509_EXTENSION_free(extension);
    must(X509_sign(certificate, key, NULL) > 0, "X509_sign");
    peer->context = SSL_CTX_new(TLS_server_method());
    must(peer->context && SSL_CTX_use_certificate(peer->context, certificate) == 1 &&
            SSL_CTX_use_PrivateKey(peer->context, key) == 1,
        "SSL_CTX_new");
    snprintf(peer->ca_file, sizeof(peer->ca_file), "/tmp/tls-peer-XXXXXX");
    int fd = mkstemp(peer->ca_file);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    must(file && PEM_write_X509(file, certificate) == 1 && fclose(file) == 0, peer->ca_file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

struct tls_peer *tls_peer_start(void)
{
    struct tls_peer *peer = calloc(1, sizeof(*peer));
    must(peer != NULL, "calloc");
    make_certificate(peer);
    must(sem_init(&waits, 0, 0) == 0, "sem_init");
    peer->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    int small = 4096;
    setsockopt(peer->listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    must(bind(peer->listener, (struct sockaddr *)&address, length) == 0, "bind");
    must(listen(peer->listener, 16) == 0, "listen");
    must(getsockname(peer->listener, (struct sockaddr *)&address, &length) == 0, "getsockname");
    snprintf(peer->url, sizeof(peer->url), "https://127.0.0.1:%d", ntohs(address.sin_port));
    must(pthread_create(&peer->thread, NULL, run_listener, peer) == 0, "pthread_create");
    return peer;
}

void tls_peer_stop(struct tls_peer *peer)
{
    shutdown(peer->listener, SHUT_RDWR);
    pthread_join(peer->thread, NULL);
    close(peer->listener);
    for (size_t i = 0; i < peer->count; i++) {
        pthread_join(peer->connections[i].thread, NULL); // the client has closed its end
    }
    SSL_CTX_free(peer->context);
    unlink(peer->ca_file);
    sem_destroy(&waits);
    free(peer);
}

void tls_peer_refuse_strangers(struct tls_peer *peer)
{
    SSL_CTX_set_verify(peer->context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

const char *tls_peer_url(const struct tls_peer *peer)
{
    return peer->url;
}

const char *tls_peer_ca_file(const struct tls_peer *peer)
{
    return peer->ca_file;
}

void tls_peer_cut_next(struct tls_peer *peer)
{
    atomic_store(&watching, true);
    atomic_store(&peer->cut_next, true);
}

size_t tls_peer_inserts(struct tls_peer *peer)
{
    return atomic_load(&peer->inserts);
}
