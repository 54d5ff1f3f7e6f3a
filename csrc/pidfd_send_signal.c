/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#include "pmadvise.h"
#include "syscall_nr.h"

/*
 * Send signal `sig` to the process that `pidfd` names, as kill(2) does.
 * Returns 0, or -errno.  See pidfd_send_signal(2), Linux 5.1.
 */
int
pmadvise_pidfd_send_signal(int pidfd, int sig)
{
    return syscall(PMADVISE_NR_PIDFD_SEND_SIGNAL, pidfd, sig, NULL, 0) < 0
               ? -errno
               : 0;
}
