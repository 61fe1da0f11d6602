/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * AES-128-GCM with wide instructions.
 *
 * Processors of the last years encrypt four blocks with one instruction (VAES, VPCLMULQDQ on 512 bits).
 * OpenSSL does so from 3.1 on.  For those before it there is libipsec-mb, Intel's library of ciphers,
 * three times as fast then; and a bulk stream through TLS is encryption before all else.
 *
 * OpenSSL's own way to another implementation is a provider: a table of functions for one cipher, which
 * libssl prefers when it is asked to.  Handshake, keys, nonces and records stay OpenSSL's; what stands
 * here translates its calls (OSSL_FUNC_cipher_*, see provider-cipher(7)) into the library's.
 *
 * One message: init with the nonce; update without an output is what is authenticated only, and has to
 * come first, in one piece; update with one is data, in any pieces; final makes the tag, or compares it.
 */
#include "config.h"

#include "io/tls_gcm.h"

#include <stddef.h>

#ifdef HAVE_IPSEC_MB

#define NO_COMPAT_IMB_API_053 /* its old names are those of OpenSSL's */
#include <intel-ipsec-mb.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_SIZE = 16,
    NONCE_SIZE = 12,
    TAG_SIZE = 16,
    AAD_MAX = 64,
    GCM_MODE = 6 /* EVP_CIPH_GCM_MODE */
};

static IMB_MGR *library;

/* How far a message is. */
enum gcm_state {
    GCM_DONE,  /* no nonce: nothing may be encrypted */
    GCM_NONCE, /* the nonce is there */
    GCM_DATA,  /* and the library has begun */
};

struct gcm {
    _Alignas(64) struct gcm_key_data key; /* the library's own contexts are aligned so as well */
    struct gcm_context_data message;
    enum gcm_state state;
    bool encrypts, has_key, has_tag;
    uint8_t nonce[NONCE_SIZE], tag[TAG_SIZE], aad[AAD_MAX];
    size_t aad_length;
};

/* ---- one message ------------------------------------------------------------------------------ */

static void *gcm_new(void *provider)
{
    struct gcm *gcm = aligned_alloc(_Alignof(struct gcm), sizeof *gcm);

    (void)provider;
    if (gcm)
        memset(gcm, 0, sizeof *gcm);
    return gcm;
}

static void gcm_free(void *context)
{
    if (!context)
        return;
    OPENSSL_cleanse(context, sizeof(struct gcm));
    free(context);
}

static int init(struct gcm *gcm, const uint8_t *key, size_t key_length, const uint8_t *nonce,
                size_t nonce_length)
{
    if ((key && key_length != KEY_SIZE) || (nonce && nonce_length != NONCE_SIZE))
        return 0;
    if (key) {
        IMB_AES128_GCM_PRE(library, key, &gcm->key);
        gcm->has_key = true;
    }
    gcm->state = GCM_DONE;
    gcm->has_tag = false;
    gcm->aad_length = 0;
    if (nonce) {
        memcpy(gcm->nonce, nonce, NONCE_SIZE);
        gcm->state = GCM_NONCE;
    }
    return 1;
}

static int gcm_set(void *context, const OSSL_PARAM *params);

static int gcm_encrypt_init(void *context, const unsigned char *key, size_t key_length,
                            const unsigned char *nonce, size_t nonce_length,
                            const OSSL_PARAM *params)
{
    ((struct gcm *)context)->encrypts = true;
    return init(context, key, key_length, nonce, nonce_length) && gcm_set(context, params);
}

static int gcm_decrypt_init(void *context, const unsigned char *key, size_t key_length,
                            const unsigned char *nonce, size_t nonce_length,
                            const OSSL_PARAM *params)
{
    ((struct gcm *)context)->encrypts = false;
    return init(context, key, key_length, nonce, nonce_length) && gcm_set(context, params);
}

static int begin(struct gcm *gcm)
{
    if (gcm->state == GCM_DATA)
        return 1;
    if (gcm->state != GCM_NONCE || !gcm->has_key)
        return 0;
    IMB_AES128_GCM_INIT(library, &gcm->key, &gcm->message, gcm->nonce, gcm->aad, gcm->aad_length);
    gcm->state = GCM_DATA;
    return 1;
}

static int add_authenticated(struct gcm *gcm, const uint8_t *data, size_t length)
{
    if (gcm->state != GCM_NONCE || length > AAD_MAX - gcm->aad_length)
        return 0;
    memcpy(gcm->aad + gcm->aad_length, data, length);
    gcm->aad_length += length;
    return 1;
}

