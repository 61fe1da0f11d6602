#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Migrations that have no link for a second: while disks are copied, while memory is, while the guest
# stands still for the switch, and when the destination has been asked to take it over.
. "${srcdir:-.}/resume-functions.sh"

resume_hosts
for phase in ${PHASES:-mirror memory switch finish-lost}; do
    goes_over "$phase" 1
done
