/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The daemon's configuration: see conf.h.
 *
 * libconfuse parses the file; a validator per key runs right behind the key's value, so that a
 * wrong value is named with its line just as a syntax error or an unknown key is.  What came out
 * is copied into struct config, and libconfuse's own tree is gone before the daemon starts.
 *
 * libconfuse 3.3 counts the line of every # and // comment three times, so it is given the file
 * with these blanked out.
 */
#include "config.h"

#include "daemon/conf.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "io/net.h"
#include "rpc/protocol.h"

#include <confuse.h>
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define MEMORY_MIN (UINT64_C(4) << 20) /* below it a session would have hardly any channels */
#define MEMORY_MAX (UINT64_C(16) << 30)
enum { TIME_MIN_MS = 100, TIME_MAX_MS = 600000 };
enum { PORT_MAX = 65535 };
enum { TEXT_MAX = 1 << 20 }; /* of the whole file */

/* Where libconfuse's messages go: its callback gets no argument of ours.  The configuration is
 * read before any thread starts. */
static struct error *parse_error;
static const char *parse_path;

/* The first message is kept: later ones only say that something went wrong before. */
static void keep_error(cfg_t *cfg, const char *format, va_list args)
{
    char text[ERROR_TEXT_MAX / 2];

    if (parse_error->code)
        return;
    vsnprintf(text, sizeof text, format, args);
    error_set(parse_error, EINVAL, "%s:%d: %s", parse_path, cfg->line, text);
}

/* ---- values ---------------------------------------------------------------------------------- */

struct unit {
    const char *suffix;
    uint64_t factor;
};

static const struct unit size_units[] = {{"", 1},
                                         {"K", UINT64_C(1) << 10},
                                         {"M", UINT64_C(1) << 20},
                                         {"G", UINT64_C(1) << 30},
                                         {NULL, 0}};
static const struct unit time_units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {NULL, 0}};

/* Parses "64M" or "5s".  Returns false for anything that is not a number and a known unit. */
static bool parse_quantity(const char *text, const struct unit *units, uint64_t *ret)
{
    unsigned long long number;
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    number = strtoull(text, &end, 10);
    if (errno)
        return false;
    for (; units->suffix; units++)
        if (strcmp(end, units->suffix) == 0)
            return checked_mul_u64(number, units->factor, ret);
    return false;
}

static int check_memory(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *text = cfg_opt_getnstr(opt, 0);
    uint64_t bytes;

    if (parse_quantity(text, size_units, &bytes) && bytes >= MEMORY_MIN && bytes <= MEMORY_MAX)
        return 0;
    cfg_error(cfg, "%s = \"%s\": a size from 4M to 16G is wanted, such as \"64M\"",
              cfg_opt_name(opt), text);
    return -1;
}

static int check_time(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *text = cfg_opt_getnstr(opt, 0);
    uint64_t ms;

    if (parse_quantity(text, time_units, &ms) && ms >= TIME_MIN_MS && ms <= TIME_MAX_MS)
        return 0;
    cfg_error(cfg, "%s = \"%s\": a time from 100ms to 10m is wanted, such as \"5s\"",
              cfg_opt_name(opt), text);
    return -1;
}

static int check_grace(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *text = cfg_opt_getnstr(opt, 0);
    uint64_t ms;

    if (parse_quantity(text, time_units, &ms) && ms <= BS_GRACE_MAX_MS)
        return 0;
    cfg_error(cfg, "%s = \"%s\": a time up to 10m is wanted, such as \"5m\"; \"0s\" is none",
              cfg_opt_name(opt), text);
    return -1;
}

/* Parses "49152-49215"; "" is no port.  Returns false for anything else. */
static bool parse_ports(const char *text, unsigned *ret_first, unsigned *ret_last)
{
    unsigned first = 0, last = 0;
    int end = 0;

    if (text[0] &&
        (sscanf(text, "%5u-%5u%n", &first, &last, &end) != 2 || text[end] ||
         text[strspn(text, "0123456789-")] || first < 1 || last > PORT_MAX || first > last))
        return false;
    *ret_first = first;
    *ret_last = last;
    return true;
}

