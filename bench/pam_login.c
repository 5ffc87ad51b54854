/* Logins against libpam and nothing else: what the service's numbers are held against.
 *
 * usage: pam_login SERVICE THREADS SECONDS PASSWORD USER...
 *
 * Each thread logs one of the users in, over and over, as the service does: pam_start, authenticate, account, pam_end.
 * A handle that stays open keeps the modules mapped, and PAM_FAIL_DELAY is taken over. Prints one line:
 * logins per second, milliseconds of CPU per login (helper processes included), logins, wrong answers.
 */

#include <pthread.h>
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static const char *service, *password;
static double deadline;

struct thread {
    pthread_t id;
    const char *user;
    long logins, wrong;
    double first, last; /* when the first and the last login were done */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu(int who)
{
    struct rusage u;
    getrusage(who, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int converse(int count, const struct pam_message **messages, struct pam_response **answers, void *data)
{
    struct pam_response *answer = calloc(count, sizeof *answer);
    (void)data;
    if (!answer)
        return PAM_BUF_ERR;
    for (int i = 0; i < count; i++)
        if (messages[i]->msg_style == PAM_PROMPT_ECHO_OFF || messages[i]->msg_style == PAM_PROMPT_ECHO_ON)
            answer[i].resp = strdup(password);
    *answers = answer;
    return PAM_SUCCESS;
}

static const struct pam_conv conversation = {converse, NULL};

static void no_delay(int status, unsigned delay, void *data)
{
    (void)status, (void)delay, (void)data;
}

static int login(const char *user)
{
    pam_handle_t *handle;
    int code = pam_start(service, user, &conversation, &handle);
    if (code != PAM_SUCCESS)
        return code;
    pam_set_item(handle, PAM_FAIL_DELAY, (const void *)no_delay);
    pam_set_item(handle, PAM_TTY, "bench");
    pam_set_item(handle, PAM_RHOST, "127.0.0.1");
    code = pam_authenticate(handle, PAM_DISALLOW_NULL_AUTHTOK);
    if (code == PAM_SUCCESS)
        code = pam_acct_mgmt(handle, PAM_DISALLOW_NULL_AUTHTOK);
    pam_end(handle, code);
    return code;
}

static void *run(void *data)
{
    struct thread *self = data;
    do {
        self->wrong += login(self->user) != PAM_SUCCESS;
        self->last = now();
        if (!self->logins++)
            self->first = self->last;
    } while (self->last < deadline);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "usage: %s SERVICE THREADS SECONDS PASSWORD USER...\n", argv[0]);
        return 2;
    }
    service = argv[1];
    password = argv[4];
    int count = atoi(argv[2]);
    struct thread *threads = calloc(count, sizeof *threads);
    pam_handle_t *kept;
    if (!threads || pam_start(service, "", &conversation, &kept) != PAM_SUCCESS) {
        fprintf(stderr, "%s: cannot start\n", argv[0]);
        return 1;
    }
    login(argv[5]); /* what a first login alone does is not measured */

    double before = cpu(RUSAGE_SELF) + cpu(RUSAGE_CHILDREN);
    deadline = now() + atof(argv[3]);
    for (int i = 0; i < count; i++) {
        threads[i].user = argv[5 + i % (argc - 5)];
        if (pthread_create(&threads[i].id, NULL, run, &threads[i])) {
            fprintf(stderr, "%s: cannot start thread %d\n", argv[0], i);
            return 1;
        }
    }
    long logins = 0, wrong = 0;
    double rate = 0;
    for (int i = 0; i < count; i++) {
        struct thread *t = &threads[i];
        pthread_join(t->id, NULL);
        logins += t->logins;
        wrong += t->wrong;
        if (t->last > t->first) /* from the first done to the last: whole logins only, however short the run */
            rate += (t->logins - 1) / (t->last - t->first);
    }
    double spent = cpu(RUSAGE_SELF) + cpu(RUSAGE_CHILDREN) - before;
    printf("rate=%.2f cpu_ms=%.5f count=%ld wrong=%ld\n", rate, spent / logins * 1e3, logins, wrong);
    return 0;
}
