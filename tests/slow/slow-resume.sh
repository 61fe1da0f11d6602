#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# slow-resume.sh CHANNELS MEGABYTES CUTS: that much through one `bistream forward` whose connection is
# cut so often, every byte compared.  Then migrations that have no link for 1, 10 and 60 seconds, in
# each phase: where the guest runs, and where the destination has been asked to take it over, they go on
# as if nothing had been; where the guest waits, --stall-timeout decides.
#
#     PHASES='PHASE...'   only in these
srcdir=$srcdir/../integration
. "$srcdir/resume-functions.sh"

if [ -z "${PHASES:-}" ]; then
    forward_with_cuts "$1" "$2" "$3"
    end_forward
    stop_daemon a
    stop_daemon b
fi

resume_hosts
migrations=0
for phase in ${PHASES:-prepare connect mirror synchronous memory switch device finish-lost finish \
    answer-lost confirm}; do
    for seconds in 1 10 60; do
        migrations=$((migrations + 1))
        case $phase,$seconds in
        synchronous,1) goes_over mirror 1 --copy-storage-synchronous-writes ;;
        synchronous,*) gives_up mirror $seconds --copy-storage-synchronous-writes ;;
        connect,1 | switch,1 | device,1) goes_over $phase 1 ;;
        connect,* | switch,* | device,*) gives_up $phase $seconds ;;
        *) goes_over $phase $seconds ;;
        esac
    done
done
echo "${report:+$report; }$migrations migrations without a link"
