/* A light load generator: threads with one kept-alive connection each, one request after the other.
 *
 * usage: load [-c CLIENTS] [-t SECONDS] [-n REQUESTS] [-p PAUSE_MS] [-w PASSWORD] [-e EXPECTED] PORT [USER...]
 *
 * With users: POST /validate on 127.0.0.1, client i as user i; without: GET /health. Stops after SECONDS or REQUESTS
 * in all. With -p a client pauses for a random time below 2 * PAUSE_MS before each request. An answer is wrong when
 * EXPECTED is not in it. Prints one line: requests per second, milliseconds at three percentiles, requests, wrong
 * answers, and how often each status came.
 */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int port;
static double deadline, pause_ms;
static long limit;
static atomic_long sent;
static const char *password = "", *expected;

struct client {
    pthread_t id;
    const char *user;
    unsigned seed;
    int connection;
    long count, wrong, room;
    double first, last; /* when the first and the last answer came */
    double *times;
    long statuses[600];
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int dial(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1, connection = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof address))
        fail("connect");
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return connection;
}

/* One request and its whole answer, into `answer`; the status, or 0 where the connection ended before the answer did. */
static int ask(int connection, const char *request, size_t size, char *answer, size_t room)
{
    size_t got = 0;
    if (send(connection, request, size, MSG_NOSIGNAL) != (ssize_t)size)
        return 0;
    while (got < room - 1) {
        ssize_t more = recv(connection, answer + got, room - 1 - got, 0);
        if (more <= 0)
            return 0;
        got += more;
        answer[got] = 0;
        char *head_end = strstr(answer, "\r\n\r\n"), *length = strstr(answer, "Content-Length: ");
        if (head_end && length && got >= (size_t)(head_end + 4 - answer) + atol(length + 16))
            return atoi(answer + 9);
    }
    return 0;
}

static void *run(void *data)
{
    struct client *self = data;
    char request[2048], body[1024], answer[4096];
    int size;
    if (self->user) {
        int length = snprintf(body, sizeof body, "{\"username\":\"%s\",\"password\":\"%s\"}", self->user, password);
        size = snprintf(request, sizeof request,
                        "POST /validate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                        "Content-Length: %d\r\n\r\n%s", length, body);
    } else {
        size = snprintf(request, sizeof request, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    while (now() < deadline && atomic_fetch_add(&sent, 1) < limit) {
        if (pause_ms > 0)
            usleep(2e3 * pause_ms * rand_r(&self->seed) / RAND_MAX);
        double start = now();
        int status = ask(self->connection, request, size, answer, sizeof answer);
        self->last = now();
        if (!self->count)
            self->first = self->last;
        if (self->count == self->room) {
            self->room = self->room * 2 + 1024;
            self->times = realloc(self->times, self->room * sizeof *self->times);
            if (!self->times)
                fail("realloc");
        }
        self->times[self->count++] = self->last - start;
        self->statuses[status > 0 && status < 600 ? status : 0]++;
        self->wrong += !status || !strstr(answer, expected);
        if (!status || strstr(answer, "Connection: close")) {
            close(self->connection);
            self->connection = dial();
        }
    }
    return NULL;
}

static int by_time(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    int option, count = 1;
    double seconds = 1e9;
    limit = 1L << 60;
    while ((option = getopt(argc, argv, "c:t:n:p:w:e:")) != -1)
        switch (option) {
        case 'c': count = atoi(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'n': limit = atol(optarg); break;
        case 'p': pause_ms = atof(optarg); break;
        case 'w': password = optarg; break;
        case 'e': expected = optarg; break;
        default: return 2;
        }
    if (optind >= argc || count < 1) {
        fprintf(stderr, "usage: %s [-c CLIENTS] [-t SECONDS] [-n REQUESTS] [-p PAUSE_MS] [-w PASSWORD] [-e EXPECTED] "
                "PORT [USER...]\n", argv[0]);
        return 2;
    }
    port = atoi(argv[optind++]);
    int users = argc - optind;
    if (!expected)
        expected = users ? "\"valid\": true" : "\"healthy\"";

    struct client *clients = calloc(count, sizeof *clients);
    if (!clients)
        fail("calloc");
    for (int i = 0; i < count; i++) {
        clients[i].user = users ? argv[optind + i % users] : NULL;
        clients[i].seed = i + getpid();
        clients[i].connection = dial();
    }
    deadline = now() + seconds;
    for (int i = 0; i < count; i++)
        if (pthread_create(&clients[i].id, NULL, run, &clients[i]))
            fail("pthread_create");

    long total = 0, wrong = 0, statuses[600] = {0};
    double rate = 0;
    for (int i = 0; i < count; i++) {
        struct client *c = &clients[i];
        pthread_join(c->id, NULL);
        total += c->count;
        wrong += c->wrong;
        for (int status = 0; status < 600; status++)
            statuses[status] += c->statuses[status];
        if (c->last > c->first) /* from the first answer to the last: whole requests only, however short the run */
            rate += (c->count - 1) / (c->last - c->first);
    }
    double *times = malloc((total + 1) * sizeof *times);
    if (!times || !total)
        fail("no requests");
    long at = 0;
    for (int i = 0; i < count; i++) {
        memcpy(times + at, clients[i].times, clients[i].count * sizeof *times);
        at += clients[i].count;
    }
    qsort(times, total, sizeof *times, by_time);
    printf("rate=%.2f p50=%.4f p95=%.4f p99=%.4f count=%ld wrong=%ld", rate, times[total / 2] * 1e3,
           times[total * 95 / 100] * 1e3, times[total * 99 / 100] * 1e3, total, wrong);
    for (int status = 0; status < 600; status++)
        if (statuses[status])
            printf(" %d=%ld", status, statuses[status]);
    printf("\n");
    return 0;
}
