/* Logins against libpam and nothing else: what the service's numbers are held against.
 *
 * usage: pam_login [-u | -x HASH] SERVICE THREADS SECONDS PASSWORD USER...
 *
 * Each thread logs one of the users in, over and over, as the service does: pam_start, authenticate, account, pam_end.
 * A handle that stays open keeps the modules mapped, and PAM_FAIL_DELAY is taken over. With -u no handle stays open;
 * with -x libpam is not asked at all: crypt_r compares the password with HASH, once. Prints one line: logins per
 * second, added up over the threads, and from the start to the last done; milliseconds at three percentiles,
 * milliseconds of CPU per login (helper processes included), logins, wrong answers.
 */

#include <crypt.h>
#include <pthread.h>
#include <security/pam_appl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "times.h"

static const char *service, *password, *hash;
static double deadline;

struct thread {
    pthread_t id;
    const char *user;
    long wrong;
    double first, last; /* when the first and the last login were done */
    struct times times;
};

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
    static _Thread_local struct crypt_data scratch;
    pam_handle_t *handle;
    if (hash) {
        const char *made = crypt_r(password, hash, &scratch);
        return made && !strcmp(made, hash) ? PAM_SUCCESS : PAM_AUTH_ERR;
    }
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
        double start = now();
        self->wrong += login(self->user) != PAM_SUCCESS;
        self->last = now();
        if (!self->times.count)
            self->first = self->last;
        double took = self->last - start;
        add_times(&self->times, &took, 1);
    } while (self->last < deadline);
    return NULL;
}

int main(int argc, char **argv)
{
    int option, unmapped = 0;
    while ((option = getopt(argc, argv, "ux:")) != -1)
        switch (option) {
        case 'u': unmapped = 1; break;
        case 'x': hash = optarg; break;
        default: return 2;
        }
    int users = argc - optind - 4;
    if (users < 1) {
        fprintf(stderr, "usage: %s [-u | -x HASH] SERVICE THREADS SECONDS PASSWORD USER...\n", argv[0]);
        return 2;
    }
    argv += optind;
    service = argv[0];
    password = argv[3];
    int count = atoi(argv[1]);
    struct thread *threads = calloc(count, sizeof *threads);
    pam_handle_t *kept;
    if (!threads || (!unmapped && !hash && pam_start(service, "", &conversation, &kept) != PAM_SUCCESS)) {
        fprintf(stderr, "pam_login: cannot start\n");
        return 1;
    }
    login(argv[4]); /* what a first login alone does is not measured */

    double before = cpu(RUSAGE_SELF) + cpu(RUSAGE_CHILDREN);
    double begin = now();
    deadline = begin + atof(argv[2]);
    for (int i = 0; i < count; i++) {
        threads[i].user = argv[4 + i % users];
        if (pthread_create(&threads[i].id, NULL, run, &threads[i])) {
            fprintf(stderr, "pam_login: cannot start thread %d\n", i);
            return 1;
        }
    }
    long wrong = 0;
    struct times times = {0};
    double rate = 0, last = 0;
    for (int i = 0; i < count; i++) {
        struct thread *t = &threads[i];
        pthread_join(t->id, NULL);
        wrong += t->wrong;
        if (t->last > t->first) /* from the first done to the last: whole logins only, however short the run */
            rate += (t->times.count - 1) / (t->last - t->first);
        if (t->last > last)
            last = t->last;
        add_times(&times, t->times.seconds, t->times.count);
    }
    double spent = cpu(RUSAGE_SELF) + cpu(RUSAGE_CHILDREN) - before;
    printf("rate=%.2f overall=%.2f", rate, times.count / (last - begin));
    print_percentiles(&times);
    printf(" cpu_ms=%.5f count=%ld wrong=%ld\n", spent / times.count * 1e3, times.count, wrong);
    return 0;
}