static int gcm_update(void *context, unsigned char *out, size_t *ret_length, size_t size,
                      const unsigned char *in, size_t length)
{
    struct gcm *gcm = context;

    *ret_length = length;
    if (length == 0)
        return 1;
    if (!out)
        return add_authenticated(gcm, in, length);
    if (size < length || !begin(gcm))
        return 0;
    if (gcm->encrypts)
        IMB_AES128_GCM_ENC_UPDATE(library, &gcm->key, &gcm->message, out, in, length);
    else
        IMB_AES128_GCM_DEC_UPDATE(library, &gcm->key, &gcm->message, out, in, length);
    return 1;
}

static int gcm_final(void *context, unsigned char *out, size_t *ret_length, size_t size)
{
    struct gcm *gcm = context;
    uint8_t tag[TAG_SIZE];

    (void)out, (void)size;
    *ret_length = 0;
    if (!begin(gcm))
        return 0;
    gcm->state = GCM_DONE; /* a nonce is good for one message */
    if (gcm->encrypts) {
        IMB_AES128_GCM_ENC_FINALIZE(library, &gcm->key, &gcm->message, gcm->tag, TAG_SIZE);
        gcm->has_tag = true;
        return 1;
    }
    IMB_AES128_GCM_DEC_FINALIZE(library, &gcm->key, &gcm->message, tag, TAG_SIZE);
    return gcm->has_tag && CRYPTO_memcmp(tag, gcm->tag, TAG_SIZE) == 0;
}

/* ---- its parameters --------------------------------------------------------------------------- */

/* Sets the parameter NAME if it was asked for. */
static int put_size(OSSL_PARAM params[], const char *name, size_t value)
{
    OSSL_PARAM *param = OSSL_PARAM_locate(params, name);

    return !param || OSSL_PARAM_set_size_t(param, value);
}

static int put_flag(OSSL_PARAM params[], const char *name)
{
    OSSL_PARAM *param = OSSL_PARAM_locate(params, name);

    return !param || OSSL_PARAM_set_int(param, 1);
}

/* What is true of the cipher. */
static int gcm_describe(OSSL_PARAM params[])
{
    OSSL_PARAM *mode = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_MODE);

    return (!mode || OSSL_PARAM_set_uint(mode, GCM_MODE)) &&
           put_flag(params, OSSL_CIPHER_PARAM_AEAD) &&
           put_flag(params, OSSL_CIPHER_PARAM_CUSTOM_IV) &&
           put_size(params, OSSL_CIPHER_PARAM_KEYLEN, KEY_SIZE) &&
           put_size(params, OSSL_CIPHER_PARAM_IVLEN, NONCE_SIZE) &&
           put_size(params, OSSL_CIPHER_PARAM_BLOCK_SIZE, 1);
}

/* What is true of one message. */
static int gcm_get(void *context, OSSL_PARAM params[])
{
    struct gcm *gcm = context;
    OSSL_PARAM *tag = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_AEAD_TAG);

    if (tag && (!gcm->encrypts || !gcm->has_tag || tag->data_size > TAG_SIZE ||
                !OSSL_PARAM_set_octet_string(tag, gcm->tag, tag->data_size)))
        return 0;
    return put_size(params, OSSL_CIPHER_PARAM_KEYLEN, KEY_SIZE) &&
           put_size(params, OSSL_CIPHER_PARAM_IVLEN, NONCE_SIZE) &&
           put_size(params, OSSL_CIPHER_PARAM_AEAD_TAGLEN, TAG_SIZE);
}

/* Refuses every other length of the nonce, and tags that are cut short. */
static int gcm_set(void *context, const OSSL_PARAM params[])
{
    struct gcm *gcm = context;
    const OSSL_PARAM *tag =
        params ? OSSL_PARAM_locate_const(params, OSSL_CIPHER_PARAM_AEAD_TAG) : NULL;
    const OSSL_PARAM *length =
        params ? OSSL_PARAM_locate_const(params, OSSL_CIPHER_PARAM_IVLEN) : NULL;
    size_t nonce_length;

    if (length && (!OSSL_PARAM_get_size_t(length, &nonce_length) || nonce_length != NONCE_SIZE))
        return 0;
    if (!tag)
        return 1;
    if (tag->data_type != OSSL_PARAM_OCTET_STRING || tag->data_size != TAG_SIZE)
        return 0;
    if (!tag->data) /* only the length is said */
        return 1;
    if (gcm->encrypts)
        return 0;
    memcpy(gcm->tag, tag->data, TAG_SIZE);
    gcm->has_tag = true;
    return 1;
}

