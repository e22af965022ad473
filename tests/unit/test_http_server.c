// SPDX-License-Identifier: Apache-2.0
#include "relay/base/log.h"
#include "relay/base/version.h"
#include "relay/ops/http_server.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MANY        400
#define PATIENCE_MS 10000
#define SOON_MS     3000 // well below 5 s, after which libmicrohttpd itself closes what is idle

static struct clock_fake fake;
static struct status_board *board;
static struct metrics *metrics;
static struct stop stop;
static struct config config;
static struct relay_context context;
static struct http_server *server;
static unsigned port;
static int patience_ms;
static bool without_ipv6;
static int lookup_failure; // what getaddrinfo() answers, where a test says so
static char answer[1 << 18];

// The real one needs a thread; the server only asks for the list.
json_t *alerts_recent_json(struct alerts *alerts)
{
    (void)alerts;
    return json_pack("[{s:s}]", "name", "outbox_backlog");
}

// In place of the C library's: a kernel without IPv6 where a test says so.
int socket(int domain, int type, int protocol)
{
    static int (*real)(int domain, int type, int protocol);
    *(void **)&real = dlsym(RTLD_NEXT, "socket");
    if (without_ipv6 && domain == AF_INET6) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    return real(domain, type, protocol);
}

// In place of the C library's: a resolver that fails where a test says so.
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return lookup_failure != 0 ? lookup_failure : real(name, service, hints, found);
}

static void read_port(void *unused, enum log_level level, const char *line)
{
    (void)unused;
    (void)level;
    const char *at = strstr(line, "127.0.0.1:");
    at = at != NULL ? at : strstr(line, "0.0.0.0:");
    if (at != NULL) {
        sscanf(strchr(at, ':'), ":%u", &port);
    }
}

static void start(void)
{
    patience_ms = PATIENCE_MS;
    log_set_sink(read_port, NULL);
    clock_fake_init(&fake, (struct mono_time){DURATION_S(1000).ns}, (struct wall_time){0});
    board = status_board_new(&fake.base, NULL);
    metrics = metrics_new(NULL);
    stop_init(&stop, NULL);
    static char listen[] = "127.0.0.1:0";
    config.http.listen = listen;
    context = (struct relay_context){.config = &config,
        .clock = &fake.base,
        .metrics = metrics,
        .board = board,
        .stop = &stop,
        .instance = "0123456789abcdef"};
    struct relay_error error;
    server = http_server_start(&context, (struct alerts *)&context, &error);
    cr_assert_not_null(server, "%s", error.text);
    cr_assert_neq(port, 0);
}

static void end(void)
{
    http_server_stop(server);
    stop_finish(&stop);
    metrics_free(metrics);
    status_board_free(board);
    log_set_sink(NULL, NULL);
}

// From 127.0.0.NUMBER.
static int dial_from(unsigned number)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + number)};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static int dial(void)
{
    return dial_from(1);
}

// Reads to the end of the stream.
static void read_all(int fd)
{
    size_t filled = 0;
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    for (;;) {
        cr_assert_eq(poll(&polled, 1, patience_ms), 1, "no answer within %d ms", patience_ms);
        ssize_t got = recv(fd, answer + filled, sizeof(answer) - filled - 1, 0);
        if (got <= 0) {
            break;
        }
        filled += (size_t)got;
    }
    answer[filled] = '\0';
    close(fd);
}

// Sends the bytes and returns the status of what came back (0: nothing), the whole of it in `answer`.
static int ask(const char *request)
{
    int fd = dial();
    (void)!send(fd, request, strlen(request), MSG_NOSIGNAL);
    read_all(fd);
    int status = 0;
    sscanf(answer, "HTTP/1.%*d %d", &status);
    return status;
}

static int get(const char *path)
{
    char request[256];
    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    return ask(request);
}

static const char *body(void)
{
    const char *at = strstr(answer, "\r\n\r\n");
    return at == NULL ? "" : at + 4;
}

TestSuite(http_server, .init = start, .fini = end, .timeout = 60);

