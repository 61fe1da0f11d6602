# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
# Included by every Makefile.am: one set of flags for all code that people wrote.
AM_CFLAGS = -std=gnu11 $(WARNING_CFLAGS) -pthread
AM_CPPFLAGS = -I$(top_srcdir) -I$(top_builddir)