static int check_ports(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *text = cfg_opt_getnstr(opt, 0);
    unsigned first, last;

    if (parse_ports(text, &first, &last))
        return 0;
    cfg_error(cfg,
              "%s = \"%s\": the first and the last of some ports are wanted, such as "
              "\"49152-49215\"; \"\" is none",
              cfg_opt_name(opt), text);
    return -1;
}

static int check_listen(cfg_t *cfg, cfg_opt_t *opt)
{
    struct net_address address;
    struct error err = ERROR_INIT;

    if (net_parse_listen(cfg_opt_getnstr(opt, 0), &address, &err) == 0)
        return 0;
    cfg_error(cfg, "%s: %s", cfg_opt_name(opt), err.text);
    return -1;
}

static int check_path(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *path = cfg_opt_getnstr(opt, 0);

    if (path[0] == '/' && strlen(path) < BS_PATH_MAX)
        return 0;
    cfg_error(cfg, "%s = \"%s\": a path from the root (/...) is wanted", cfg_opt_name(opt), path);
    return -1;
}

static int check_socket(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *path = cfg_opt_getnstr(opt, 0);
    struct sockaddr_un address;

    if (strlen(path) < sizeof address.sun_path)
        return check_path(cfg, opt);
    cfg_error(cfg, "%s = \"%s\": a socket's path has at most %zu bytes", cfg_opt_name(opt), path,
              sizeof address.sun_path - 1);
    return -1;
}

static int check_group(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *name = cfg_opt_getnstr(opt, 0);

    if (name[0] == '\0' || getgrnam(name))
        return 0;
    cfg_error(cfg, "%s = \"%s\": there is no such group; make it with \"groupadd --system %s\"",
              cfg_opt_name(opt), name, name);
    return -1;
}

static int check_command(cfg_t *cfg, cfg_opt_t *opt)
{
    if (cfg_opt_getnstr(opt, 0)[0] != '\0')
        return 0;
    cfg_error(cfg, "%s is empty: a program's name or path is wanted", cfg_opt_name(opt));
    return -1;
}

static int check_patterns(cfg_t *cfg, cfg_opt_t *opt)
{
    for (unsigned i = 0; i < cfg_opt_size(opt); i++) {
        if (cfg_opt_getnstr(opt, i)[0] == '\0') {
            cfg_error(cfg, "%s: an empty pattern matches nothing; leave it out", cfg_opt_name(opt));
            return -1;
        }
    }
    return 0;
}

static int check_forwards(cfg_t *cfg, cfg_opt_t *opt)
{
    for (unsigned i = 0; i < cfg_opt_size(opt); i++) {
        const char *pattern = cfg_opt_getnstr(opt, i);

        if (pattern[0] != '/') {
            cfg_error(cfg, "%s: \"%s\" matches nothing: patterns are of paths from the root (/...)",
                      cfg_opt_name(opt), pattern);
            return -1;
        }
    }
    return 0;
}

/* ---- the file -------------------------------------------------------------------------------- */

static const struct {
    const char *key;
    cfg_validate_callback_t check;
} checks[] = {
    {"listen", check_listen},
    {"control_socket", check_socket},
    {"control_group", check_group},
    {"pki_dir", check_path},
    {"run_dir", check_path},
    {"state_dir", check_path},
    {"pool_dir", check_path},
    {"allowed_peers", check_patterns},
    {"forward_allow", check_forwards},
    {"tap_allow", check_patterns},
    {"session_memory", check_memory},
    {"ping", check_time},
    {"grace", check_grace},
    {"stall_timeout", check_time},
    {"direct_ports", check_ports},
    {"direct_pki_dir", check_path},
    {"qemu_binary", check_command},
};

/* A copy of the list KEY, NULL-terminated; NULL when memory is short. */
static char **copy_list(cfg_t *cfg, const char *key)
{
    unsigned count = cfg_size(cfg, key);
    char **list = calloc(count + 1, sizeof *list);

    for (unsigned i = 0; list && i < count; i++) {
        list[i] = strdup(cfg_getnstr(cfg, key, i));
        if (!list[i]) {
            while (i-- > 0)
                free(list[i]);
            free(list);
            return NULL;
        }
    }
    return list;
}