Test(http_server, health_is_the_board_and_what_stands_around_it)
{
    status_board_set(board, STATUS_PUBLISH, "default", STATUS_OK, "");
    metric_set(metrics_series1(metrics, METRIC_BREAKER_STATE, "kafka"), 2);
    metric_add(metrics_series1(metrics, METRIC_EVENTS_PUBLISHED, "nova.order.events"), 7);
    metric_set(metrics_series2(metrics, METRIC_CONSUMER_LAG, "t", "3"), 12);
    clock_fake_advance(&fake, DURATION_S(90));
    cr_assert_eq(get("/health"), 200);
    json_t *root = json_loads(body(), 0, NULL);
    cr_assert_not_null(root);
    cr_assert_str_eq(json_string_value(json_object_get(root, "status")), "ok");
    cr_assert_str_eq(json_string_value(json_object_get(root, "version")), relay_version());
    cr_assert_eq(json_integer_value(json_object_get(root, "uptime_seconds")), 90);
    const json_t *breaker = json_array_get(json_object_get(root, "breakers"), 0);
    cr_assert_str_eq(json_string_value(json_object_get(breaker, "dependency")), "kafka");
    cr_assert_str_eq(json_string_value(json_object_get(breaker, "state")), "open");
    const json_t *published = json_array_get(json_object_get(root, "published"), 0);
    cr_assert_eq(json_integer_value(json_object_get(published, "events")), 7);
    const json_t *lag = json_array_get(json_object_get(root, "lag"), 0);
    cr_assert_str_eq(json_string_value(json_object_get(lag, "partition")), "3");
    cr_assert_eq(json_integer_value(json_object_get(lag, "messages")), 12);
    const json_t *alert = json_array_get(json_object_get(root, "alerts"), 0);
    cr_assert_str_eq(json_string_value(json_object_get(alert, "name")), "outbox_backlog");
    json_decref(root);
}

// 2 topics of 200 partitions each; the hash decides which are walked first.
Test(http_server, what_health_tells_of_the_whole_is_of_every_series)
{
    for (int i = 0; i < 400; i++) {
        char partition[16];
        snprintf(partition, sizeof(partition), "%d", i / 2);
        metric_set(metrics_series2(metrics, METRIC_CONSUMER_LAG, i % 2 == 0 ? "even" : "odd", partition),
            i % 2 == 0 ? 0 : 5);
        metric_add(metrics_series1(metrics, METRIC_EVENTS_PUBLISHED, partition), 1);
    }
    metric_set(metrics_series2(metrics, METRIC_CONSUMER_LAG, "even", "7"), 1000);
    metric_set(metrics_series2(metrics, METRIC_CONSUMER_LAG, "late", "0"), 3);
    cr_assert_eq(get("/health"), 200);
    json_error_t why;
    json_t *root = json_loads(body(), 0, &why);
    cr_assert_not_null(root, "%s", why.text);
    json_int_t lag, left_out, even, even_partitions, even_behind, odd, late, published;
    cr_assert_eq(json_unpack_ex(root, &why, 0, "{s:{s:I, s:I}, s:{s:I, s:I}, s:{s:{s:I, s:I, s:I}, s:{s:I}, s:{s:I}}}",
                     "totals", "lag", &lag, "published", &published, "left_out", "lag", &left_out, "published",
                     &(json_int_t){0}, "lag_by_topic", "even", "messages", &even, "partitions", &even_partitions,
                     "partitions_behind", &even_behind, "odd", "messages", &odd, "late", "messages", &late),
        0, "%s", why.text);
    cr_assert(lag == 2003 && even == 1000 && odd == 1000 && late == 3 && published == 400);
    cr_assert(even_partitions == 200 && even_behind == 1);
    const json_t *list = json_object_get(root, "lag");
    cr_assert_eq(json_array_size(list), 200);
    cr_assert_eq(left_out, 201);
    for (size_t i = 0; i < json_array_size(list); i++) {
        cr_assert_gt(json_integer_value(json_object_get(json_array_get(list, i), "messages")), 0);
    }
    json_decref(root);
}

