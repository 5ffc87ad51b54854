/* A source of NSS that knows nobody, and hangs while a file is there: /etc/hang-passwd for names
 * that begin with `hang`, /etc/hang-group for the groups of anybody, /etc/hang-list for the list of
 * accounts. */

#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

static enum nss_status nobody(const char *file) {
    while (access(file, F_OK) == 0)
        usleep(10000);
    return NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_hang_getpwnam_r(const char *name, struct passwd *row, char *buffer,
                                     size_t length, int *error) {
    return nobody(strncmp(name, "hang", 4) ? "" : "/etc/hang-passwd");
}

enum nss_status _nss_hang_initgroups_dyn(const char *user, gid_t gid, long *start, long *size,
                                         gid_t **groups, long limit, int *error) {
    return nobody("/etc/hang-group");
}

enum nss_status _nss_hang_setpwent(int stay_open) { return NSS_STATUS_SUCCESS; }

enum nss_status _nss_hang_getpwent_r(struct passwd *row, char *buffer, size_t length, int *error) {
    return nobody("/etc/hang-list");
}

enum nss_status _nss_hang_endpwent(void) { return NSS_STATUS_SUCCESS; }