/* Without a word in the file the group "bistream" may connect, if this host has it and the daemon
 * may give files away. */
static char *copy_group(cfg_t *cfg)
{
    const char *name = cfg_getstr(cfg, "control_group");

    if (!name)
        return geteuid() == 0 && getgrnam("bistream") ? strdup("bistream") : NULL;
    return name[0] ? strdup(name) : NULL;
}

static bool copy_config(cfg_t *cfg, struct config *config)
{
    const char *direct_pki_dir = cfg_getstr(cfg, "direct_pki_dir");
    uint64_t ping_ms = 0, grace_ms = 0, stall_ms = 0;

    config->listen = strdup(cfg_getstr(cfg, "listen"));
    config->control_socket = strdup(cfg_getstr(cfg, "control_socket"));
    config->control_group = copy_group(cfg);
    config->pki_dir = strdup(cfg_getstr(cfg, "pki_dir"));
    config->run_dir = strdup(cfg_getstr(cfg, "run_dir"));
    config->state_dir = strdup(cfg_getstr(cfg, "state_dir"));
    config->pool_dir = strdup(cfg_getstr(cfg, "pool_dir"));
    config->allowed_peers = copy_list(cfg, "allowed_peers");
    config->forward_allow = copy_list(cfg, "forward_allow");
    config->tap_allow = copy_list(cfg, "tap_allow");
    config->offer_bistream = cfg_getbool(cfg, "offer_bistream");
    config->qemu_binary = strdup(cfg_getstr(cfg, "qemu_binary"));
    config->qemu_args = copy_list(cfg, "qemu_args");
    parse_quantity(cfg_getstr(cfg, "session_memory"), size_units, &config->session_memory);
    parse_quantity(cfg_getstr(cfg, "ping"), time_units, &ping_ms);
    config->ping_ms = (unsigned)ping_ms;
    parse_quantity(cfg_getstr(cfg, "grace"), time_units, &grace_ms);
    config->grace_ms = (unsigned)grace_ms;
    parse_quantity(cfg_getstr(cfg, "stall_timeout"), time_units, &stall_ms);
    config->stall_ms = (unsigned)stall_ms;
    parse_ports(cfg_getstr(cfg, "direct_ports"), &config->direct_first, &config->direct_last);
    config->direct_pki_dir = direct_pki_dir ? strdup(direct_pki_dir) : NULL;
    return config->listen && config->control_socket && config->pki_dir && config->run_dir &&
           config->state_dir && config->pool_dir && config->allowed_peers &&
           config->forward_allow && config->tap_allow && config->qemu_binary && config->qemu_args &&
           (config->direct_pki_dir || !direct_pki_dir);
}

/* Returns where the quoted string at TEXT has ended. */
static char *skip_string(char *text)
{
    char quote = *text++;

    while (*text && *text != quote)
        text += text[0] == '\\' && text[1] ? 2 : 1;
    return *text ? text + 1 : text;
}

/* Returns how long the comment at TEXT is, 0 when there is none. */
static size_t comment_length(const char *text)
{
    const char *end;

    if (text[0] == '#' || (text[0] == '/' && text[1] == '/'))
        return strcspn(text, "\n");
    if (text[0] != '/' || text[1] != '*')
        return 0;
    end = strstr(text + 2, "*/");
    return end ? (size_t)(end + 2 - text) : 0; /* without an end it is libconfuse's to complain */
}

/* Puts spaces in the place of all comments; lines stay lines. */
static void blank_comments(char *text)
{
    while (*text) {
        size_t length = comment_length(text);

        if (*text == '"' || *text == '\'')
            text = skip_string(text);
        else if (length == 0)
            text++;
        for (; length > 0; length--, text++)
            if (*text != '\n')
                *text = ' ';
    }
}

