#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# slow-resume.sh CHANNELS MEGABYTES CUTS: that much through one `bistream forward` whose connection is
# cut so often, every byte compared.
srcdir=$srcdir/../integration
. "$srcdir/resume-functions.sh"

forward_with_cuts "$1" "$2" "$3"
