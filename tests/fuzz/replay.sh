#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
# replay.sh ./fuzz_NAME: runs a fuzz target on its corpus.
exec "$1" "${srcdir:-.}/corpus/${1##*/fuzz_}"/*