Test(http_server, health_is_503_only_when_down)
{
    status_board_set(board, STATUS_PUBLISH, "default", STATUS_DEGRADED, "a topic is parked");
    cr_assert_eq(get("/health"), 200);
    cr_assert_not_null(strstr(body(), "\"degraded\""));
    status_board_set(board, STATUS_KAFKA, "", STATUS_DOWN, "no broker");
    cr_assert_eq(get("/health"), 503);
    cr_assert_not_null(strstr(body(), "no broker"));
}

Test(http_server, live_names_the_silent_loop)
{
    cr_assert_eq(get("/live"), 200);
    struct heartbeat *heartbeat = status_board_heartbeat(board, "publish", DURATION_S(10), NULL);
    clock_fake_advance(&fake, DURATION_S(11));
    cr_assert_eq(get("/live"), 503);
    cr_assert_not_null(strstr(body(), "\"loop\":\"publish\""));
    heartbeat_end(heartbeat);
    cr_assert_eq(get("/live"), 200);
}

Test(http_server, ready_says_who_is_not)
{
    cr_assert_eq(get("/ready"), 503);
    cr_assert_not_null(strstr(body(), "no stage runs yet"));
    status_board_set_ready(board, STATUS_PUBLISH, "default", true);
    status_board_set_ready(board, STATUS_INSERT, "", false);
    cr_assert_eq(get("/ready"), 503);
    cr_assert_not_null(strstr(body(), "insert"));
    status_board_set_ready(board, STATUS_INSERT, "", true);
    cr_assert_eq(get("/ready"), 200);
    stop_raise(&stop, (struct mono_time){0});
    cr_assert_eq(get("/ready"), 503);
    cr_assert_not_null(strstr(body(), "stopping"));
}

