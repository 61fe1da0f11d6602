/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Who may come in, and what a peer may reach here: see access.h.
 *
 * A path that would have to be normalised before it can be compared is not normalised but refused:
 * nobody needs "/run/vm/../x" but who wants to get past a pattern.
 */
#include "config.h"

#include "daemon/access.h"

#include <fnmatch.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

const char *access_peer(char *const *patterns, const char *const *names)
{
    for (; *names; names++)
        for (char *const *pattern = patterns; *pattern; pattern++)
            if (fnmatch(*pattern, *names, FNM_CASEFOLD) == 0)
                return *names;
    return NULL;
}

static bool is_plain(const char *path)
{
    if (path[0] != '/' || strlen(path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return false;
    while (*path == '/') {
        size_t length = strcspn(path + 1, "/");

        if (length == 0 || (length == 1 && path[1] == '.') ||
            (length == 2 && path[1] == '.' && path[2] == '.'))
            return false;
        path += 1 + length;
    }
    return true;
}

bool access_forward(char *const *patterns, const char *path)
{
    if (!is_plain(path))
        return false;
    for (; *patterns; patterns++)
        if (fnmatch(*patterns, path, FNM_PATHNAME) == 0)
            return true;
    return false;
}

bool access_tap(char *const *patterns, const char *ifname)
{
    for (; *patterns; patterns++)
        if (fnmatch(*patterns, ifname, 0) == 0)
            return true;
    return false;
}
