/* A light load generator: threads with one kept-alive connection each, one request after the other.
 *
 * usage: load [-c CLIENTS] [-t SECONDS] [-n REQUESTS] [-p PAUSE_MS | -i SECONDS] [-o SECONDS] [-a] [-v]
 *             [-b PATH | -s SERVICE] [-w PASSWORD] [-e EXPECTED] PORT|SOCKET [USER...]
 *
 * With users: POST /validate on 127.0.0.1, client i as user i; without: GET /health. With -b: GET PATH with the user
 * and password as HTTP Basic. With -s: saslauthd's protocol, on a Unix socket, with a connection for each request.
 *
 * Stops after SECONDS or REQUESTS in all. With -p a client pauses for a random time below 2 * PAUSE_MS before each
 * request. With -i requests start every so many seconds, each over a new connection, whether or not those before are
 * answered, as long as a client is free. With -o a request is given up after so many seconds; it counts as a time-out
 * that took as long. With -a what is not answered at the end, or when SIGTERM comes, is neither counted nor waited for.
 * With -v the milliseconds of each request follow in a second line.
 *
 * An answer is wrong when EXPECTED is not in it. Prints one line: requests per second, added up over the clients, and
 * from the start to the last answer; milliseconds at three percentiles, requests, wrong answers, time-outs, and
 * how often each status came (saslauthd's OK and NO as 200 and 401; 0 is no answer).
 */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "times.h"

static const char *target;
static volatile double deadline;
static double begin, pause_ms, interval, patience = 1e9;
static int abandon;
static long limit;
static atomic_long sent;
static const char *password = "", *expected, *basic_path, *sasl_service;
static struct client *clients;
static int count = 1;

struct client {
    pthread_t id;
    const char *user;
    unsigned seed;
    int connection;
    long wrong, timeouts;
    double first, last; /* when the first and the last answer came */
    struct times times;
    long statuses[600];
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Let no call on this connection last longer than the request may; connect(2) waits as long as a send. */
static void limit_wait(int connection, double start)
{
    double until = abandon && deadline < start + patience ? deadline : start + patience, left = until - now();
    struct timeval wait = {.tv_usec = 1};
    if (left > 1e6)
        return;
    if (left > 1e-6)
        wait = (struct timeval){.tv_sec = left, .tv_usec = (left - (long)left) * 1e6};
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
}

/* A new connection, or -1. */
static int dial(void)
{
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_port = htons(atoi(target))};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    int yes = 1, is_local = *target == '/', connection = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    if (connection < 0)
        fail("socket");
    tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    snprintf(local.sun_path, sizeof local.sun_path, "%s", target);
    limit_wait(connection, now());
    if (is_local ? connect(connection, (struct sockaddr *)&local, sizeof local)
                 : connect(connection, (struct sockaddr *)&tcp, sizeof tcp)) {
        close(connection);
        return -1;
    }
    if (!is_local)
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return connection;
}

static char *base64(const char *text, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *at = out;
    for (size_t left = strlen(text); left; text += 3) {
        size_t taken = left < 3 ? left : 3;
        unsigned long bits = (unsigned char)text[0] << 16;
        if (taken > 1)
            bits |= (unsigned char)text[1] << 8;
        if (taken > 2)
            bits |= (unsigned char)text[2];
        for (size_t i = 0; i < 4; i++)
            *at++ = i <= taken ? digits[bits >> (18 - 6 * i) & 63] : '=';
        left -= taken;
    }
    *at = 0;
    return out;
}