static const OSSL_PARAM *gcm_gettable(void *context, void *provider)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_KEYLEN, NULL),
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, NULL),
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_AEAD_TAGLEN, NULL),
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, NULL, 0),
        OSSL_PARAM_END,
    };

    (void)context, (void)provider;
    return params;
}

static const OSSL_PARAM *gcm_settable(void *context, void *provider)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, NULL),
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, NULL, 0),
        OSSL_PARAM_END,
    };

    (void)context, (void)provider;
    return params;
}

/* ---- the provider ----------------------------------------------------------------------------- */

#define PROVIDER "bistream"

static const OSSL_DISPATCH gcm_functions[] = {
    {OSSL_FUNC_CIPHER_NEWCTX, (void (*)(void))gcm_new},
    {OSSL_FUNC_CIPHER_FREECTX, (void (*)(void))gcm_free},
    {OSSL_FUNC_CIPHER_ENCRYPT_INIT, (void (*)(void))gcm_encrypt_init},
    {OSSL_FUNC_CIPHER_DECRYPT_INIT, (void (*)(void))gcm_decrypt_init},
    {OSSL_FUNC_CIPHER_UPDATE, (void (*)(void))gcm_update},
    {OSSL_FUNC_CIPHER_FINAL, (void (*)(void))gcm_final},
    {OSSL_FUNC_CIPHER_GET_PARAMS, (void (*)(void))gcm_describe},
    {OSSL_FUNC_CIPHER_GET_CTX_PARAMS, (void (*)(void))gcm_get},
    {OSSL_FUNC_CIPHER_SET_CTX_PARAMS, (void (*)(void))gcm_set},
    {OSSL_FUNC_CIPHER_GETTABLE_CTX_PARAMS, (void (*)(void))gcm_gettable},
    {OSSL_FUNC_CIPHER_SETTABLE_CTX_PARAMS, (void (*)(void))gcm_settable},
    {0, NULL},
};

static const OSSL_ALGORITHM *provider_query(void *provider, int operation, int *ret_no_cache)
{
    static const OSSL_ALGORITHM ciphers[] = {
        {"AES-128-GCM:id-aes128-GCM:2.16.840.1.101.3.4.1.6", "provider=" PROVIDER, gcm_functions,
         NULL},
        {NULL, NULL, NULL, NULL},
    };

    (void)provider;
    *ret_no_cache = 0;
    return operation == OSSL_OP_CIPHER ? ciphers : NULL;
}

static void provider_teardown(void *provider)
{
    (void)provider;
    free_mb_mgr(library);
    library = NULL;
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                         const OSSL_DISPATCH **ret_out, void **ret_provider)
{
    static const OSSL_DISPATCH functions[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))provider_query},
        {OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))provider_teardown},
        {0, NULL},
    };

    (void)in;
    *ret_out = functions;
    *ret_provider = (void *)handle;
    return 1;
}

/* Whether the library is worth it here. */
static bool is_wide(const IMB_MGR *manager)
{
    const uint64_t needed = IMB_FEATURE_AVX512_SKX | IMB_FEATURE_VAES | IMB_FEATURE_VPCLMULQDQ;

    return (manager->features & needed) == needed;
}

static OSSL_PROVIDER *loaded;
static pthread_once_t load_once = PTHREAD_ONCE_INIT;

static void unload(void)
{
    OSSL_PROVIDER_unload(loaded);
    loaded = NULL;
}

static void load(void)
{
    if (OPENSSL_version_major() > 3 || OPENSSL_version_minor() > 0)
        return;
    library = alloc_mb_mgr(0);
    if (!library)
        return;
    init_mb_mgr_auto(library, NULL);
    if (is_wide(library) && OSSL_PROVIDER_add_builtin(NULL, PROVIDER, provider_init))
        loaded = OSSL_PROVIDER_try_load(NULL, PROVIDER, 1); /* 1: the default one stays */
    if (loaded) {
        OPENSSL_atexit(unload);
    } else {
        free_mb_mgr(library);
        library = NULL;
    }
}

const char *tls_gcm_properties(void)
{
    pthread_once(&load_once, load);
    return loaded ? "?provider=" PROVIDER : NULL;
}

#else

const char *tls_gcm_properties(void)
{
    return NULL;
}

#endif