/* The file's text, malloc'ed; NULL with ERR. */
static char *read_text(const char *path, struct error *err)
{
    CLEANUP_FCLOSE FILE *file = fopen(path, "re");
    CLEANUP_FREE char *text = calloc(1, TEXT_MAX + 1);
    size_t length;

    if (!file || !text) {
        error_set_errno(err, errno, "can't read the configuration %s (--config names another file)",
                        path);
        return NULL;
    }
    length = fread(text, 1, TEXT_MAX, file);
    if (ferror(file)) {
        error_set_errno(err, errno, "can't read the configuration %s", path);
        return NULL;
    }
    if (length == TEXT_MAX || memchr(text, '\0', length)) {
        error_set(err, EINVAL, "can't read the configuration %s: it is no text", path);
        return NULL;
    }
    return take_ptr(text);
}

static struct config *read_config(cfg_t *cfg, const char *path, struct error *err)
{
    CLEANUP_FREE char *text = read_text(path, err);
    struct config *config;

    if (!text)
        return NULL;
    blank_comments(text);
    cfg_set_error_function(cfg, keep_error);
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
        cfg_set_validate_func(cfg, checks[i].key, checks[i].check);
    if (cfg_parse_buf(cfg, text) != CFG_SUCCESS) {
        if (!err->code)
            error_set(err, EINVAL, "%s:%d: this line can't be understood", path, cfg->line);
        return NULL;
    }
    config = calloc(1, sizeof *config);
    if (!config || !copy_config(cfg, config)) {
        error_set(err, ENOMEM, "can't read the configuration %s: memory is short", path);
        config_free(config);
        return NULL;
    }
    return config;
}

struct config *config_load(const char *path, struct error *err)
{
    char listen[] = "[::]:" NET_DEFAULT_PORT;
    char none[] = "{}";
    cfg_opt_t options[] = {
        CFG_STR("listen", listen, CFGF_NONE),
        CFG_STR("control_socket", "/run/bistream/bistreamd.sock", CFGF_NONE),
        CFG_STR("control_group", NULL, CFGF_NONE),
        CFG_STR("pki_dir", "/etc/pki/bistream", CFGF_NONE),
        CFG_STR("run_dir", "/run/bistream", CFGF_NONE),
        CFG_STR("state_dir", "/var/lib/bistream", CFGF_NONE),
        CFG_STR("pool_dir", "/var/lib/bistream/images", CFGF_NONE),
        CFG_STR_LIST("allowed_peers", none, CFGF_NONE),
        CFG_STR_LIST("forward_allow", none, CFGF_NONE),
        CFG_STR_LIST("tap_allow", none, CFGF_NONE),
        CFG_BOOL("offer_bistream", cfg_true, CFGF_NONE),
        CFG_STR("session_memory", "64M", CFGF_NONE),
        CFG_STR("ping", "5s", CFGF_NONE),
        CFG_STR("grace", "5m", CFGF_NONE),
        CFG_STR("stall_timeout", "10s", CFGF_NONE),
        CFG_STR("direct_ports", "49152-49215", CFGF_NONE),
        CFG_STR("direct_pki_dir", NULL, CFGF_NONE),
        CFG_STR("qemu_binary", "qemu-system-x86_64", CFGF_NONE),
        CFG_STR_LIST("qemu_args", none, CFGF_NONE),
        CFG_END(),
    };
    struct config *config = NULL;
    struct error ignored = ERROR_INIT;
    cfg_t *cfg;

    parse_path = path;
    parse_error = err ? err : &ignored;
    error_clear(parse_error);
    cfg = cfg_init(options, CFGF_NONE);
    if (cfg)
        config = read_config(cfg, path, parse_error);
    else
        error_set(parse_error, ENOMEM, "can't read the configuration %s: memory is short", path);
    cfg_free(cfg);
    parse_error = NULL;
    parse_path = NULL;
    return config;
}

static void free_list(char **list)
{
    for (char **item = list; item && *item; item++)
        free(*item);
    free(list);
}

void config_free(struct config *config)
{
    if (!config)
        return;
    free(config->listen);
    free(config->control_socket);
    free(config->control_group);
    free(config->pki_dir);
    free(config->run_dir);
    free(config->state_dir);
    free(config->pool_dir);
    free(config->direct_pki_dir);
    free_list(config->allowed_peers);
    free_list(config->forward_allow);
    free_list(config->tap_allow);
    free(config->qemu_binary);
    free_list(config->qemu_args);
    free(config);
}