static size_t write_request(char *request, size_t room, const char *user)
{
    char body[1024], coded[2048];
    if (sasl_service) { /* four strings, each after its length in two bytes: user, password, service, realm */
        const char *strings[] = {user, password, sasl_service, ""};
        size_t size = 0;
        for (int i = 0; i < 4; i++) {
            size_t length = strlen(strings[i]);
            request[size++] = length >> 8;
            request[size++] = length & 255;
            memcpy(request + size, strings[i], length);
            size += length;
        }
        return size;
    }
    if (basic_path) {
        snprintf(body, sizeof body, "%s:%s", user, password);
        return snprintf(request, room, "GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic %s\r\n\r\n",
                        basic_path, base64(body, coded));
    }
    if (user) {
        int length = snprintf(body, sizeof body, "{\"username\":\"%s\",\"password\":\"%s\"}", user, password);
        return snprintf(request, room,
                        "POST /validate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                        "Content-Length: %d\r\n\r\n%s", length, body);
    }
    return snprintf(request, room, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

/* The status of what has arrived of an answer, -1 as long as it is not whole. */
static int status_of(char *answer, size_t got)
{
    if (sasl_service) { /* a length in two bytes, then OK or NO */
        size_t length = got < 2 ? 2 : (unsigned char)answer[0] << 8 | (unsigned char)answer[1];
        if (got < 2 + length)
            return -1;
        memmove(answer, answer + 2, got - 1);
        return strncmp(answer, "OK", 2) ? 401 : 200;
    }
    char *head_end = strstr(answer, "\r\n\r\n"), *length = strstr(answer, "Content-Length: ");
    if (head_end && length && got >= (size_t)(head_end + 4 - answer) + atol(length + 16))
        return atoi(answer + 9);
    return -1;
}

/* One request and its whole answer, into `answer`; the status, or 0 where none came. */
static int ask(int connection, const char *request, size_t size, char *answer, size_t room)
{
    size_t got = 0;
    *answer = 0;
    if (connection < 0 || send(connection, request, size, MSG_NOSIGNAL) != (ssize_t)size)
        return 0;
    while (got < room - 1) {
        ssize_t more = recv(connection, answer + got, room - 1 - got, 0);
        if (more <= 0)
            return 0;
        got += more;
        answer[got] = 0;
        int status = status_of(answer, got);
        if (status >= 0)
            return status;
    }
    return 0;
}

static void *run(void *data)
{
    struct client *self = data;
    char request[4096], answer[4096];
    size_t size = write_request(request, sizeof request, self->user);
    long ticket;
    while (now() < deadline && (ticket = atomic_fetch_add(&sent, 1)) < limit) {
        if (pause_ms > 0)
            usleep(2e3 * pause_ms * rand_r(&self->seed) / RAND_MAX);
        if (interval > 0) {
            double turn = begin + ticket * interval;
            if (turn >= deadline)
                break;
            while (now() < turn)
                usleep((turn - now()) * 1e6 + 1);
        }
        double start = now();
        if (self->connection < 0)
            self->connection = dial();
        limit_wait(self->connection, start);
        int status = ask(self->connection, request, size, answer, sizeof answer);
        double end = now(), took = end - start;
        if (!status && abandon && end >= deadline)
            break;
        self->last = end;
        if (!self->times.count)
            self->first = end;
        add_times(&self->times, &took, 1);
        self->statuses[status > 0 && status < 600 ? status : 0]++;
        if (!status && took >= patience - 0.01)
            self->timeouts++;
        else
            self->wrong += !status || !strstr(answer, expected);
        if (!status || sasl_service || interval > 0 || strstr(answer, "Connection: close")) {
            close(self->connection);
            self->connection = -1;
        }
    }
    return NULL;
}

static void ignore(int signal)
{
    (void)signal;
}

/* Called when SIGTERM comes: it is the end, and whoever waits for an answer is told. */
static void stop(int signal)
{
    (void)signal;
    deadline = 0;
    for (int i = 0; i < count; i++)
        pthread_kill(clients[i].id, SIGUSR1);
}

int main(int argc, char **argv)
{
    int option, verbose = 0;
    double seconds = 1e9;
    limit = 1L << 60;
    while ((option = getopt(argc, argv, "c:t:n:p:i:o:avb:s:w:e:")) != -1)
        switch (option) {
        case 'c': count = atoi(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'n': limit = atol(optarg); break;
        case 'p': pause_ms = atof(optarg); break;
        case 'i': interval = atof(optarg); break;
        case 'o': patience = atof(optarg); break;
        case 'a': abandon = 1; break;
        case 'v': verbose = 1; break;
        case 'b': basic_path = optarg; break;
        case 's': sasl_service = optarg; break;
        case 'w': password = optarg; break;
        case 'e': expected = optarg; break;
        default: return 2;
        }
    int users = argc - optind - 1;
    if (users < 0 || count < 1 || ((basic_path || sasl_service) && !users)) {
        fprintf(stderr, "usage: %s [-c CLIENTS] [-t SECONDS] [-n REQUESTS] [-p PAUSE_MS | -i SECONDS] [-o SECONDS] "
                "[-a] [-v] [-b PATH | -s SERVICE] [-w PASSWORD] [-e EXPECTED] PORT|SOCKET [USER...]\n", argv[0]);
        return 2;
    }
    target = argv[optind++];
    if (!expected)
        expected = sasl_service ? "OK" : basic_path ? "HTTP/1.1 200" : users ? "\"valid\": true" : "\"healthy\"";

    clients = calloc(count, sizeof *clients);
    if (!clients)
        fail("calloc");
    deadline = now() + seconds;
    for (int i = 0; i < count; i++) {
        clients[i].user = users ? argv[optind + i % users] : NULL;
        clients[i].seed = i + getpid();
        clients[i].connection = sasl_service || interval > 0 ? -1 : dial();
    }
    begin = now();
    deadline = begin + seconds;
    for (int i = 0; i < count; i++)
        if (pthread_create(&clients[i].id, NULL, run, &clients[i]))
            fail("pthread_create");
    if (abandon) {
        sigaction(SIGUSR1, &(struct sigaction){.sa_handler = ignore}, NULL);
        sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
    }

    long wrong = 0, timeouts = 0, statuses[600] = {0};
    struct times times = {0};
    double rate = 0, last = 0;
    for (int i = 0; i < count; i++) {
        struct client *c = &clients[i];
        pthread_join(c->id, NULL);
        wrong += c->wrong;
        timeouts += c->timeouts;
        for (int status = 0; status < 600; status++)
            statuses[status] += c->statuses[status];
        if (c->last > c->first) /* from the first answer to the last: whole requests only, however short the run */
            rate += (c->times.count - 1) / (c->last - c->first);
        if (c->last > last)
            last = c->last;
        add_times(&times, c->times.seconds, c->times.count);
    }
    printf("rate=%.2f overall=%.2f", rate, last > begin ? times.count / (last - begin) : 0.0);
    print_percentiles(&times);
    printf(" count=%ld wrong=%ld timeouts=%ld", times.count, wrong, timeouts);
    for (int status = 0; status < 600; status++)
        if (statuses[status])
            printf(" %d=%ld", status, statuses[status]);
    printf("\n");
    for (long i = 0; verbose && i < times.count; i++)
        printf("%s%.3f", i ? " " : "", times.seconds[i] * 1e3);
    return 0;
}