Test(http_server, metrics_have_their_content_type)
{
    cr_assert_eq(get("/metrics"), 200);
    cr_assert_not_null(strstr(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    cr_assert_not_null(strstr(body(), "# TYPE outbox_relay_events_published_total counter\n"));
}

Test(http_server, the_page_stands_alone_and_its_policy_says_so)
{
    cr_assert_eq(get("/"), 200);
    cr_assert_not_null(strstr(answer, "Content-Security-Policy: default-src 'none'; script-src 'sha256-"));
    cr_assert_not_null(strstr(answer, "X-Content-Type-Options: nosniff"));
    cr_assert_null(strstr(body(), "http://"));
    cr_assert_null(strstr(body(), "https://"));
}

Test(http_server, other_methods_and_paths_are_refused)
{
    cr_assert_eq(ask("POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"), 405);
    cr_assert_not_null(strstr(answer, "Allow: GET, HEAD\r\n"));
    cr_assert_not_null(strstr(body(), "\"error\""));
    cr_assert_eq(ask("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n"), 405);
    cr_assert_eq(get("/admin"), 404);
    cr_assert_not_null(strstr(body(), "\"error\""));
    cr_assert_eq(get("/../etc/passwd"), 404);
    cr_assert_eq(get("/health/"), 404);
}

Test(http_server, head_has_no_body)
{
    cr_assert_eq(ask("HEAD /live HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
    cr_assert_str_eq(body(), "");
    cr_assert_not_null(strstr(answer, "Content-Length: 17\r\n"));
}

Test(http_server, garbage_and_oversized_requests_do_no_harm)
{
    int status = ask("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\r\n\r\n");
    cr_assert(status == 0 || (status >= 400 && status < 500), "%d", status);
    static char request[64 * 1024];
    int filled = snprintf(request, sizeof(request), "GET /health HTTP/1.1\r\nHost: x\r\nX-Long: ");
    memset(request + filled, 'a', 32 * 1024);
    strcpy(request + filled + 32 * 1024, "\r\n\r\n");
    status = ask(request);
    cr_assert(status == 0 || (status >= 400 && status < 500), "%d", status);
    filled = snprintf(request, sizeof(request), "GET /");
    memset(request + filled, 'a', 32 * 1024);
    strcpy(request + filled + 32 * 1024, " HTTP/1.1\r\nHost: x\r\n\r\n");
    status = ask(request);
    cr_assert(status == 0 || (status >= 400 && status < 500), "%d", status);
    cr_assert_eq(get("/live"), 200);
}

// So many that idle, shared by so many addresses: the oldest is cut, and a newcomer is answered.
static void idle_from(unsigned addresses, unsigned count)
{
    static int idle[MANY];
    patience_ms = SOON_MS;
    for (unsigned i = 0; i < count; i++) {
        idle[i] = dial_from(1 + i * addresses / count);
    }
    cr_assert_eq(get("/live"), 200);
    struct pollfd oldest = {.fd = idle[0], .events = POLLIN};
    cr_assert_eq(poll(&oldest, 1, SOON_MS), 1);
    struct pollfd newest = {.fd = idle[count - 1], .events = POLLIN};
    cr_assert_eq(poll(&newest, 1, 0), 0);
    for (unsigned i = 0; i < count; i++) {
        close(idle[i]);
    }
    cr_assert_eq(get("/live"), 200);
}

Test(http_server, idle_connections_make_room)
{
    idle_from(1, MANY);
}

Test(http_server, idle_connections_of_several_addresses_make_room)
{
    idle_from(3, 300); // none has more than its share
}

Test(http_server, a_slow_client_is_cut_when_its_time_is_over)
{
    patience_ms = SOON_MS;
    int slow = dial();
    cr_assert_eq(send(slow, "GET /live", 9, 0), 9);
    cr_assert_eq(get("/live"), 200); // by now the server has the slow one
    clock_fake_advance(&fake, DURATION_S(11));
    cr_assert_eq(get("/live"), 200); // turns the loop
    read_all(slow);
    cr_assert_null(strstr(answer, "200 OK"));
}

Test(http_server, every_address_is_ipv4s_where_there_is_no_ipv6)
{
    char listen[] = ":0";
    struct config second = {.http = {.listen = listen}};
    struct relay_context other = context;
    other.config = &second;
    struct relay_error error = {0};
    without_ipv6 = true;
    struct http_server *on_ipv4 = http_server_start(&other, NULL, &error);
    without_ipv6 = false;
    cr_assert_not_null(on_ipv4, "%s", error.text);
    cr_assert_eq(get("/live"), 200);
    http_server_stop(on_ipv4);
}

Test(http_server, an_address_in_use_is_said)
{
    char listen[64];
    snprintf(listen, sizeof(listen), "127.0.0.1:%u", port);
    struct config second = {.http = {.listen = listen}};
    struct relay_context other = context;
    other.config = &second;
    struct relay_error error = {0};
    cr_assert_null(http_server_start(&other, NULL, &error));
    cr_assert_eq(error.code, RELAY_ERROR_SYSTEM);
    cr_assert_not_null(strstr(error.text, listen));
    listen[0] = '\0';
    cr_assert_null(http_server_start(&other, NULL, &error));
    cr_assert_eq(error.code, RELAY_ERROR_NONE);
    snprintf(listen, sizeof(listen), "nonsense");
    cr_assert_null(http_server_start(&other, NULL, &error));
    cr_assert_eq(error.code, RELAY_ERROR_CONFIG);
}

// CONFIG ends the daemon with 78, after which systemd does not start it again; with SYSTEM it does.
Test(http_server, only_a_name_that_does_not_exist_is_a_bad_configuration)
{
    static const struct {
        int failure;
        enum relay_error_code code;
    } cases[] = {
        {EAI_NONAME, RELAY_ERROR_CONFIG},
        {EAI_AGAIN, RELAY_ERROR_SYSTEM},
        {EAI_FAIL, RELAY_ERROR_SYSTEM},
        {EAI_SYSTEM, RELAY_ERROR_SYSTEM},
        {EAI_MEMORY, RELAY_ERROR_SYSTEM},
    };
    char listen[] = "relay-1.internal:8000";
    struct config second = {.http = {.listen = listen}};
    struct relay_context other = context;
    other.config = &second;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct relay_error error = {0};
        lookup_failure = cases[i].failure;
        cr_assert_null(http_server_start(&other, NULL, &error));
        cr_assert_eq(error.code, cases[i].code, "%d: %s", cases[i].failure, error.text);
        cr_assert_not_null(strstr(error.text, "relay-1.internal"), "%s", error.text);
    }
}
